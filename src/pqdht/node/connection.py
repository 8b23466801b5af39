"""One link to one peer: its handshake, then its session.

The sans-IO parts (handshake, session, envelopes) meet the event loop here.  No task is made per
message: bytes come in by callback, signatures come back by callback, and only who asked waits.
"""

from __future__ import annotations

import asyncio
from enum import IntEnum

from ..channel.handshake import Handshake, HandshakeMessage, PeerHello
from ..channel.hello import AddressPart
from ..channel.session import Frame, FrameKind, Session
from ..envelope import ZEROS, is_request
from ..errors import HandshakeFailed, PeerTimeout, PeerUnreachable, RemoteError, WireCode
from ..transport.base import Link
from ..wire.codec import encode
from ..wire.messages import Body, Envelope, decode_envelope
from .early import fit_early
from .exchange import Exchange, Host, Question

HELD_MOST = 65_536
"""Bytes taken while our own handshake message waits for its signature."""
RETIRE_AFTER_S = 1.0
"""A replaced session stays so long, for the questions that crossed its replacement."""
SILENT_DELAY_S = 0.5
"""A refused caller is dropped after a random delay of at most this, and told nothing."""


class Phase(IntEnum):
    """How far a connection is to be believed; it only ever grows."""

    SHAKING = 1
    """Nothing is known of the caller."""
    OPEN = 2
    """The handshake is done on our side; an inbound caller may still be a recording, or somebody who
    borrowed another's public KEM key."""
    KEYED = 3
    """The peer used the session's keys: it has its KEM key."""
    PROVEN = 4
    """It also signed a message bound to this session: it is the node its Hello says."""
    CLOSED = 5


