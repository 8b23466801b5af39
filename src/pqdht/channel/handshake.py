"""One handshake, from the first byte to a `Session`: frames, PQNoise and Hellos put together (section 3).

Sans-IO: bytes come in by `receive`, go out by `finish`; times (ms since the epoch) come with them.

    initiator   prepare, finish;  then for each message: receive, and unless `done`: prepare, finish
    responder   for each message: receive, prepare, finish
    both        after each receive: send what `take_reply` returns
    responder with a gate    where `receive` left a message waiting: `proceed` when its turn has come

An initiator that knows the responder's KEM key speaks pqIK, one round trip; else pqXX, two.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from ..constants import HANDSHAKE_FORMAT, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN
from ..crypto.api import Suite
from ..crypto.labels import NOISE_PROLOGUE
from ..errors import HandshakeFailed, PeerIdentityMismatch, RemoteError, WireCode
from ..identity.contact import ContactVerifier
from ..identity.keys import NodeIdentity, public_key_hash
from ..ids import ID_BYTES, NodeId
from ..wire.codec import encode
from ..wire.contact import Contact
from .cookie import COOKIE_SIZE, SALT_SIZE, SEALED_SIZE, Gate, seal, unseal
from .framing import FRAME_OVERHEAD, MAC_SIZE, NONCE_SIZE, Expected, FrameKey, FrameReader, Kind, frame_key
from .hello import (
    MAX_EARLY,
    MAX_PAYLOAD,
    AddressPart,
    HeldKey,
    Hello,
    Payload,
    PeerHello,
    StrikeRegister,
    check_key,
    choose_version,
    decode_payload,
    holds_none,
)
from .noise import PQ_IK, PQ_XX, HandshakeState, Pattern, message_sizes
from .renewal import Renewal, transport_keys
from .replay import SeenFlights
from .session import MAX_FRAME, RENEW_AFTER_MS, Padding, Session

__all__ = ["Handshake", "HandshakeMessage", "HandshakeParams", "PeerHello", "StrikeRegister"]

XX_1_PAYLOAD = 64
"""The longest payload of the first message of pqXX, which has nothing to say yet."""
PADDING_SPREAD = 256
"""Handshake frames carry fewer random padding bytes than this, ..."""
PADDED_MOST = 14_000
"""... none that would take them over what TCP sends before the first acknowledgement."""

_KINDS = {PQ_IK: (Kind.IK_1, Kind.IK_2), PQ_XX: (Kind.XX_1, Kind.XX_2, Kind.XX_3, Kind.XX_4)}
_WITH_COOKIE = {Kind.IK_1: Kind.IK_1_COOKIE, Kind.XX_1: Kind.XX_1_COOKIE}
_WITHOUT_COOKIE = {with_one: kind for kind, with_one in _WITH_COOKIE.items()}
_WITH_HELLO = (Kind.IK_1, Kind.IK_2, Kind.XX_2, Kind.XX_3)
_WITH_ADDRESSES = (Kind.IK_2, Kind.XX_3, Kind.XX_4)
_WITH_QUESTION = (Kind.IK_1, Kind.XX_3)
_WITH_ANSWER = (Kind.IK_2, Kind.XX_4)
_CODES = frozenset(WireCode)


@dataclass(frozen=True, slots=True, kw_only=True)
class HandshakeParams:
    """What all handshakes of a node share."""

    suite: Suite
    network_tag: bytes
    identity: NodeIdentity
    verifier: ContactVerifier
    addresses: tuple[str, ...] = ()
    """Where we can be reached, as text."""
    stake: bytes | None = None
    features: int = 0
    versions: tuple[int, int] = (PROTOCOL_VERSION_MIN, PROTOCOL_VERSION)
    """The oldest and the newest envelope version we speak."""
    certificate: bytes | None = None
    """Hash of our certificate, 32 B."""
    held_key: HeldKey = holds_none
    padding_spread: int = PADDING_SPREAD
    """Number of lengths the random padding of a handshake frame may have; 1 switches it off."""
    bridge: bool = False
    """As responder, accept pqIK only."""
    renew_after_ms: int = RENEW_AFTER_MS
    """Age of a session's keys at which new ones are made."""
    strikes: StrikeRegister = field(default_factory=StrikeRegister)
    seen: SeenFlights = field(default_factory=SeenFlights)


