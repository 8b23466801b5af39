"""How a node gets in: remembered peers and bootstrap entries, then its own neighbourhood."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from ..errors import PqdhtError
from ..identity.contact import VerifiedContact
from ..ids import NodeId
from ..kad.lookup import Candidate
from ..trust.eclipse import disagreement
from ..trust.events import EventKind
from ..trust.modes import Mode
from ..wire.address import Address
from ..wire.messages import FindNode
from .environment import Environment, split_bootstrap
from .exchange import Answer
from .guard import Guard
from .lookups import Lookups
from .peers import Peers
from .routing import Routing

Attempt = Callable[[], Coroutine[Any, Any, None]]
"""One way in, not begun yet."""

_log = logging.getLogger(__name__)

RETRY_FIRST_S = 0.5
RETRY_MOST_S = 60.0
REJOIN_S = 300.0
"""How often bootstrap entries outside the table are greeted: after a long partition each side has
dropped the other, and only they can bring the two together again."""
FIRST_WALKS = 2
"""Random walks right after joining, to fill the table outside our own vicinity."""

HINTS_MOST = 64
GENTLY = 1
"""Questions in flight per path of these walks (twice as many where they take dials)."""


class Entrance:
    """`is_open` is set once the node has peers (at once for the first node of a network)."""

    def __init__(
        self, env: Environment, peers: Peers, routing: Routing, lookups: Lookups, guard: Guard
    ) -> None:
        self._guard = guard
        self.is_open = asyncio.Event()
        self._env = env
        self._peers = peers
        self._routing = routing
        self._lookups = lookups
        self._views: dict[str, list[bytes]] = {}
        """What each entry named when it was greeted last."""
        self._hints: list[Candidate[VerifiedContact]] = []
        """Neighbours that the first answers named: where the look around begins."""

    async def join(self) -> None:
        """Try remembered peers and bootstrap entries until somebody answers; come back if all go."""
        delay = RETRY_FIRST_S
        while not await self._enter():
            await asyncio.sleep(delay * self._env.dice.uniform(0.8, 1.2))
            delay = min(RETRY_MOST_S, 2 * delay)
        waited = 0.0
        while True:
            pause = RETRY_MOST_S * self._env.dice.uniform(0.8, 1.2)
            await asyncio.sleep(pause)
            waited += pause
            if not len(self._routing.table):
                await self._attempt(self._tries())
            elif waited >= REJOIN_S:
                waited = 0.0
                await self._rejoin()

    async def _enter(self) -> bool:
        """Ask all at once and go on with the first answer, whoever else is silent. Whether we are in."""
        async with asyncio.TaskGroup() as group:
            waiting = {group.create_task(self._attempt([attempt])) for attempt in self._tries()}
            while waiting and not len(self._routing.table):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not len(self._routing.table):
                if self._env.config.entries:
                    return False
                self.is_open.set()
                return True
            self.is_open.set()
            _log.info("joined: %d peers so far", len(self._routing.table))
            await self._explore()
        return True

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
            for entry in self._env.config.entries
            if (node_id := split_bootstrap(entry)[0]) != table.own and node_id not in table
        ]
        if await self._attempt([partial(self._greet, entry) for entry in lacking]):
            self._env.counters["rejoined"] += 1
            await self._explore()

    def _tries(self) -> list[Attempt]:
        """Every way in: the best of the remembered peers (of equal ones any), and the bootstrap entries."""
        known = [contact for contact in self._routing.load() if contact.node_id not in self._guard.held]
        self._env.dice.shuffle(known)
        known.sort(key=lambda contact: -self._guard.rank(contact.node_id))
        tries: list[Attempt] = [partial(self._meet_again, contact) for contact in known[: self._env.params.k]]
        return tries + [partial(self._greet, entry) for entry in self._env.config.entries]

    async def _meet_again(self, contact: VerifiedContact) -> None:
        self._note_neighbours(await self._peers.request(contact, self._about_us()))

    def _about_us(self) -> FindNode:
        """What is asked first: who our neighbours are. It travels in the handshake as a PING would."""
        return FindNode(self._env.identity.node_id)

    def _note_neighbours(self, answer: Answer) -> list[bytes]:
        """Take the neighbours that an answer names for later; their ids."""
        named = self._routing.candidates(answer)
        self._hints += named
        del self._hints[:-HINTS_MOST]
        return [c.node_id for c in named]

    def _compare(self, entry: str, named: list[bytes]) -> None:
        """Entries that name quite other neighbours than the rest: one of the views is made up."""
        self._views[entry] = named
        figures = disagreement(self._views)
        if figures is not None and self._env.mode("walk_check") is not Mode.OFF:
            self._guard.report(EventKind.ECLIPSE_ALARM, "walk_check", **figures)

    async def _attempt(self, tries: list[Attempt]) -> bool:
        """All at once; whether one of them succeeded."""
        succeeded = False
        for outcome in await asyncio.gather(*(attempt() for attempt in tries), return_exceptions=True):
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
            answer = await self._peers.ask_address(NodeId(node_id), address, self._about_us())
            self._compare(entry, self._note_neighbours(answer))
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
        """Our neighbourhood and walks elsewhere, one after the other and few questions at a time: a first
        GET, which is likely under way by now, goes before."""
        end = self._env.config.path_end
        hints, self._hints = self._hints, []
        try:
            await self._lookups.find(self._env.identity.node_id, end=end, hints=hints, parallel=GENTLY)
            for _ in range(FIRST_WALKS):
                target = self._env.dice.randbytes(32)
                await self._lookups.find(target, end=end, is_sample=True, parallel=GENTLY)
        except PqdhtError as e:
            _log.info("the first look around failed: %s", e)
            self._env.counters["explorations_failed"] += 1
        await self._remember()
