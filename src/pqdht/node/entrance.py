"""How a node gets in: remembered peers and bootstrap entries, then its own neighbourhood."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from ..errors import PqdhtError
from ..identity.contact import VerifiedContact
from ..ids import NodeId
from ..wire.address import Address
from ..wire.messages import Ping
from .environment import Environment, split_bootstrap
from .lookups import Lookups
from .peers import Peers
from .routing import Routing

_log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.5
RETRY_MOST_S = 60.0
REJOIN_S = 300.0
"""How often bootstrap entries outside the table are greeted: after a long partition each side has
dropped the other, and only they can bring the two together again."""
FIRST_WALKS = 2
"""Random walks right after joining, to fill the table outside our own vicinity."""


class Entrance:
    """`is_open` is set once the node has peers (at once for the first node of a network)."""

    def __init__(self, env: Environment, peers: Peers, routing: Routing, lookups: Lookups) -> None:
        self.is_open = asyncio.Event()
        self._env = env
        self._peers = peers
        self._routing = routing
        self._lookups = lookups

    async def join(self) -> None:
        """Try remembered peers and bootstrap entries until somebody answers; come back if all go."""
        delay = RETRY_FIRST_S
        while True:
            await self._try_all()
            if len(self._routing.table) or not self._env.config.bootstrap:
                break
            await asyncio.sleep(delay * self._env.dice.uniform(0.8, 1.2))
            delay = min(RETRY_MOST_S, 2 * delay)
        self.is_open.set()
        if len(self._routing.table):
            _log.info("joined: %d peers so far", len(self._routing.table))
            await self._explore()
        waited = 0.0
        while True:
            pause = RETRY_MOST_S * self._env.dice.uniform(0.8, 1.2)
            await asyncio.sleep(pause)
            waited += pause
            if not len(self._routing.table):
                await self._try_all()
            elif waited >= REJOIN_S:
                waited = 0.0
                await self._rejoin()

    async def _remember(self) -> None:
        """At once: who is killed in the first minute should not have to begin anew."""
        try:
            await self._routing.save()
        except PqdhtError:
            self._env.counters["contacts_not_saved"] += 1

    async def _rejoin(self) -> None:
        """Greet the bootstrap entries that the table lacks; if one answers, look around again."""
        table = self._routing.table
        lacking = [
            entry
            for entry in self._env.config.bootstrap
            if (node_id := split_bootstrap(entry)[0]) != table.own and node_id not in table
        ]
        if await self._attempt([self._greet(entry) for entry in lacking]):
            self._env.counters["rejoined"] += 1
            await self._explore()

    async def _try_all(self) -> None:
        known = self._routing.load()
        self._env.dice.shuffle(known)
        tries: list[Coroutine[Any, Any, object]] = [
            self._peers.request(contact, Ping()) for contact in known[: self._env.params.k]
        ]
        tries += [self._greet(entry) for entry in self._env.config.bootstrap]
        await self._attempt(tries)

    async def _attempt(self, tries: list[Coroutine[Any, Any, object]]) -> bool:
        """All at once; whether one of them succeeded."""
        succeeded = False
        for outcome in await asyncio.gather(*tries, return_exceptions=True):
            if isinstance(outcome, PqdhtError):
                self._env.counters["join_attempts_failed"] += 1
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                succeeded = True
        return succeeded

    async def _greet(self, entry: str) -> None:
        node_id, address = split_bootstrap(entry)
        if node_id == self._env.identity.node_id:
            return
        errors = self._env.join_errors
        try:
            await self._peers.request(await self.reach(node_id, address), Ping())
        except PqdhtError as e:
            if errors.get(entry) != str(e):  # once, not at every retry
                _log.warning("cannot join through %s: %s", entry, e)
            errors[entry] = str(e)
            raise
        errors.pop(entry, None)

    async def reach(self, node_id: bytes, address: Address) -> VerifiedContact:
        """The contact behind a bare `<node id>@address`, by a handshake. Raises PeerUnreachable,
        PeerIdentityMismatch."""
        conn = await self._peers.connect_address(NodeId(node_id), address)
        contact = self._routing.contact_of(conn)
        return contact if contact.addresses else contact.with_addresses([str(address)])

    async def _explore(self) -> None:
        end = self._env.config.path_end
        try:
            await self._lookups.find(self._env.identity.node_id, end=end)
            for _ in range(FIRST_WALKS):
                await self._lookups.find(self._env.dice.randbytes(32), end=end, is_sample=True)
        except PqdhtError as e:
            _log.info("the first look around failed: %s", e)
            self._env.counters["explorations_failed"] += 1
        await self._remember()
