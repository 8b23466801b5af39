"""The transport phase of PQNoise over an ordered stream of bytes (section 3).

    masked length u16 || AEAD( kind u8 || content length u16 || content || zeros )

The length counts the AEAD's ciphertext and is XORed with a ChaCha20 key stream, one per direction;
message numbers are implicit.  So a byte that is changed, lost, repeated or out of order breaks the
session, for good: every later call raises SessionFailed.

After an hour or 2^20 messages the session's initiator calls `renew`, and RENEW frames of the peer go into
`on_renewal`, until both directions have new keys (`renewal.py`).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Literal, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import CipherContext

from ..constants import HOUR_MS, MAX_MESSAGE, MINUTE_MS
from ..errors import SessionFailed
from .framing import stream
from .noise import TAG_SIZE, CipherState
from .renewal import DirectionKeys, Renewal

Padding = Literal["off", "256", "constant"]

LENGTH_SIZE = 2
HEADER = struct.Struct(">BH")
FRAME_OVERHEAD = LENGTH_SIZE + HEADER.size + TAG_SIZE
"""Bytes of a frame beyond its content and padding."""
MAX_PLAINTEXT = 0xFFFF - TAG_SIZE
MAX_FRAME = LENGTH_SIZE + 0xFFFF
REKEY_EVERY = 2**14
"""Messages in one direction between two Noise rekeys (which bring no new entropy)."""
RENEW_AFTER_MS = HOUR_MS
RENEW_AFTER_MESSAGES = 2**20
RENEW_PATIENCE_MS = 10 * MINUTE_MS
"""So long after new keys were found due, a peer that does not help to make them is dialled anew."""
BUCKETS: dict[Padding, int] = {"off": 1, "256": 256, "constant": 16_384}
"""Plaintexts are padded to a multiple of this; `constant`: all but the longest answers look alike."""
KEEPALIVE_BUCKET = 16
"""With "256", of a keep-alive: its clockwork gives it away at any length, and most frames of an idle node
are such."""


class FrameKind(IntEnum):
    """What a frame carries. Numbers are frozen."""

    ENVELOPE = 1
    KEEPALIVE = 2
    ADDRESSES = 3
    CLOSE = 4
    RENEW = 5
    """A message of a new handshake inside the session; who does not know it ignores it."""


class Frame(NamedTuple):
    """One message. `kind` is a FrameKind, or a number of a later version, to be ignored."""

    kind: int
    content: bytes


class Session:
    """Both directions of an open channel."""

    __slots__ = (
        "_bucket",
        "_buffer",
        "_due_since",
        "_has_failed",
        "_is_halted",
        "_length",
        "_opened_at",
        "_receive",
        "_receive_mask",
        "_renew_after_messages",
        "_renew_after_ms",
        "_renewal",
        "_send",
        "_send_mask",
        "handshake_hash",
        "renewed",
    )

    def __init__(
        self,
        send: CipherState,
        receive: CipherState,
        *,
        send_mask: bytes,
        receive_mask: bytes,
        handshake_hash: bytes,
        padding: Padding,
        opened_at: int,
        received: bytes = b"",
        renewal: Renewal | None = None,
        renew_after_ms: int = RENEW_AFTER_MS,
        renew_after_messages: int = RENEW_AFTER_MESSAGES,
    ) -> None:
        """The masks are ChaCha20 keys of 32 B; `opened_at` in ms; `received` came with the handshake.

        Without a `renewal` RENEW frames are handed on like those of any unknown kind.
        """
        self.handshake_hash = handshake_hash
        """The final Noise h, 32 B: the binding of a direction's first message. A renewal does not change it:
        by then both directions have signed."""
        self.renewed = 0
        """How often both directions got new keys."""
        self._send = send
        self._receive = receive
        self._send_mask = stream(send_mask)
        self._receive_mask = stream(receive_mask)
        self._bucket = BUCKETS[padding]
        self._opened_at = opened_at
        self._buffer = bytearray(received)
        self._length: int | None = None
        self._has_failed = False
        self._renewal = renewal
        self._renew_after_ms = renew_after_ms
        self._renew_after_messages = renew_after_messages
        self._due_since: int | None = None
        self._is_halted = False
        """A RENEW frame was handed out: what follows it may need the keys that `on_renewal` brings."""

    @property
    def buffered(self) -> int:
        """Bytes of a frame that is not whole yet."""
        return len(self._buffer)

    def send(self, kind: FrameKind, content: bytes) -> bytes:
        """One frame for the wire. Raises SessionFailed after a failure, ValueError beyond 60 KiB."""
        if self._has_failed:
            raise SessionFailed("this session has failed")
        if len(content) > MAX_MESSAGE:
            raise ValueError(f"a frame takes at most {MAX_MESSAGE} bytes, got {len(content)}")
        plain = HEADER.pack(kind, len(content)) + content
        bucket = self._bucket
        if kind is FrameKind.KEEPALIVE and bucket == BUCKETS["256"]:
            bucket = KEEPALIVE_BUCKET
        padded = min(-(-len(plain) // bucket) * bucket, MAX_PLAINTEXT)
        sealed = _next_key(self._send).encrypt_with_ad(b"", plain.ljust(padded, b"\0"))
        return self._send_mask.update(len(sealed).to_bytes(LENGTH_SIZE, "big")) + sealed

    def receive(self, data: bytes) -> list[Frame]:
        """The frames that bytes of the peer, cut anywhere, complete. Raises SessionFailed.

        A RENEW frame is the last of a list: call `on_renewal` with its content, then `receive(b"")`.
        """
        if self._has_failed:
            raise SessionFailed("this session has failed")
        self._buffer += data
        try:
            return self._take_frames()
        except SessionFailed:
            self._fail()
            raise

    def needs_renewal(self, now: int) -> bool:
        """Whether keys are due that are not made of the present ones: after an hour or 2^20 messages."""
        is_due = (
            now - self._opened_at >= self._renew_after_ms
            or max(self._send.n, self._receive.n) >= self._renew_after_messages
        )
        if is_due and self._due_since is None:
            self._due_since = now
        return is_due

    def is_outworn(self, now: int) -> bool:
        """Whether they are due for so long that the peer will not help to make them."""
        is_due = self.needs_renewal(now)
        return is_due and self._due_since is not None and now - self._due_since >= RENEW_PATIENCE_MS

    @property
    def may_renew(self) -> bool:
        """Whether it is ours to begin a renewal, and none is under way."""
        return self._renewal is not None and self._renewal.may_begin and not self._has_failed

    def renew(self) -> bytes:
        """Begin a renewal: a frame for the wire. ValueError unless `may_renew`."""
        if self._renewal is None:
            raise ValueError("this session cannot be renewed")
        return self.send(FrameKind.RENEW, self._renewal.begin())

    def on_renewal(self, content: bytes, now: int) -> bytes:
        """Go on after a RENEW frame: what to write at once, perhaps nothing.  Raises SessionFailed."""
        if self._renewal is None or not self._is_halted:
            raise ValueError("on_renewal follows a RENEW frame")
        try:
            outcome = self._renewal.take(content)
        except SessionFailed:
            self._fail()
            raise
        self._is_halted = False
        wire = self.send(FrameKind.RENEW, outcome.reply) if outcome.reply is not None else b""
        if outcome.send is not None:
            self._send, self._send_mask = _opened(outcome.send)
        if outcome.receive is not None:
            self._receive, self._receive_mask = _opened(outcome.receive)
            # The direction that is switched last: the old keys are gone.
            self._opened_at, self._due_since = now, None
            self.renewed += 1
        return wire

    def _fail(self) -> None:
        self._has_failed = True
        self._buffer.clear()

    def _take_frames(self) -> list[Frame]:
        frames: list[Frame] = []
        buffer, at = self._buffer, 0
        while not self._is_halted:
            if self._length is None:
                if len(buffer) - at < LENGTH_SIZE:
                    break
                masked = buffer[at : at + LENGTH_SIZE]
                self._length = int.from_bytes(self._receive_mask.update(masked), "big")
                at += LENGTH_SIZE
                if self._length < HEADER.size + TAG_SIZE:
                    raise SessionFailed("a frame is too short", length=self._length)
            end = at + self._length
            if len(buffer) < end:
                break
            frames.append(self._open(bytes(buffer[at:end])))
            at, self._length = end, None
            self._is_halted = frames[-1].kind == FrameKind.RENEW and self._renewal is not None
        del buffer[:at]
        return frames

    def _open(self, sealed: bytes) -> Frame:
        try:
            plain = _next_key(self._receive).decrypt_with_ad(b"", sealed)
        except InvalidTag:
            raise SessionFailed("a frame is not authentic", number=self._receive.n) from None
        kind, length = HEADER.unpack_from(plain)
        end = HEADER.size + length
        if length > MAX_MESSAGE or end > len(plain) or plain.count(0, end) != len(plain) - end:
            raise SessionFailed("a frame's inner length or padding is wrong", length=length)
        return Frame(kind, plain[HEADER.size : end])


def _opened(keys: DirectionKeys) -> tuple[CipherState, CipherContext]:
    return keys.cipher, stream(keys.mask)


def _next_key(cipher: CipherState) -> CipherState:
    """The cipher, re-keyed where its next message is the first of a new key."""
    if cipher.n and cipher.n % REKEY_EVERY == 0:
        cipher.rekey()
    return cipher
