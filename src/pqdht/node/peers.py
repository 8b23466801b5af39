"""The sessions of a node: one per peer, dialled once however many ask, bounded in number.

Everything that reaches another node goes through `Peers.request`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import replace
from typing import Protocol

from ..channel.handshake import Handshake, HandshakeParams
from ..errors import (
    Closed,
    DecodeError,
    DialHeldBack,
    HandshakeFailed,
    PeerTimeout,
    PeerUnreachable,
    RemoteError,
)
from ..identity.contact import VerifiedContact
from ..ids import NodeId
from ..transport.base import Link, LinkHandler
from ..trust.admission import DialLimiter
from ..trust.modes import Mode
from ..wire.address import Address
from ..wire.messages import Body, WireRecord
from .connection import Connection
from .doorway import Doorway
from .environment import Environment
from .exchange import Answer, Question, Reply
from .guard import Guard
from .keyring import KeyRing, Recent
from .places import Places
from .signing import MessageSigner, MessageVerifier
from .timeouts import DIAL_TRIPS, RoundTrips, Silent
from .tolls import Tolls

SWEEP_S = 15.0
SILENT_KEEPALIVES = 2.5
"""A session is given up after silence of this many intervals of keep-alives."""

_log = logging.getLogger(__name__)

Dial = tuple[NodeId, tuple[Address, ...]]
"""Whom and where: askers who were told other addresses must not share a liar's dial."""


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

    def __init__(self, env: Environment, listener: Listener, guard: Guard) -> None:
        self.env = env
        self.signer = MessageSigner(env)
        self.verifier = MessageVerifier(env)
        self.round_trips = RoundTrips(env.config.request_timeout_s)
        self.sessions: OrderedDict[NodeId, Connection] = OrderedDict()
        self.guard = guard
        self._listener = listener
        self._dialing: dict[Dial, asyncio.Future[Connection]] = {}
        self._all: dict[Connection, None] = {}
        self.keys = KeyRing()
        self._reached: Recent[tuple[NodeId, Address], None] = Recent()
        """Where a node answered as itself: dials there are nobody's aim at a victim."""
        self._silent = Silent()
        self._heard_at = 0.0
        """When anybody answered last, in the event loop's seconds."""
        self._params = HandshakeParams(
            suite=env.suite,
            network_tag=env.network_tag,
            identity=env.identity,
            verifier=env.contacts,
            versions=env.messages.versions,
            bridge=env.config.bridge,
            held_key=self.keys.signing.get,
            renew_after_ms=int(env.config.renew_interval_s * 1000),
        )
        self._inbound = Places(env, self._is_wanted)
        self._doorway = Doorway(env)
        self._half_open = self._doorway.half_open
        self._tolls = Tolls(env, guard)
        self._dials = DialLimiter(mode=env.mode("dial_caps") if env.params.address_groups else Mode.OFF)
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
            if isinstance(e, DecodeError):
                self.guard.malformed(to, e)
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
        self._heard_at = asyncio.get_running_loop().time()
        self.keys.was_answered(answer.node_id)
        self.guard.answered(answer)
        return answer

    async def _connect_and_ask(self, to: VerifiedContact, question: Question) -> None:
        dial: Dial = (to.node_id, to.addresses)
        dialing = self._dialing.get(dial)
        early: Question | None = None
        if dialing is None:
            early = question if self._may_be_early(question.body) else None
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

    async def connect_address(
        self, node_id: NodeId, address: Address, early: Question | None = None
    ) -> Connection:
        """Connect to a bare `<node id>@address` that our user wrote: pqXX, as the KEM key is not known."""
        conn = self._session(node_id)
        if conn is not None:
            return conn
        return await self._dial_address(node_id, address, None, early, is_own_entry=True)

    async def ask_address(self, node_id: NodeId, address: Address, body: Body) -> Answer:
        """Ask a bare `<node id>@address`, the question in the handshake where that may be.

        Raises as `request`.
        """
        if self._session(node_id) is None and self._may_be_early(body):
            question = self._question(body, self.env.config.request_timeout_s)
            try:
                await self.connect_address(node_id, address, question)
            except RemoteError as e:
                question.fail(e)
            return self._measured(await question.future)
        return await self.request_over(await self.connect_address(node_id, address), body)

    def _may_be_early(self, body: Body) -> bool:
        messages = self.env.messages
        return self.env.config.early == "reads" and messages.number(body) in messages.early

    # --- what to expect ------------------------------------------------------------------------

    def is_cold(self, node_id: bytes) -> bool:
        """Whether asking takes a dial."""
        return node_id not in self.sessions

    def hedge(self, node_id: bytes) -> float:
        """Seconds after which to ask somebody else as well: 0.0 where the last question went unanswered."""
        conn = self.sessions.get(NodeId(node_id))
        if conn is None:
            return self.round_trips.hedge(node_id, DIAL_TRIPS)
        return 0.0 if conn.exchange.unheard else self.round_trips.hedge(node_id)

    def patience(self, node_id: bytes) -> float:
        """Seconds after which a lookup with enough answers ends without this node's."""
        return self.round_trips.patience(node_id, DIAL_TRIPS if self.is_cold(node_id) else 1)

    def _session(self, node_id: NodeId) -> Connection | None:
        conn = self.sessions.get(node_id)
        if conn is not None:
            self.sessions.move_to_end(node_id)
        return conn

    async def _dial(self, to: VerifiedContact, early: Question | None) -> Connection:
        kem_key = to.kem_key or self.keys.kem_key(to.contact.kem_key_hash)
        error: RemoteError = PeerUnreachable("the contact has no address we can dial", node=to.node_id.hex())
        addresses = [a for a in to.addresses if a.scheme in self.env.transports]
        for address in addresses:
            try:
                return await self._dial_address(
                    to.node_id, address, kem_key, early, to.contact.signing_key_hash
                )
            except RemoteError as e:
                _log.info("%s not reached at %s: %s", to.node_id.hex(), address, e)
                error = e
            if early is not None and early.future.done():
                break
        if early is not None:
            early.fail(error)
        raise error

    async def _dial_address(
        self,
        node_id: NodeId,
        address: Address,
        kem_key: bytes | None,
        early: Question | None,
        signing_key_hash: bytes | None = None,
        *,
        is_own_entry: bool = False,
    ) -> Connection:
        loop = asyncio.get_running_loop()
        is_ik = kem_key is not None
        handshake = Handshake.initiate(
            self._params,
            expected=node_id,
            kem_key=kem_key,
            observed=str(address),
            now=self.env.clock(),
            # The first message of pqXX is readable: it should not tell that we met.
            signing_key_hash=signing_key_hash if is_ik else None,
            peer_holds_key=is_ik and self.keys.holds_ours(node_id),
        )
        where = (node_id, address)
        # Nobody aims us at what our operator wrote down, and whoever dials it paces itself.
        verified = is_own_entry or where in self._reached
        if not is_own_entry and (wait := self._silent.wait(where, loop.time())):
            self.env.counters["dials_held_back"] += 1
            raise DialHeldBack("it did not answer a moment ago", address=str(address), retry_s=wait)
        if wait := self._dials.begin(address.group, loop.time(), verified=verified):
            self.env.counters["dials_held_back"] += 1
            raise DialHeldBack("too many dials to this address group", address=str(address), retry_s=wait)
        made: list[Connection] = []

        def accept(link: Link) -> LinkHandler:
            conn = Connection(self, link, handshake, early)
            self._all[conn] = None
            made.append(conn)
            return conn

        ok, began = False, loop.time()
        try:
            self.env.counters["dials"] += 1
            transport = self.env.transports[address.scheme]
            limit = self.round_trips.dial_timeout(self.env.config.dial_timeout_s)
            await transport.dial(address, accept, limit)
            conn = made[0]
            conn.start()
            await conn.opened
            ok = True
            self._reached.set(where, None)
            self._silent.answered(where)
            return conn
        except PeerTimeout:
            if self._heard_at > began:  # else it may be our own network that is silent
                self._silent.failed(where, loop.time())
            raise
        finally:
            self._dials.end(address.group, loop.time(), ok=ok)

    # --- listening -----------------------------------------------------------------------------

    def set_addresses(self, addresses: tuple[str, ...]) -> None:
        """What our Hello says from now on."""
        self._params = replace(self._params, addresses=addresses)

    def set_stake(self, stake: bytes) -> None:
        """What we show from now on, and to whoever has a session with us."""
        self._params = replace(self._params, stake=stake)
        for conn in list(self._all):
            conn.tell(self._params.addresses, stake)

    async def listen(self, address: Address) -> Address:
        """Accept sessions. Raises ListenError."""
        return await self.env.transports[address.scheme].listen(address, self._accept, self._doorway.admits)

    def _accept(self, link: Link) -> LinkHandler:
        now = asyncio.get_running_loop().time()
        group = link.remote.group
        refused = ""
        if self._is_closed:
            refused = "closed"
        elif not self._tolls.link(group):
            refused = "cost"
        elif not self._inbound.may_enter(group, now):
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

    def _is_wanted(self, conn: Connection) -> bool:
        """Whether it is the current session with a peer that the table holds."""
        peer = conn.peer
        return peer is not None and self._is_current(conn) and self._listener.is_wanted(peer.node_id)

    def _is_current(self, conn: Connection) -> bool:
        return conn.peer is not None and self.sessions.get(conn.peer.node_id) is conn

    # --- Host ----------------------------------------------------------------------------------

    def keyed(self, conn: Connection) -> None:
        peer = conn.peer
        assert peer is not None
        if conn.is_key_asked:
            self.keys.was_asked_for_ours(peer.node_id)
            self.env.counters["signing_key_asked_for"] += 1
        elif conn.outbound:
            self.keys.was_sent_ours(peer.node_id)
        self._doorway.opened(conn)
        if not conn.outbound and not self._inbound.take(conn, asyncio.get_running_loop().time()):
            self._refused(conn.link, "sessions")
            conn.close()
            return
        if self.keys.is_borrowed(peer):
            conn.fail(HandshakeFailed("this KEM key belongs to another node id", reason="shared key"))
            return
        self.keys.proved_kem(peer)
        if conn.outbound:
            self._adopt(conn)

    def outworn(self, conn: Connection) -> None:
        if conn.peer is not None and self.sessions.get(conn.peer.node_id) is conn:
            del self.sessions[conn.peer.node_id]  # the next question dials anew
        conn.retire()

    def renewing(self, conn: Connection) -> None:
        if wait := self._tolls.renewal(conn.group):
            conn.throttle(wait)  # what is due is always served; the next must wait

    def proven(self, conn: Connection) -> None:
        assert conn.peer is not None
        self.keys.proved_signing(conn.peer)
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
        self._inbound.leave(conn)

    def offence(
        self, conn: Connection, envelope: bytes, request: bytes, item: WireRecord | None = None
    ) -> None:
        if conn.peer is not None:  # not of what came in a handshake: nothing but reading follows from that
            self.guard.accuse(conn.peer, envelope, request, item)

    def admit(self, conn: Connection, message_type: int, size: int) -> int:
        if wait := self._tolls.request(conn, message_type, size):
            self.env.counters["requests_refused_busy"] += 1
        return int(wait * 1000) + 1 if wait else 0

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        self.env.counters["requests_served"] += 1
        self._listener.serve(conn, body, reply)

    # --- housekeeping --------------------------------------------------------------------------

    def start(self) -> None:
        """Begin sweeping idle sessions and keeping wanted ones alive."""
        self._sweeper = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        config = self.env.config
        silent_s = SILENT_KEEPALIVES * config.keepalive_s
        for conn in list(self._all):
            heard_s, sent_s = now - conn.last_heard, now - conn.last_sent
            idle_s = min(heard_s, sent_s)
            if idle_s < config.session_idle_s and max(heard_s, sent_s) < config.keepalive_s:
                continue
            if self._is_wanted(conn):
                self._doorway.remember(conn.link.remote.host)
                if sent_s >= config.keepalive_s:
                    conn.keepalive()
                if heard_s >= silent_s:
                    conn.close()
            elif conn.peer is not None and not conn.exchange.in_use:
                # A replaced, never proven or no longer wanted session.  A proven caller may want it: whoever
                # does keeps it alive, and who does not ends it, as we do with those we opened.
                is_callers = conn.is_proven and not conn.outbound and self._is_current(conn)
                if idle_s >= (silent_s if is_callers else config.session_idle_s):
                    conn.close()
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
