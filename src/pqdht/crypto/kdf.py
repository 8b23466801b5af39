"""HKDF-SHA256 (RFC 5869), plain and in the form the Noise framework uses."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

HASH_SIZE = 32


def hkdf(salt: bytes, ikm: bytes, info: bytes, length: int) -> bytes:
    """`length` bytes (at most 255 * 32) from key material `ikm`. Raises ValueError beyond."""
    return HKDF(SHA256(), length, salt, info).derive(ikm)


def noise_hkdf(chaining_key: bytes, ikm: bytes, n: int) -> tuple[bytes, ...]:
    """`n` outputs of 32 bytes: HKDF(chaining_key, ikm, n) of Noise, revision 34, section 4.3.

    Noise spells it out with HMAC, but it is RFC 5869 with the chaining key as salt and no info.
    """
    out = HKDF(SHA256(), HASH_SIZE * n, chaining_key, b"").derive(ikm)
    return tuple(out[i : i + HASH_SIZE] for i in range(0, HASH_SIZE * n, HASH_SIZE))