class Connection:
    """A `LinkHandler`. `peer` is known once the handshake is done, believed once it is PROVEN."""

    def __init__(self, host: Host, link: Link, handshake: Handshake, early: Question | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.host = host
        self.link = link
        self.outbound = link.outbound
        self.group = link.remote.group
        self.peer: PeerHello | None = None
        self.phase = Phase.SHAKING
        self.is_admitted = False
        """Inbound: counted against its group's sessions."""
        self.waiting_since: float | None = None
        """Inbound: since when a message of its handshake waits to be read, loop time."""
        self.is_key_asked = False
        """Outbound: our signing key was left out, and the peer did not hold it."""
        self.last_heard = self.last_sent = loop.time()
        self.bytes = 0
        self.opened: asyncio.Future[None] = loop.create_future()
        self.opened.add_done_callback(_retrieve)
        self.exchange = Exchange(host, self)
        self._env = host.env
        self._handshake: Handshake | None = handshake
        self._session: Session | None = None
        self._early = early
        self._is_answered_early = False
        self._is_signing = False
        self.is_choked = False
        self._throttle: asyncio.TimerHandle | None = None
        self._held = bytearray()
        self._is_retiring = False
        self._retiring: asyncio.TimerHandle | None = None
        self._has_peer_signed = False
        self._deadline = loop.call_later(
            self._env.params.limits.handshake_timeout_s, self._handshake_timed_out
        )

    @property
    def is_closed(self) -> bool:
        """Whether it ended."""
        return self.phase is Phase.CLOSED

    @property
    def is_proven(self) -> bool:
        """Whether the peer is who it says, as far as both its keys can prove it."""
        return self.phase is Phase.PROVEN

    # --- link events ---------------------------------------------------------------------------

    def start(self) -> None:
        """Outbound only: send the first flight."""
        self._write_handshake(None, WireCode.OK)

    def data_received(self, data: bytes) -> None:
        """Bytes from the link, cut anywhere."""
        if self.is_closed:
            return
        self.bytes += len(data)
        self._env.counters["bytes_received"] += len(data)
        try:
            if self._session is not None:
                self._on_frames(self._session.receive(data))
            elif self._is_signing:
                self._hold(data)
            else:
                self._shake(data)
        except RemoteError as e:
            self.fail(e)
        else:
            self._report_buffered()

    def _report_buffered(self) -> None:
        if self.phase < Phase.KEYED and not self.outbound:
            self.host.buffered(self, self.buffered)

    @property
    def buffered(self) -> int:
        """Bytes of the peer that are held because something of a handshake or of a frame is missing."""
        if self._session is not None:
            return self._session.buffered
        return len(self._held) + (self._handshake.buffered if self._handshake is not None else 0)

    def connection_lost(self, error: Exception | None) -> None:
        """The link ended."""
        self._end(PeerUnreachable("the link broke", cause=str(error or "closed by peer")))
        self.host.gone(self)

    def pause_writing(self) -> None:
        """A peer that reads too slowly gets nothing more to answer until it caught up."""
        self.is_choked = True
        self.regulate()

    def resume_writing(self) -> None:
        """It caught up."""
        self.is_choked = False
        self.regulate()

    def throttle(self, seconds: float) -> None:
        """Do not read from a peer that asked for too much, for a while."""
        if self._throttle is None and not self.is_closed:
            self._throttle = asyncio.get_running_loop().call_later(seconds, self._unthrottle)
            self.regulate()

    def _unthrottle(self) -> None:
        self._throttle = None
        self.regulate()

    def regulate(self) -> None:
        """Read or not.  While we wait for an answer we read on even if the peer does not: two nodes
        with much to tell each other would otherwise both stop."""
        if self._throttle is not None or (self.is_choked and not self.exchange.is_asking):
            self.link.pause_reading()
        else:
            self.link.resume_reading()

    # --- ending --------------------------------------------------------------------------------

    def fail(self, error: RemoteError) -> None:
        """The peer broke a rule: end, silently; a failed handshake after a random delay (section 3)."""
        self._env.counters[f"failed.{type(error).__name__}"] += 1
        self._drop()
        self._end(error)

    def _drop(self) -> None:
        """Break the link: of a caller that showed no key, after a random delay and without a word."""
        if self.outbound or self.phase >= Phase.KEYED:
            self.link.abort()
            return
        self.link.pause_reading()
        delay = self._env.dice.uniform(0.0, SILENT_DELAY_S)
        asyncio.get_running_loop().call_later(delay, self.link.abort)

    def close(self) -> None:
        """Say goodbye and end."""
        if self._session is not None and not self.is_closed:
            self.link.write(self._session.send(FrameKind.CLOSE, b""))
        self.link.close()
        self._end(None)

    def retire(self) -> None:
        """Another session with this peer took over: end when nothing is under way, in a moment."""
        if self._retiring is None and not self.is_closed:
            self._retiring = asyncio.get_running_loop().call_later(RETIRE_AFTER_S, self._retire)

    def _retire(self) -> None:
        self._is_retiring = True
        self.close_if_idle()

    def close_if_idle(self) -> None:
        """Where this connection retires and its last question is answered."""
        if self._is_retiring and not self.exchange.in_use and not self.is_closed:
            self.close()

    def _end(self, error: Exception | None) -> None:
        if self.is_closed:
            return
        self.phase = Phase.CLOSED
        self._deadline.cancel()
        for timer in (self._retiring, self._throttle):
            if timer is not None:
                timer.cancel()
        reason = error or PeerUnreachable("the session was closed")
        if not self.opened.done():
            self.opened.set_exception(reason)
        self.exchange.fail_all(reason)  # a question still in the handshake is the dialler's to fail
        self.host.closed(self, error)

    def evict(self) -> None:
        """Another caller's handshake takes this one's place."""
        self.link.abort()
        self._end(HandshakeFailed("its place was taken by a later handshake", reason="evicted"))

    def _handshake_timed_out(self) -> None:
        self._env.counters["handshakes_timed_out"] += 1
        self._drop()
        self._end(PeerTimeout("the handshake did not complete in time", address=str(self.link.remote)))

    # --- handshake -----------------------------------------------------------------------------

    def _shake(self, data: bytes) -> None:
        handshake = self._handshake
        assert handshake is not None
        message = handshake.receive(data, self._env.clock())
        if reply := handshake.take_reply():
            self.link.write(reply)
        if handshake.is_waiting:
            self.host.wait(self)
        elif message is not None:
            self._advance(handshake, message)

    def proceed(self) -> None:
        """It is this caller's turn: read the message that waits."""
        handshake = self._handshake
        assert handshake is not None
        try:
            self._advance(handshake, handshake.proceed(self._env.clock()))
        except RemoteError as e:
            self.fail(e)
        else:
            self._report_buffered()

    def _advance(self, handshake: Handshake, message: HandshakeMessage) -> None:
        if self.outbound and handshake.done:
            self._open(message)
        elif self.outbound:
            self._write_handshake(None, WireCode.OK)
        else:
            self._write_handshake(self._serve_early(handshake, message), message.code)

    def _write_handshake(self, answer: tuple[Envelope, bytes, Body] | None, code: WireCode) -> None:
        """Our next handshake message, with an early question or answer where there is one."""
        handshake = self._handshake
        assert handshake is not None
        binding = handshake.prepare()
        if answer is not None:
            asked, m, body = answer
            self._is_signing = self._is_answered_early = True
            self.exchange.sign(self.exchange.answer_envelope(asked, m, body, binding), self._finish_signed)
        elif self._early is not None and handshake.may_send_early:
            assert handshake.expected is not None
            self._is_signing = True
            e = self.exchange.question_envelope(self._early, handshake.expected, binding)
            self.exchange.sign(e, self._finish_signed)
        else:
            self._finish(None, code)

    def _finish_signed(self, e: Envelope) -> None:
        self._is_signing = False
        raw = encode(e)
        if self._early is not None:
            self._early.raw = raw
        self._finish(raw, WireCode.OK)
        held, self._held = bytes(self._held), bytearray()
        if held:
            self.data_received(held)

    def _finish(self, early: bytes | None, code: WireCode) -> None:
        handshake = self._handshake
        assert handshake is not None
        self.link.write(handshake.finish(early, code))
        if handshake.done:
            self._open(None)

    def _hold(self, data: bytes) -> None:
        if len(self._held) + len(data) > HELD_MOST:
            raise HandshakeFailed("too much before the handshake was answered", reason="flood")
        self._held += data

    def _serve_early(
        self, handshake: Handshake, message: HandshakeMessage
    ) -> tuple[Envelope, bytes, Body] | None:
        """Check and answer the question in the caller's handshake message; None where there is none.

        Nothing but reading happens for it: a pqIK first message can be replayed by anybody.
        """
        if message.early is None or handshake.peer is None:
            return None
        e = decode_envelope(message.early)
        messages = self._env.messages
        if is_request(e) and not messages.is_known(e.type):
            return None  # a later version's: the caller asks again in the session, and hears UNSUPPORTED
        if e.type not in messages.early or not is_request(e):
            raise HandshakeFailed("only reads may travel in a handshake", reason="early type")
        peer = handshake.peer
        m = self.exchange.check(e, peer, message.binding)
        self.host.verifier.verify(e.signature, m, peer.node_id, peer.signing_key)
        replies: list[Body] = []
        if wait := self.host.admit(self, e.type, len(e.body)):
            replies.append(self.exchange.refusal(WireCode.BUSY, wait))
        else:
            self.exchange.serve(e, replies.append)
        answer = fit_early(replies[0], self._env.suite) if replies else None
        if answer is None:
            return None  # it does not fit, or takes its time: the caller asks again in the session
        self._has_peer_signed = True
        self._env.counters["early_requests_served"] += 1
        return e, m, answer

    def _open(self, last: HandshakeMessage | None) -> None:
        """The handshake is done: the session begins.  `last` is the message that ended it, if read."""
        handshake = self._handshake
        assert handshake is not None and handshake.peer is not None
        self.phase = Phase.OPEN
        self.peer = handshake.peer
        session = self._session = handshake.session(self._env.config.padding)
        self._handshake = None
        early, self._early = self._early, None
        answer = last.early if last is not None else None
        is_early_done = answer is not None or self._is_answered_early
        self.exchange.is_introduced = is_early_done
        self.exchange.out_binding = ZEROS if is_early_done else session.handshake_hash
        self.exchange.in_binding = ZEROS if self._has_peer_signed else session.handshake_hash
        self._env.counters["handshakes"] += 1
        self.is_key_asked = last is not None and last.code == WireCode.NEED_KEY
        if self.outbound:
            # The responder believes our KEM key only once a frame shows that we have the session's keys.
            if handshake.address_part_due:
                self._send_frame(FrameKind.ADDRESSES, handshake.address_part())
            else:
                self.keepalive()
        if early is not None:
            self.exchange.expect(early)
        if self.outbound:
            self._key()
        if not self.opened.done():
            self.opened.set_result(None)
        if self.is_closed:
            return
        if early is not None and answer is not None and last is not None:
            self.exchange.in_binding = last.binding
            self.exchange.on_envelope(answer)
        elif early is not None:
            self._env.counters["early_requests_repeated"] += 1
            self.exchange.ask_again(early)
        if not self.is_closed:
            self._on_frames(session.receive(b""))

    def _key(self) -> bool:
        """The peer has its KEM key: the handshake is over for both.  Whether the session may go on."""
        self.phase = Phase.KEYED
        self._deadline.cancel()
        self.host.keyed(self)
        return not self.is_closed

    def peer_signed(self) -> None:
        """The peer's first signature of this session held."""
        self._has_peer_signed = True
        self._prove()

    def _prove(self) -> None:
        if self.phase is Phase.KEYED and self._has_peer_signed:
            self.phase = Phase.PROVEN
            self.host.proven(self)

    # --- frames --------------------------------------------------------------------------------

    def _on_frames(self, frames: list[Frame]) -> None:
        assert self._session is not None
        while frames:
            for frame in frames:
                if self.is_closed:
                    return
                self._on_frame(frame)
            if self.is_closed:
                return
            # A RENEW frame ends a list: what follows it may need the new keys.
            is_renewal = frames[-1].kind == FrameKind.RENEW
            if is_renewal or any(frame.kind == FrameKind.ENVELOPE for frame in frames):
                self._renew_if_due()
            frames = self._session.receive(b"") if is_renewal else []

    def _on_frame(self, frame: Frame) -> None:
        assert self.peer is not None
        self.last_heard = asyncio.get_running_loop().time()
        self.exchange.unheard = 0
        if frame.kind == FrameKind.ADDRESSES:
            self.peer = self.peer.with_address_part(frame.content)
        # A recording, or a borrowed key, cannot send a frame.
        if self.phase is Phase.OPEN and not self._key():
            return
        self._prove()
        if frame.kind == FrameKind.ENVELOPE:
            self.exchange.on_envelope(frame.content)
        elif frame.kind == FrameKind.RENEW:
            self._on_renewal(frame.content)
        elif frame.kind == FrameKind.CLOSE:
            self.link.close()
            self._end(None)
            return
        elif frame.kind == FrameKind.KEEPALIVE:
            self._echo()
        self.host.heard(self)

    def _on_renewal(self, content: bytes) -> None:
        session = self._session
        assert session is not None
        before = session.renewed
        self._write(session.on_renewal(content, self._env.clock()))
        if session.renewed > before:
            self._env.counters["sessions_renewed"] += 1
        if not self.outbound:
            self.host.renewing(self)

    def _renew_if_due(self) -> None:
        session, now = self._session, self._env.clock()
        if session is None or self.is_closed or not session.needs_renewal(now):
            return
        if session.is_outworn(now):
            self.host.outworn(self)
        elif session.may_renew and self._retiring is None:
            self._write(session.renew())

    def _echo(self) -> None:
        """A peer that keeps us in its table need not be in ours: what it must hear to go on passing us on
        is said here, unless we said something lately (so that two do not echo each other)."""
        since_s = asyncio.get_running_loop().time() - self.last_sent
        if since_s >= self._env.config.keepalive_s / 2:
            self.keepalive()

    def keepalive(self) -> None:
        """About 40 bytes that say we are here."""
        self._send_frame(FrameKind.KEEPALIVE, b"")

    def tell(self, addresses: tuple[str, ...], stake: bytes | None) -> None:
        """Say anew where we are and what our stake is."""
        if self.is_proven:
            part = AddressPart(addresses, str(self.link.remote), stake=stake)
            self._send_frame(FrameKind.ADDRESSES, encode(part))

    def send_envelope(self, raw: bytes) -> None:
        """One envelope to the peer; dropped silently after the end."""
        self._send_frame(FrameKind.ENVELOPE, raw)

    def _send_frame(self, kind: FrameKind, content: bytes) -> None:
        if self._session is None or self.is_closed:
            return
        self._write(self._session.send(kind, content))
        if kind is FrameKind.ENVELOPE:  # who only says "I am here" hides nothing that new keys would protect
            self._renew_if_due()

    def _write(self, data: bytes) -> None:
        if data:
            self.last_sent = asyncio.get_running_loop().time()
            self.bytes += len(data)
            self.link.write(data)


def _retrieve(done: asyncio.Future[None]) -> None:
    """Whoever waits gets the error; nobody waiting is no fault."""
    if not done.cancelled():
        done.exception()
