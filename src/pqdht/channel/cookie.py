"""Cookies: a loaded responder answers strangers without remembering them (section 3).

    cookie  = first 16 bytes of HMAC-SHA256(secret of this period, label || address)
    sealed  = salt[16] || ChaCha20-Poly1305(key, nonce 0, cookie)
    key     = H(label || secret of the frame || mac1 || salt)

The idea is that of DTLS and WireGuard (Donenfeld, NDSS 2017, 5.3).  Who sends a first message from an
address that is not its own never sees the cookie; who did not see the first frame, and so its mac1,
cannot open it.  The secret is drawn anew every period and kept for one more.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ..constants import MINUTE_MS
from ..crypto.labels import COOKIE, tagged_hash
from ..errors import HandshakeFailed

COOKIE_SIZE = 16
SALT_SIZE = 16
SEALED_SIZE = SALT_SIZE + COOKIE_SIZE + 16
"""Bytes of a sealed cookie, tag included."""
PERIOD_MS = 2 * MINUTE_MS
"""A cookie is good for the rest of its period and the whole next one."""

_ZERO_NONCE = bytes(12)


class CookieJar:
    """Makes and checks the cookies of one responder.  Its state is two secrets, whoever calls."""

    __slots__ = ("_current", "_period", "_previous", "_random_bytes")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._period: int | None = None
        self._current = self._previous = b""

    def make(self, address: str, now: int) -> bytes:
        """The 16-byte cookie of an address (without a port); `now` in ms since the epoch."""
        self._turn(now)
        return _cookie(self._current, address)

    def check(self, cookie: bytes, address: str, now: int) -> None:
        """Raises HandshakeFailed unless `make` gave this to this address in this period or the last."""
        self._turn(now)
        for secret in (self._current, self._previous):
            if secret and hmac.compare_digest(_cookie(secret, address), cookie):
                return
        raise HandshakeFailed("the cookie is not of this address and time", reason="cookie")

    def _turn(self, now: int) -> None:
        period = now // PERIOD_MS
        if period == self._period:
            return
        # After a longer pause, or a jump of the clock, what was given out before is worth nothing.
        is_next = self._period is not None and period == self._period + 1
        self._previous = self._current if is_next else b""
        self._current = self._random_bytes(32)
        self._period = period


@dataclass(frozen=True, slots=True)
class Gate:
    """How a responder keeps a caller waiting before it computes anything for it."""

    cookies: CookieJar
    address: str
    """The caller's, without its port."""
    is_loaded: Callable[[], bool]
    """Asked once a first message is whole: whether this caller must bring a cookie."""


def _cookie(secret: bytes, address: str) -> bytes:
    return hmac.digest(secret, COOKIE + address.encode(), "sha256")[:COOKIE_SIZE]


def seal(cookie: bytes, frame_secret: bytes, mac1: bytes, salt: bytes) -> bytes:
    """The content of a COOKIE frame, `SEALED_SIZE` bytes; `salt` is 16 random bytes.

    `mac1` is that of the first frame it answers, `frame_secret` the secret of both frames.
    """
    key = tagged_hash(COOKIE, frame_secret, mac1, salt)
    return salt + ChaCha20Poly1305(key).encrypt(_ZERO_NONCE, cookie, None)


def unseal(sealed: bytes, frame_secret: bytes, mac1: bytes) -> bytes:
    """The cookie in a COOKIE frame. Raises HandshakeFailed where it answers another frame."""
    salt, rest = sealed[:SALT_SIZE], sealed[SALT_SIZE:]
    try:
        key = tagged_hash(COOKIE, frame_secret, mac1, salt)
        return ChaCha20Poly1305(key).decrypt(_ZERO_NONCE, rest, None)
    except InvalidTag:
        raise HandshakeFailed("the cookie answers another first message", reason="cookie") from None
