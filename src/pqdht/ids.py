"""256-bit ids and the XOR metric (Maymounkov and Mazieres, "Kademlia", 2002).

Ids are plain `bytes` of length 32 with a distinct static type each: hashing, comparing and
sending them costs nothing, and the type checker still keeps them apart.
"""

from __future__ import annotations

from typing import NewType

from .errors import ConfigError

ID_BYTES = 32
ID_BITS = 256

NodeId = NewType("NodeId", bytes)
OwnerId = NewType("OwnerId", bytes)
Key = NewType("Key", bytes)
RecordId = NewType("RecordId", bytes)


def distance(a: bytes, b: bytes) -> int:
    """XOR distance of two ids, 0..2^256-1."""
    return int.from_bytes(a, "big") ^ int.from_bytes(b, "big")


def common_prefix_length(a: bytes, b: bytes) -> int:
    """How many leading bits two ids share, 0..256."""
    return ID_BITS - distance(a, b).bit_length()


def parse_id(text: str, what: str = "id") -> bytes:
    """32 bytes from 64 hex digits. Raises ConfigError."""
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != ID_BYTES or len(text) != 2 * ID_BYTES:  # fromhex skips white space
        raise ConfigError(f"{what} must be 64 hex digits, got {text!r}", name=what)
    return raw


def leading_zero_bits(digest: bytes) -> int:
    """Leading zero bits of a digest."""
    return len(digest) * 8 - int.from_bytes(digest, "big").bit_length()


def id_in_bucket(own: bytes, cpl: int, entropy: bytes) -> bytes:
    """An id that shares exactly `cpl` leading bits with `own`; the rest from `entropy` (32 B)."""
    if not 0 <= cpl < ID_BITS:
        raise ValueError("cpl out of range")
    shift = ID_BITS - cpl - 1
    own_int = int.from_bytes(own, "big")
    low = int.from_bytes(entropy, "big") & ((1 << shift) - 1)
    return ((((own_int >> shift) ^ 1) << shift) | low).to_bytes(ID_BYTES, "big")
