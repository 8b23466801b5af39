"""What outlives a restart, as bytes: one version number, then the rows that `dump` gives."""

from __future__ import annotations

import math
from typing import Annotated

import msgspec

from ..errors import DecodeError
from ..wire.codec import U32, Bytes32, Decoder, Struct, encode
from .quarantine import MAX_REASON
from .quarantine import Row as QuarantineRow
from .reputation import Row as ReputationRow

VERSION = 1
MAX_BYTES = 8 * 1024 * 1024
"""Of one encoding; the largest we write is about 1 MiB."""

_Weight = Annotated[float, msgspec.Meta(ge=0)]

_Reason = Annotated[str, msgspec.Meta(max_length=MAX_REASON)]


class _Head(Struct, frozen=True):
    version: int


class _Reputation(Struct, frozen=True):
    version: int
    rows: tuple[
        tuple[
            Bytes32, _Weight, _Weight, _Weight, _Weight, _Weight, _Weight, _Weight, _Weight, float
        ],
        ...,
    ]  # fmt: skip


class _Quarantine(Struct, frozen=True):
    version: int
    rows: tuple[tuple[Bytes32, _Reason, float, float, U32, bool], ...]


_decode_head = Decoder(_Head, "trust data", MAX_BYTES)
_decode_reputation = Decoder(_Reputation, "reputation", MAX_BYTES)
_decode_quarantine = Decoder(_Quarantine, "quarantine", MAX_BYTES)


def encode_reputation(rows: list[ReputationRow]) -> bytes:
    """What `Reputation.dump` gave, to bytes.  Node ids are 32 bytes."""
    return encode(_Reputation(VERSION, tuple(rows)))


def decode_reputation(data: bytes) -> list[ReputationRow]:
    """For `Reputation.load`.  Raises DecodeError for damage and for versions unknown here."""
    _check_version(data, "reputation")
    rows = list(_decode_reputation(data).rows)
    for row in rows:
        _check_finite("reputation", *row[1:])
    return rows


def encode_quarantine(rows: list[QuarantineRow]) -> bytes:
    """What `Quarantine.dump` gave, to bytes.  Node ids are 32 bytes."""
    return encode(_Quarantine(VERSION, tuple(rows)))


def decode_quarantine(data: bytes) -> list[QuarantineRow]:
    """For `Quarantine.load`.  Raises DecodeError for damage and for versions unknown here."""
    _check_version(data, "quarantine")
    rows = list(_decode_quarantine(data).rows)
    for row in rows:
        _check_finite("quarantine", row[2], row[3])
    return rows


def _check_version(data: bytes, what: str) -> None:
    version = _decode_head(data).version
    if version != VERSION:
        raise DecodeError(f"{what}: version {version}, this pqdht reads {VERSION}", what=what)


def _check_finite(what: str, *numbers: float) -> None:
    if not all(map(math.isfinite, numbers)):
        raise DecodeError(f"{what}: a number that is not finite", what=what)
