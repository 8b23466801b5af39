"""The sessions of a node: one per peer, dialled once however many ask, bounded in number.

Everything that reaches another node goes through `Peers.request`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import replace
from typing import Protocol, TypeVar

from ..channel.handshake import Handshake, HandshakeParams, PeerHello
from ..errors import (
    Closed,
    DialHeldBack,
    HandshakeFailed,
    PeerTimeout,
    PeerUnreachable,
    RemoteError,
)
from ..identity.contact import VerifiedContact
from ..ids import NodeId
from ..transport.base import Link, LinkHandler
from ..trust.admission import CostLimiter, CountLimiter, DialLimiter
from ..trust.modes import Mode
from ..wire.address import Address
from ..wire.messages import EARLY_TYPES, Body, MessageType, message_type
from .connection import Connection
from .doorway import Doorway
from .environment import Environment
from .exchange import Answer, Question, Reply
from .signing import MessageSigner, MessageVerifier
from .timeouts import RoundTrips

COSTS: dict[int, float] = {
    MessageType.PING: 1.0,
    MessageType.FIND_NODE: 1.5,
    MessageType.FIND_VALUE: 2.0,
    MessageType.STORE: 8.0,
    MessageType.REPORT: 16.0,
}
"""CPU-cost units of a request: about one signature check each; STORE checks records and commits."""
OTHER_COST = 1.0
HANDSHAKE_COST = 4.0
SWEEP_S = 15.0
REMEMBERED = 8192
"""KEM keys, and addresses where a node was reached."""

_log = logging.getLogger(__name__)

Dial = tuple[NodeId, tuple[Address, ...]]
"""Whom and where: askers who were told other addresses must not share a liar's dial."""
K = TypeVar("K")
V = TypeVar("V")


class Listener(Protocol):
    """Who wants to know what happens on the sessions: the node's routing and its handlers."""

    def peer_proven(self, conn: Connection) -> None: ...
    def peer_heard(self, conn: Connection) -> None: ...
    def peer_failed(self, contact: VerifiedContact, error: RemoteError) -> None:
        """A question to this contact failed; an address somebody else named says nothing of the node."""
        ...

    def is_wanted(self, node_id: NodeId) -> bool:
        """Whether the session should be kept while idle (table and pinned peers)."""
        ...

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None: ...