@dataclass(frozen=True, slots=True)
class HandshakeMessage:
    """What a handshake message brought."""

    early: bytes | None
    """The encoded envelope of a question (to a responder) or its answer (to an initiator)."""
    code: WireCode
    """To a responder: what to answer. To an initiator: what became of its question."""
    binding: bytes
    """What `early` must be bound to: the Noise h just before this payload, 32 B."""
    replayable: bool
    """True for the first message of pqIK: nothing may change because of it."""


class Handshake:
    """One side of a handshake. Made by `initiate` or `respond`; of no use after a RemoteError."""

    def __init__(
        self, params: HandshakeParams, *, initiator: bool, expected: NodeId | None, observed: str, now: int
    ) -> None:
        self.expected = expected
        """Whom an initiator means to reach."""
        self.peer: PeerHello | None = None
        """Known once the peer's Hello was read and found good."""
        self._params = params
        self._initiator = initiator
        self._observed = observed
        self._now = now
        self._noise: HandshakeState | None = None
        self._key: FrameKey | None = None
        self._reader = FrameReader()
        self._held_peer_key: bytes | None = None
        """Kept from when we say that we hold it: a cache may forget it before the peer's Hello is here."""
        self._peer_holds_key = False
        self._is_key_due = self._has_asked = self._has_failed = False
        self._gate: Gate | None = None
        self._waiting: tuple[Kind, bytes] | None = None
        self._first: tuple[bytes, bytes] | None = None
        """Our first message and its frame's mac1, until it is answered."""
        self._reply = b""

    @classmethod
    def initiate(
        cls,
        params: HandshakeParams,
        *,
        expected: NodeId | None,
        kem_key: bytes | None,
        observed: str,
        now: int,
        signing_key_hash: bytes | None = None,
        peer_holds_key: bool = False,
    ) -> Handshake:
        """Ours to begin: pqIK if `kem_key` is given, then `expected` must be too.  Raises DecodeError.

        `observed` is the peer's address.  Where `params.held_key` has the key of `signing_key_hash`, the
        peer is told to leave it out; `peer_holds_key` leaves ours out (if wrongly, NEED_KEY mends it).
        """
        self = cls(params, initiator=True, expected=expected, observed=observed, now=now)
        self._peer_holds_key = peer_holds_key
        if signing_key_hash is not None:
            self._held_peer_key = params.held_key(signing_key_hash)
        if kem_key is None:
            self._start(PQ_XX, None)
        elif expected is None:
            raise ValueError("pqIK needs the node id of the responder")
        else:
            self._start(PQ_IK, kem_key)
        return self

    @classmethod
    def respond(
        cls, params: HandshakeParams, *, observed: str, now: int, gate: Gate | None = None
    ) -> Handshake:
        """The caller's to begin; its first frame says by which pattern. `observed` is its address.

        With a `gate`, messages wait for `proceed`, and a first one may be answered with a cookie.
        """
        self = cls(params, initiator=False, expected=None, observed=observed, now=now)
        self._gate = gate
        ways: tuple[tuple[Pattern, bytes], ...] = ((PQ_IK, params.identity.node_id),)
        if not params.bridge:
            ways += ((PQ_XX, params.network_tag),)
        for pattern, secret in ways:
            size = message_sizes(pattern, params.suite.kem)[0]
            self._reader.also(*_first_frame(_KINDS[pattern][0], secret, size))
        return self

    @property
    def done(self) -> bool:
        """Whether `session` may be called."""
        return self._noise is not None and self._noise.is_done

    @property
    def replayable(self) -> bool:
        """Whether our peer may be a recording, until its first transport frame is here."""
        return self.peer is not None and self.peer.replayable

    @property
    def may_send_early(self) -> bool:
        """Whether our next message can carry a question."""
        return self._initiator and self._next_kind() in _WITH_QUESTION

    @property
    def is_waiting(self) -> bool:
        """Whether a message is here whose reading costs something: `proceed` reads it."""
        return self._waiting is not None

    @property
    def buffered(self) -> int:
        """Bytes held of what the peer sent."""
        return len(self._reader) + (len(self._waiting[1]) if self._waiting is not None else 0)

    # --- reading -------------------------------------------------------------------------------

    def receive(self, data: bytes, now: int) -> HandshakeMessage | None:
        """Bytes of the peer, cut anywhere: the next message, or None while there is none.

        What follows the last message is kept for the session.  Raises HandshakeFailed (its `reason`
        says why), PeerIdentityMismatch, BadPuzzle or DecodeError.
        """
        if self._has_failed:
            raise HandshakeFailed("this handshake has failed", reason="failed")
        self._now = now
        try:
            frame = self._next_frame(data)
            if frame is None:
                return None
            if self._gate is None:
                return self._read(*frame)
        except RemoteError:
            self._has_failed = True
            raise
        self._waiting = frame
        return None

    def proceed(self, now: int) -> HandshakeMessage:
        """Read the message that waits.  Raises as `receive` does."""
        assert self._waiting is not None
        frame, self._waiting = self._waiting, None
        self._now = now
        try:
            return self._read(*frame)
        except RemoteError:
            self._has_failed = True
            raise

    def take_reply(self) -> bytes:
        """What to send now that is no message of the handshake: a COOKIE, or the first message again with
        one.  Empty most of the time."""
        reply, self._reply = self._reply, b""
        return reply

    def _next_frame(self, data: bytes) -> tuple[Kind, bytes] | None:
        """The next message, after everything that can be refused without computing much."""
        self._reader.feed(data)
        if self.done:
            if len(self._reader) > MAX_FRAME:
                raise HandshakeFailed("too much before the session began", reason="flood")
            return None
        if self._waiting is not None or (self._noise is not None and self._noise.is_our_turn):
            if data:
                raise HandshakeFailed("the peer spoke out of turn", reason="turn")
            return None
        frame = self._reader.next()
        if frame is None:
            return None
        kind, message = frame
        is_last = self._noise is not None and self._noise.index + 1 == len(self._noise.pattern.messages)
        if len(self._reader) and not is_last:
            raise HandshakeFailed("the peer spoke out of turn", reason="turn")
        if kind == Kind.COOKIE:
            self._repeat(message)
            return None
        return self._screen(kind, message) if self._noise is None else (kind, message)

    def _screen(self, kind: Kind, message: bytes) -> tuple[Kind, bytes] | None:
        """A first message that is no copy and, if we are loaded, brings a cookie; else None."""
        cookie = b""
        if kind in _WITHOUT_COOKIE:
            kind, cookie, message = _WITHOUT_COOKIE[kind], message[:COOKIE_SIZE], message[COOKIE_SIZE:]
        params, gate, kem = self._params, self._gate, self._params.suite.kem
        token = kem.ciphertext_size if kind == Kind.IK_1 else kem.public_size
        name = params.seen.check(message[:token])
        if gate is not None and cookie:
            gate.cookies.check(cookie, gate.address, self._now)
        elif gate is not None and gate.is_loaded():
            self._challenge(gate, PQ_IK if kind == Kind.IK_1 else PQ_XX)
            return None
        params.seen.add(name)
        return kind, message

    def _challenge(self, gate: Gate, pattern: Pattern) -> None:
        """Answer with a cookie, and wait for the same message with it."""
        first = self._frame(pattern, 0)
        random_bytes = self._params.suite.random_bytes
        cookie = gate.cookies.make(gate.address, self._now)
        sealed = seal(cookie, first.key.secret, self._reader.mac1, random_bytes(SALT_SIZE))
        self._reply = first.key.seal(
            Kind.COOKIE, sealed, self._padding(len(sealed)), random_bytes(NONCE_SIZE)
        )
        self._reader.expect(_cookie_frame(first))

    def _repeat(self, sealed: bytes) -> None:
        """Send our first message again with the cookie."""
        noise, key = self._noise, self._key
        assert noise is not None and key is not None and self._first is not None
        message, mac1 = self._first
        message = unseal(sealed, key.secret, mac1) + message
        kind = _WITH_COOKIE[_KINDS[noise.pattern][0]]
        nonce = self._params.suite.random_bytes(NONCE_SIZE)
        self._reply = key.seal(kind, message, self._padding(len(message)), nonce)
        self._first = None
        self._reader.expect(self._frame(noise.pattern, 1))  # one cookie is enough

    def _read(self, kind: Kind, message: bytes) -> HandshakeMessage:
        if self._noise is None:
            self._start(PQ_IK if kind == Kind.IK_1 else PQ_XX, None)
        assert self._noise is not None
        self._first = None
        binding, payload = self._noise.read(message)
        return self._take(kind, decode_payload(payload), binding)

    def _take(self, kind: Kind, payload: Payload, binding: bytes) -> HandshakeMessage:
        """Check a payload and remember what it says."""
        early = payload.early
        may_be_early = kind in _WITH_QUESTION or (kind in _WITH_ANSWER and self._has_asked)
        if (
            (payload.hello is not None) != (kind in _WITH_HELLO)
            or (payload.addresses is not None) != (kind in _WITH_ADDRESSES)
            or (early is not None and not may_be_early)
        ):
            raise HandshakeFailed("a handshake payload has the wrong parts", reason="payload")
        if kind in (Kind.IK_1, Kind.XX_1):
            self._peer_holds_key = payload.holds_key
        if payload.hello is not None:
            self.peer = self._check_hello(payload.hello, replayable=kind == Kind.IK_1)
        if payload.addresses is not None:
            assert self.peer is not None
            self.peer = self.peer.with_addresses(payload.addresses)
        code = self._judge(kind, payload, binding)
        return HandshakeMessage(early if code == WireCode.OK else None, code, binding, kind == Kind.IK_1)

    def _judge(self, kind: Kind, payload: Payload, binding: bytes) -> WireCode:
        if kind in _WITH_ANSWER:
            code = WireCode(payload.code) if payload.code in _CODES else WireCode.EARLY_REJECTED
            self._is_key_due = code == WireCode.NEED_KEY
            if self._is_key_due and not self._peer_holds_key:
                raise HandshakeFailed("the peer asks for a key that it was sent", reason="need key")
            return code
        if kind in _WITH_QUESTION:
            assert payload.hello is not None and self.peer is not None
            if not self.peer.signing_key:
                return WireCode.NEED_KEY
            if kind == Kind.IK_1 and payload.early is not None:
                return self._params.strikes.strike(binding, payload.hello.time, self._now)
        return WireCode.OK

    def _check_hello(self, hello: Hello, *, replayable: bool) -> PeerHello:
        """The peer's node id out of its keys, its puzzle, the common version."""
        params, noise = self._params, self._noise
        assert noise is not None and noise.rs is not None
        contact = Contact(
            signing_key_hash=hello.signing_key_hash,
            kem_key_hash=public_key_hash(noise.rs),
            born=hello.born,
            nonce=hello.nonce,
            digest=hello.digest,
            kem_key=noise.rs,
            features=hello.features,
        )
        node_id = params.verifier.claimed_id(contact)  # before the puzzle: two hashes against an Argon2id
        if self.expected is not None and node_id != self.expected:
            raise PeerIdentityMismatch(
                "another node answers at this address", expected=self.expected.hex(), found=node_id.hex()
            )
        if node_id == params.identity.node_id:
            raise HandshakeFailed("the peer is this node itself", reason="self")
        version = choose_version(params.versions, (hello.version_min, hello.version_max))
        if hello.signing_key is not None:
            check_key(hello.signing_key, hello.signing_key_hash)
        signing_key = hello.signing_key or self._held(hello.signing_key_hash)
        if signing_key is None and self._initiator:
            raise HandshakeFailed("the responder withholds its signing key", reason="signing key")
        params.verifier.verify(contact, self._now)
        return PeerHello(
            node_id=node_id,
            contact=contact,
            signing_key=signing_key or b"",
            kem_key=noise.rs,
            version=version,
            features=params.features & hello.features,
            time=hello.time,
            replayable=replayable,
        )

    def _held(self, signing_key_hash: bytes) -> bytes | None:
        """The signing key of this hash, where we hold it."""
        key = self._held_peer_key
        if key is not None and public_key_hash(key) == signing_key_hash:
            return key
        return self._params.held_key(signing_key_hash)

    # --- writing -------------------------------------------------------------------------------

    def prepare(self) -> bytes:
        """Make our next message up to its payload; returns the 32 B an early envelope is bound to.

        Raises DecodeError for a public key of the peer's that is none: it is expanded here, last of all.
        """
        assert self._noise is not None
        return self._noise.begin_write()

    def finish(self, early: bytes | None = None, code: WireCode = WireCode.OK) -> bytes:
        """The bytes of the message `prepare` began.

        Raises ValueError for an early envelope that is too long, or in a message that takes none.
        """
        noise, key, kind = self._noise, self._key, self._next_kind()
        assert noise is not None and key is not None and kind is not None
        if early is not None:
            if kind not in _WITH_QUESTION + _WITH_ANSWER or not 0 < len(early) <= MAX_EARLY:
                raise ValueError(f"no early envelope of {len(early)} bytes fits a {kind.name}")
            self._has_asked = kind in _WITH_QUESTION
        payload = Payload(
            hello=self._hello() if kind in _WITH_HELLO else None,
            addresses=self._address_part() if kind in _WITH_ADDRESSES else None,
            early=early,
            code=code,
            holds_key=self._held_peer_key is not None and kind in (Kind.IK_1, Kind.XX_1),
        )
        message = noise.finish_write(encode(payload))
        if not noise.is_done:
            self._reader.expect(self._frame(noise.pattern, noise.index))
        nonce = self._params.suite.random_bytes(NONCE_SIZE)
        frame = key.seal(kind, message, self._padding(len(message)), nonce)
        if kind in _WITH_COOKIE:
            self._first = (message, frame[-MAC_SIZE:])
            self._reader.also(Expected(Kind.COOKIE, key, SEALED_SIZE, SEALED_SIZE))
        return frame

    def _hello(self) -> Hello:
        identity, (oldest, newest) = self._params.identity, self._params.versions
        return Hello(
            signing_key_hash=identity.signing_key_hash,
            signing_key=None if self._peer_holds_key else identity.signing.public,
            born=identity.born,
            nonce=identity.nonce,
            digest=identity.digest,
            version_min=oldest,
            version_max=newest,
            features=self._params.features,
            time=self._now,
        )

    def _padding(self, length: int) -> int:
        room = max(0, PADDED_MOST - FRAME_OVERHEAD - length)
        dice = int.from_bytes(self._params.suite.random_bytes(4), "big")
        return dice % min(self._params.padding_spread, room + 1)

    # --- after it ------------------------------------------------------------------------------

    @property
    def address_part_due(self) -> bool:
        """Whether our first frame must be ADDRESSES: a pqIK initiator's is, and whose key is missing."""
        noise = self._noise
        assert noise is not None
        return self._initiator and (noise.pattern is PQ_IK or self._is_key_due)

    def address_part(self) -> bytes:
        """The content of that frame."""
        return encode(self._address_part(with_key=self._is_key_due))

    def _address_part(self, with_key: bool = False) -> AddressPart:
        params = self._params
        key = params.identity.signing.public if with_key else None
        return AddressPart(params.addresses, self._observed, params.certificate, key, params.stake)

    def session(self, padding: Padding) -> Session:
        """The transport phase; it begins with what was received beyond the last message."""
        noise, params = self._noise, self._params
        assert noise is not None and noise.rs is not None
        send, receive = transport_keys(noise)
        renewal = Renewal(
            params.suite.kem,
            params.identity.kem,
            noise.rs,
            initiator=self._initiator,
            network_tag=params.network_tag,
            handshake_hash=noise.h,
        )
        return Session(
            send.cipher,
            receive.cipher,
            send_mask=send.mask,
            receive_mask=receive.mask,
            handshake_hash=noise.h,
            padding=padding,
            opened_at=self._now,
            received=self._reader.rest(),
            renewal=renewal,
            renew_after_ms=params.renew_after_ms,
        )

    # --- helpers -------------------------------------------------------------------------------

    def _start(self, pattern: Pattern, kem_key: bytes | None) -> None:
        params = self._params
        responder = params.identity.node_id if not self._initiator else self.expected
        named = responder if pattern is PQ_IK and responder is not None else bytes(ID_BYTES)
        prologue = NOISE_PROLOGUE + params.network_tag + bytes((HANDSHAKE_FORMAT,)) + named
        self._noise = HandshakeState(
            pattern,
            params.suite.kem,
            initiator=self._initiator,
            prologue=prologue,
            s=params.identity.kem,
            rs=kem_key,
        )
        self._key = frame_key(named if pattern is PQ_IK else params.network_tag)

    def _next_kind(self) -> Kind | None:
        if self._noise is None or self._noise.is_done:
            return None
        return _KINDS[self._noise.pattern][self._noise.index]

    def _frame(self, pattern: Pattern, index: int) -> Expected:
        """What message `index` looks like on the wire."""
        kind = _KINDS[pattern][index]
        key = self._key
        if key is None:
            key = frame_key(self._params.identity.node_id if pattern is PQ_IK else self._params.network_tag)
        return _expected(kind, key, message_sizes(pattern, self._params.suite.kem)[index])


def _expected(kind: Kind, key: FrameKey, size: int) -> Expected:
    return Expected(kind, key, size, size + (XX_1_PAYLOAD if kind == Kind.XX_1 else MAX_PAYLOAD))


@lru_cache(64)
def _first_frame(kind: Kind, secret: bytes, size: int) -> tuple[Expected, Expected]:
    """What a caller may begin with: the same for all callers of a node, and needed for every one."""
    first = _expected(kind, frame_key(secret), size)
    return first, _cookie_frame(first)


def _cookie_frame(first: Expected) -> Expected:
    """The same first message with a cookie before it."""
    return Expected(
        _WITH_COOKIE[first.kind], first.key, first.shortest + COOKIE_SIZE, first.longest + COOKIE_SIZE
    )
