"""MessagePack, typed and strict, by msgspec.  The parser meets hostile bytes first and holds no keys.

Structs are arrays: fields are appended, never reordered.  A longer array than this version knows
decodes (the rest is ignored); a shorter one fills the defaults.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

import msgspec

from ..constants import MAX_MESSAGE
from ..errors import DecodeError

T = TypeVar("T")

Bytes32 = Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]
Bytes8 = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]
U8 = Annotated[int, msgspec.Meta(ge=0, le=0xFF)]
U16 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]
U63 = Annotated[int, msgspec.Meta(ge=0, le=0x7FFF_FFFF_FFFF_FFFF)]


class Struct(msgspec.Struct, array_like=True, frozen=True):
    """Base of everything on the wire."""


encode = msgspec.msgpack.Encoder().encode
"""Any wire struct to bytes; the same struct always gives the same bytes."""


class Decoder(Generic[T]):
    """bytes -> one struct type, or DecodeError. Made once per type, at import."""

    __slots__ = ("_decode", "_limit", "_what")

    def __init__(self, kind: type[T], what: str, limit: int = MAX_MESSAGE) -> None:
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._what = what
        self._limit = limit

    def __call__(self, data: bytes) -> T:
        if len(data) > self._limit:
            raise DecodeError(f"{self._what}: {len(data)} bytes, at most {self._limit}", what=self._what)
        try:
            return self._decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as e:
            raise DecodeError(f"{self._what}: {e}", what=self._what) from None
