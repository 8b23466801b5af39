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


def parse_id(value: bytes | str, what: str = "id") -> bytes:
    """32 bytes, given as they are or as 64 hex digits. Raises ConfigError."""
    raw: object = value
    if isinstance(value, str):
        try:
            raw = bytes.fromhex(value) if len(value) == 2 * ID_BYTES else None
        except ValueError:
            raw = None
    if isinstance(raw, bytes) and len(raw) == ID_BYTES:  # fromhex skips white space
        return raw
    if isinstance(value, str):
        raise ConfigError(f"{what} must be 64 hex digits, got {value!r:.80}", name=what)
    given = f"{len(raw)} bytes" if isinstance(raw, bytes) else type(raw).__name__
    raise ConfigError(f"{what} must be {ID_BYTES} bytes or 64 hex digits, got {given}", name=what)


def parse_owner_id(value: bytes | str) -> OwnerId:
    """An owner id from 64 hex digits (as `pqdht id` prints it) or its 32 bytes. Raises ConfigError."""
    return OwnerId(parse_id(value, "owner id"))


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
