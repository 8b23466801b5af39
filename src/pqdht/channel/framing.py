"""The frame of handshake messages: bytes that look random, and are cheap to refuse (section 3).

    nonce[16] || mask over ( kind u8 || length u16 || padding u16 || Noise message || zeros ) || mac1[16]

    mask = ChaCha20 (RFC 8439, counter and nonce 0) under H(label || secret || nonce)
    mac1 = first 16 bytes of HMAC-SHA256 under H(label || secret) over all bytes before it

`secret` is the responder's node id in pqIK, the network tag in pqXX: neither is secret from a member of
the network, so the frame hides a handshake from a scanner and protects nothing that Noise does not.
Both sides use the same secret for all messages of a handshake, each with a fresh nonce.
"""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from operator import itemgetter

from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from ..crypto.labels import FIRST_FLIGHT_MAC, FIRST_FLIGHT_MASK, tagged_hash
from ..errors import HandshakeFailed

NONCE_SIZE = 16
MAC_SIZE = 16
HEADER = struct.Struct(">BHH")
FRAME_OVERHEAD = NONCE_SIZE + HEADER.size + MAC_SIZE
MAX_PADDING = 1024
"""Bytes of padding a frame may carry."""

_ZERO_NONCE = bytes(16)


class Kind(IntEnum):
    """What a frame carries. Numbers are frozen."""

    IK_1 = 1
    IK_2 = 2
    XX_1 = 3
    XX_2 = 4
    XX_3 = 5
    XX_4 = 6
    COOKIE = 7
    """The answer of a loaded responder to a first message without a cookie."""
    IK_1_COOKIE = 8
    """A cookie and the IK_1 sent before, byte for byte."""
    XX_1_COOKIE = 9
    """A cookie and the XX_1 sent before."""


def stream(key: bytes) -> CipherContext:
    """The ChaCha20 key stream of a 32-byte key, counter and nonce 0; `update` XORs the next bytes."""
    return Cipher(ChaCha20(key, _ZERO_NONCE), mode=None).encryptor()


class FrameKey:
    """Seals and opens the handshake frames of one secret of 32 bytes."""

    __slots__ = ("_mac_key", "secret")

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._mac_key = tagged_hash(FIRST_FLIGHT_MAC, secret)

    def seal(self, kind: Kind, message: bytes, padding: int, nonce: bytes) -> bytes:
        """One frame: `FRAME_OVERHEAD` + the message + `padding` bytes. `nonce` is 16 random bytes."""
        plain = HEADER.pack(kind, len(message), padding) + message + bytes(padding)
        masked = nonce + self._mask(nonce).update(plain)
        return masked + self._mac(masked)

    def header(self, start: bytes) -> tuple[int, int, int]:
        """(kind, length, padding) out of the first 21 bytes: not authentic before `open`."""
        kind, length, padding = HEADER.unpack(self._mask(start[:NONCE_SIZE]).update(start[NONCE_SIZE:]))
        return kind, length, padding

    def open(self, frame: bytes) -> bytes:
        """The Noise message in a whole frame. Raises HandshakeFailed."""
        body = frame[:-MAC_SIZE]
        if not hmac.compare_digest(self._mac(body), frame[-MAC_SIZE:]):
            raise HandshakeFailed("not a handshake of this node and network", reason="mac1")
        plain = self._mask(body[:NONCE_SIZE]).update(body[NONCE_SIZE:])
        _, length, padding = HEADER.unpack_from(plain)
        if plain.count(0, HEADER.size + length) != padding:
            raise HandshakeFailed("handshake padding is not zero", reason="padding")
        return plain[HEADER.size : HEADER.size + length]

    def _mask(self, nonce: bytes) -> CipherContext:
        return stream(tagged_hash(FIRST_FLIGHT_MASK, self.secret, nonce))

    def _mac(self, masked: bytes) -> bytes:
        return hmac.digest(self._mac_key, masked, "sha256")[:MAC_SIZE]


frame_key = lru_cache(256)(FrameKey)
"""The key of a secret, made once while it is in use: its secrets are public names."""


@dataclass(frozen=True, slots=True)
class Expected:
    """One frame that may come next: its kind, its key, and the lengths its message may have."""

    kind: Kind
    key: FrameKey
    shortest: int
    longest: int

    def frame_size(self, start: bytes) -> int | None:
        """The size of the frame that begins with these 21 bytes, None if it is not of this kind."""
        return self.fits(self.key.header(start))

    def fits(self, header: tuple[int, int, int]) -> int | None:
        """The same of a header that was read under this key."""
        kind, length, padding = header
        if kind != self.kind or not self.shortest <= length <= self.longest or padding > MAX_PADDING:
            return None
        return FRAME_OVERHEAD + length + padding


class FrameReader:
    """Cuts handshake frames out of a byte stream, holding at most one of them and what follows it.

    A responder expects frames under two keys at first and tells them apart by their masks: it tries each
    header, and where both seem right, each mac1.
    """

    __slots__ = ("_buffer", "_candidates", "_expected", "mac1")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._expected: tuple[Expected, ...] = ()
        self._candidates: list[tuple[int, Expected]] | None = None
        self.mac1 = b""
        """Of the frame that was read last: a name for it that only who saw it knows."""

    def expect(self, *frames: Expected) -> None:
        """What the next frame may be."""
        self._expected = frames
        self._candidates = None

    def also(self, *frames: Expected) -> None:
        """What it may be besides."""
        self.expect(*self._expected, *frames)

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def next(self) -> tuple[Kind, bytes] | None:
        """(kind, Noise message), or None while bytes are missing. Raises HandshakeFailed."""
        head = NONCE_SIZE + HEADER.size
        if self._candidates is None:
            if len(self._buffer) < head:
                return None
            start = bytes(self._buffer[:head])
            headers = {key: key.header(start) for key in dict.fromkeys(e.key for e in self._expected)}
            sizes = [(e.fits(headers[e.key]), e) for e in self._expected]
            self._candidates = sorted(((n, e) for n, e in sizes if n is not None), key=itemgetter(0))
        error = HandshakeFailed("not a handshake of this node and network", reason="header")
        while self._candidates:
            size, expected = self._candidates[0]
            if len(self._buffer) < size:
                return None
            try:
                message = expected.key.open(bytes(self._buffer[:size]))
            except HandshakeFailed as e:
                error = e
                del self._candidates[0]
                continue
            self.mac1 = bytes(self._buffer[size - MAC_SIZE : size])
            del self._buffer[:size]
            return expected.kind, message
        raise error

    def rest(self) -> bytes:
        """What came after the last frame."""
        return bytes(self._buffer)

    def __len__(self) -> int:
        return len(self._buffer)
