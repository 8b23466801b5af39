"""X-Wing: ML-KEM-768 and X25519 in one KEM (draft-connolly-cfrg-xwing-kem).

It holds while either part holds.  It works over any ML-KEM-768, so both providers share this file
and with it every decision about odd X25519 inputs.
"""

from __future__ import annotations

from hashlib import sha3_256, shake_256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from ..errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .api import Kem, KemPrivateKey, KemPublicKey

SEED_SIZE = 32
PUBLIC_SIZE = 1216
CIPHERTEXT_SIZE = 1120

_MLKEM_PUBLIC = 1184
_MLKEM_CIPHERTEXT = 1088
_MLKEM_SEED = 64
_LABEL = b"\\.//^\\"  # 5c2e2f2f5e5c, the X-Wing in ASCII art


def _x25519(private: X25519PrivateKey, public: X25519PublicKey) -> bytes:
    """RFC 7748 X25519, 32 bytes, zeros for a point of low order.

    pyca refuses those points; the draft does not (the ML-KEM part still carries the secret, and
    both keys enter the hash), so an all-zero result is put back.
    """
    try:
        return private.exchange(public)
    except ValueError:
        return bytes(32)


def _combine(ss_m: bytes, ss_x: bytes, ct_x: bytes, pk_x: bytes) -> bytes:
    return sha3_256(ss_m + ss_x + ct_x + pk_x + _LABEL).digest()


class XWingPrivateKey:
    """A decapsulation key: 32-byte seed, expanded once."""

    __slots__ = ("_mlkem", "_pk_x", "_x25519", "public", "seed")

    def __init__(self, mlkem: Kem, seed: bytes) -> None:
        expanded = shake_256(seed).digest(_MLKEM_SEED + 32)
        self.seed = seed
        self._mlkem: KemPrivateKey = mlkem.private_key(expanded[:_MLKEM_SEED])
        self._x25519 = X25519PrivateKey.from_private_bytes(expanded[_MLKEM_SEED:])
        self._pk_x = self._x25519.public_key().public_bytes_raw()
        self.public = self._mlkem.public + self._pk_x

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The 32-byte shared secret. Raises DecodeError on a wrong length."""
        if len(ciphertext) != CIPHERTEXT_SIZE:
            raise DecodeError(f"X-Wing ciphertext is {CIPHERTEXT_SIZE} bytes, got {len(ciphertext)}")
        ct_x = ciphertext[_MLKEM_CIPHERTEXT:]
        ss_m = self._mlkem.decapsulate(ciphertext[:_MLKEM_CIPHERTEXT])
        ss_x = _x25519(self._x25519, X25519PublicKey.from_public_bytes(ct_x))
        return _combine(ss_m, ss_x, ct_x, self._pk_x)


class XWingPublicKey:
    """An encapsulation key of 1,216 bytes."""

    __slots__ = ("_mlkem", "_pk_x", "_x25519")

    def __init__(self, mlkem: Kem, public: bytes) -> None:
        if len(public) != PUBLIC_SIZE:
            raise DecodeError(f"X-Wing public key is {PUBLIC_SIZE} bytes, got {len(public)}")
        self._mlkem: KemPublicKey = mlkem.public_key(public[:_MLKEM_PUBLIC])
        self._pk_x = public[_MLKEM_PUBLIC:]
        self._x25519 = X25519PublicKey.from_public_bytes(self._pk_x)

    def encapsulate(self) -> tuple[bytes, bytes]:
        """(ciphertext of 1,120 bytes, 32-byte shared secret), fresh each call."""
        return self._encapsulate(X25519PrivateKey.generate())

    def _encapsulate(self, ephemeral: X25519PrivateKey) -> tuple[bytes, bytes]:
        """`encapsulate` with the X25519 coins from the caller, for known answers only."""
        ct_m, ss_m = self._mlkem.encapsulate()
        ct_x = ephemeral.public_key().public_bytes_raw()
        ss_x = _x25519(ephemeral, self._x25519)
        return ct_m + ct_x, _combine(ss_m, ss_x, ct_x, self._pk_x)


class XWing:
    """The KEM `XWing` over an ML-KEM-768."""

    name = "XWing"
    seed_size = SEED_SIZE
    public_size = PUBLIC_SIZE
    ciphertext_size = CIPHERTEXT_SIZE

    def __init__(self, mlkem: Kem, random_bytes: Callable[[int], bytes]) -> None:
        self._mlkem = mlkem
        self._random_bytes = random_bytes

    def generate(self) -> XWingPrivateKey:
        return self.private_key(self._random_bytes(SEED_SIZE))

    def private_key(self, seed: bytes) -> XWingPrivateKey:
        """Raises ValueError on a wrong length."""
        if len(seed) != SEED_SIZE:
            raise ValueError(f"X-Wing seed is {SEED_SIZE} bytes, got {len(seed)}")
        return XWingPrivateKey(self._mlkem, seed)

    def public_key(self, public: bytes) -> XWingPublicKey:
        """Raises DecodeError on a wrong length or an ML-KEM part out of range (FIPS 203, 7.2)."""
        return XWingPublicKey(self._mlkem, public)