class _Refused:
    """Handles a link that was turned away."""

    def data_received(self, data: bytes) -> None: ...
    def connection_lost(self, error: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Peers:
    """The `Host` of every connection."""

    def __init__(self, env: Environment, listener: Listener) -> None:
        limits = env.params.limits
        self.env = env
        self.signer = MessageSigner(env)
        self.verifier = MessageVerifier(env)
        self.round_trips = RoundTrips(env.config.request_timeout_s)
        self.sessions: OrderedDict[NodeId, Connection] = OrderedDict()
        self._listener = listener
        self._dialing: dict[Dial, asyncio.Future[Connection]] = {}
        self._all: dict[Connection, None] = {}
        self._kem_keys: OrderedDict[bytes, tuple[NodeId, bytes]] = OrderedDict()
        """H(KEM key) -> (its node, the key), of completed handshakes"""
        self._reached: OrderedDict[tuple[NodeId, Address], None] = OrderedDict()
        """Where a node answered as itself: dials there are nobody's aim at a victim."""
        self._params = HandshakeParams(
            suite=env.suite,
            network_tag=env.network_tag,
            identity=env.identity,
            verifier=env.contacts,
            bridge=env.config.bridge,
        )
        groups = env.params.address_groups
        mode = Mode.ENFORCE if groups else Mode.OFF
        self._inbound = CountLimiter(
            limits.sessions_per_group if groups else limits.sessions_total, limits.sessions_total
        )
        self._doorway = Doorway(env)
        self._half_open = self._doorway.half_open
        self._group_cost = CostLimiter(limits.group_cost_per_s, limits.group_cost_burst, mode=mode)
        self._node_cost = CostLimiter(limits.request_cost_per_s, limits.request_cost_burst)
        self._dials = DialLimiter(mode=mode)
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_closed = False

    # --- asking --------------------------------------------------------------------------------

    async def request(self, to: VerifiedContact, body: Body, timeout_s: float | None = None) -> Answer:
        """Ask a peer, over its session or a new one.

        Raises PeerUnreachable, PeerTimeout, PeerIdentityMismatch, PeerError (the peer refused) or
        another RemoteError (the peer broke a rule).
        """
        if self._is_closed:
            raise Closed("this node is closed")
        conn = self._session(to.node_id)
        try:
            if conn is not None:
                return await self.request_over(conn, body, timeout_s)
            question = self._question(body, timeout_s or self.env.config.request_timeout_s)
            await self._connect_and_ask(to, question)
            return self._measured(await question.future)
        except RemoteError as e:
            self._listener.peer_failed(to, e)
            raise

    async def request_over(self, conn: Connection, body: Body, timeout_s: float | None = None) -> Answer:
        """Ask over this very connection, never dialling."""
        assert conn.peer is not None
        question = self._question(body, timeout_s or self.round_trips.timeout(conn.peer.node_id))
        conn.exchange.ask(question)
        return self._measured(await question.future)

    @staticmethod
    def _question(body: Body, timeout_s: float) -> Question:
        return Question(body, asyncio.get_running_loop().create_future(), timeout_s)

    def _measured(self, answer: Answer) -> Answer:
        self.round_trips.measured(answer.node_id, answer.rtt_s)
        return answer

    async def _connect_and_ask(self, to: VerifiedContact, question: Question) -> None:
        dial: Dial = (to.node_id, to.addresses)
        dialing = self._dialing.get(dial)
        early: Question | None = None
        if dialing is None:
            if self.env.config.early == "reads" and message_type(question.body) in EARLY_TYPES:
                early = question
            dialing = asyncio.ensure_future(self._dial(to, early))
            self._dialing[dial] = dialing
            dialing.add_done_callback(lambda f: self._dialed(dial, f))
        try:
            conn = await asyncio.shield(dialing)
        except asyncio.CancelledError:
            if dialing.cancelled():
                raise Closed("this node was closed") from None
            raise
        if early is None:
            conn.exchange.ask(question)

    def _dialed(self, dial: Dial, dialing: asyncio.Future[Connection]) -> None:
        self._dialing.pop(dial, None)
        if not dialing.cancelled():
            dialing.exception()  # whoever waits has it too; nobody waiting is no error

    async def connect_address(self, node_id: NodeId, address: Address) -> Connection:
        """Join through a bare `<node id>@address`: pqXX, as the KEM key is not known yet."""
        conn = self._session(node_id)
        if conn is not None:
            return conn
        return await self._dial_address(node_id, address, None, None)

    def _session(self, node_id: NodeId) -> Connection | None:
        conn = self.sessions.get(node_id)
        if conn is not None:
            self.sessions.move_to_end(node_id)
        return conn

    async def _dial(self, to: VerifiedContact, early: Question | None) -> Connection:
        kem_key = to.kem_key or self.kem_key(to.contact.kem_key_hash)
        error: RemoteError = PeerUnreachable("the contact has no address we can dial", node=to.node_id.hex())
        addresses = [a for a in to.addresses if a.scheme in self.env.transports]
        for address in addresses:
            try:
                return await self._dial_address(to.node_id, address, kem_key, early)
            except RemoteError as e:
                _log.info("%s not reached at %s: %s", to.node_id.hex(), address, e)
                error = e
            if early is not None and early.future.done():
                break
        if early is not None:
            early.fail(error)
        raise error

    async def _dial_address(
        self, node_id: NodeId, address: Address, kem_key: bytes | None, early: Question | None
    ) -> Connection:
        loop = asyncio.get_running_loop()
        handshake = Handshake.initiate(
            self._params, expected=node_id, kem_key=kem_key, observed=str(address), now=self.env.clock()
        )
        verified = (node_id, address) in self._reached
        if wait := self._dials.begin(address.group, loop.time(), verified=verified):
            self.env.counters["dials_held_back"] += 1
            raise DialHeldBack("too many dials to this address group", address=str(address), retry_s=wait)
        made: list[Connection] = []

        def accept(link: Link) -> LinkHandler:
            conn = Connection(self, link, handshake, early)
            self._all[conn] = None
            made.append(conn)
            return conn

        ok = False
        try:
            self.env.counters["dials"] += 1
            transport = self.env.transports[address.scheme]
            await transport.dial(address, accept, self.env.config.dial_timeout_s)
            conn = made[0]
            conn.start()
            await conn.opened
            ok = True
            self._remember(self._reached, (node_id, address), None)
            return conn
        except TimeoutError:
            raise PeerTimeout("no connection in time", address=str(address)) from None
        finally:
            self._dials.end(address.group, loop.time(), ok=ok)

    # --- listening -----------------------------------------------------------------------------

    def set_addresses(self, addresses: tuple[str, ...]) -> None:
        """What our Hello says from now on."""
        self._params = replace(self._params, addresses=addresses)

    async def listen(self, address: Address) -> Address:
        """Accept sessions. Raises ListenError."""
        return await self.env.transports[address.scheme].listen(address, self._accept, self._doorway.admits)

    def _accept(self, link: Link) -> LinkHandler:
        now = asyncio.get_running_loop().time()
        group = link.remote.group
        refused = ""
        if self._is_closed:
            refused = "closed"
        elif self._group_cost.spend(group, HANDSHAKE_COST, now):
            refused = "cost"
        elif self._inbound.is_group_full(group):
            refused = "sessions"
        if refused:
            self._refused(link, refused)
            link.abort()
            return _Refused()
        conn = Connection(self, link, self._respond(link))
        self._all[conn] = None
        self._doorway.enter(conn)
        return conn

    def _respond(self, link: Link) -> Handshake:
        gate, now = self._doorway.gate(link), self.env.clock()
        return Handshake.respond(self._params, observed=str(link.remote), now=now, gate=gate)

    def _refused(self, link: Link, limit: str) -> None:
        self.env.counters[f"links_refused.{limit}"] += 1
        _log.info("link from %s refused: %s", link.remote, limit)

    def _take_place(self, group: str) -> bool:
        """A place for an inbound session.  Where all are taken, the session that nobody wants and that
        was silent longest gives up its own."""
        if self._inbound.is_full and not self._inbound.is_group_full(group):
            guests = [c for c in self._all if c.is_admitted and not c.exchange.in_use]
            guests = [c for c in guests if not self._is_wanted(c)]
            if guests:
                guest = min(guests, key=lambda c: c.last_heard)
                self._leave_place(guest)
                guest.close()
        return self._inbound.acquire(group)

    def _leave_place(self, conn: Connection) -> None:
        if conn.is_admitted:
            conn.is_admitted = False
            self._inbound.release(conn.group)

    def _is_wanted(self, conn: Connection) -> bool:
        """Whether it is the current session with a peer that the table holds."""
        peer = conn.peer
        if peer is None or self.sessions.get(peer.node_id) is not conn:
            return False
        return self._listener.is_wanted(peer.node_id)

    # --- Host ----------------------------------------------------------------------------------

    def keyed(self, conn: Connection) -> None:
        peer = conn.peer
        assert peer is not None
        self._doorway.opened(conn)
        if not conn.outbound:
            if not self._take_place(conn.group):
                self._refused(conn.link, "sessions")
                conn.close()
                return
            conn.is_admitted = True
        owner, _ = self._kem_keys.get(peer.contact.kem_key_hash, (peer.node_id, b""))
        if owner != peer.node_id:
            conn.fail(HandshakeFailed("this KEM key belongs to another node id", reason="shared key"))
            return
        self._remember_key(peer)
        if conn.outbound:
            self._adopt(conn)

    def outworn(self, conn: Connection) -> None:
        if conn.peer is not None and self.sessions.get(conn.peer.node_id) is conn:
            del self.sessions[conn.peer.node_id]  # the next question dials anew
        conn.retire()

    def proven(self, conn: Connection) -> None:
        assert conn.peer is not None
        if not conn.outbound:
            self._adopt(conn)
        if not conn.is_closed:
            self._listener.peer_proven(conn)

    def _adopt(self, conn: Connection) -> None:
        """Of two sessions with one peer, that whose initiator has the smaller node id stays."""
        assert conn.peer is not None
        node_id = conn.peer.node_id
        current = self.sessions.get(node_id)
        if current is conn:
            return
        if current is not None and not current.is_closed:
            ours_smaller = self.env.identity.node_id < node_id
            if conn.outbound != current.outbound and conn.outbound != ours_smaller:
                conn.retire()
                return
            current.retire()
        self.sessions[node_id] = conn
        self._shrink()

    def _shrink(self) -> None:
        if len(self.sessions) <= self.env.config.max_sessions:
            return
        for node_id, conn in self.sessions.items():
            if not conn.exchange.in_use and not self._listener.is_wanted(node_id):
                conn.close()
                return

    def heard(self, conn: Connection) -> None:
        if conn.is_proven:
            self._listener.peer_heard(conn)

    def buffered(self, conn: Connection, size: int) -> None:
        self._doorway.buffered(conn, size)

    def wait(self, conn: Connection) -> None:
        self._doorway.wait(conn)

    def closed(self, conn: Connection, error: Exception | None) -> None:
        self._doorway.failed(conn)
        if conn.peer is not None and self.sessions.get(conn.peer.node_id) is conn:
            del self.sessions[conn.peer.node_id]
            if self._listener.is_wanted(conn.peer.node_id):
                self._doorway.remember(conn.link.remote.host)

    def gone(self, conn: Connection) -> None:
        self._all.pop(conn, None)
        self._doorway.gone(conn)
        self._leave_place(conn)

    def admit(self, conn: Connection, message_type: int) -> int:
        now = asyncio.get_running_loop().time()
        cost = COSTS.get(message_type, OTHER_COST)
        wait = self._group_cost.spend(conn.group, cost, now)
        if not wait and conn.peer is not None:
            wait = self._node_cost.spend(conn.peer.node_id, cost, now)
        if wait:
            self.env.counters["requests_refused_busy"] += 1
        return int(wait * 1000) + 1 if wait else 0

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        self.env.counters["requests_served"] += 1
        self._listener.serve(conn, body, reply)

    # --- keys and housekeeping -----------------------------------------------------------------

    def _remember_key(self, peer: PeerHello) -> None:
        self._remember(self._kem_keys, peer.contact.kem_key_hash, (peer.node_id, peer.kem_key))

    @staticmethod
    def _remember(kept: OrderedDict[K, V], key: K, value: V) -> None:
        kept[key] = value
        kept.move_to_end(key)
        if len(kept) > REMEMBERED:
            kept.popitem(last=False)

    def kem_key(self, kem_key_hash: bytes) -> bytes | None:
        """A KEM key proven in an earlier session."""
        known = self._kem_keys.get(kem_key_hash)
        return known[1] if known is not None else None

    def start(self) -> None:
        """Begin sweeping idle sessions and keeping wanted ones alive."""
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        config = self.env.config
        for conn in list(self._all):
            if self._is_wanted(conn):
                self._doorway.remember(conn.link.remote.host)
                if now - conn.last_sent >= config.keepalive_s:
                    conn.keepalive()
                if now - conn.last_heard >= 2.5 * config.keepalive_s:
                    conn.close()
                continue
            idle_s = now - max(conn.last_heard, conn.last_sent)
            if conn.peer is not None and not conn.exchange.in_use and idle_s >= config.session_idle_s:
                conn.close()  # a replaced, never proven or no longer wanted session
        self._sweeper = loop.call_later(SWEEP_S, self._sweep)

    async def close(self) -> None:
        """Close every session and transport."""
        self._is_closed = True
        self._doorway.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        dialing = list(self._dialing.values())
        for under_way in dialing:
            under_way.cancel()
        await asyncio.gather(*dialing, return_exceptions=True)
        for conn in list(self._all):
            conn.close()
        for transport in self.env.transports.values():
            await transport.close()
