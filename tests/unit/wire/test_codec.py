"""wire.codec: strict MessagePack, whole or DecodeError."""

from __future__ import annotations

import msgspec
import pytest

from pqdht.constants import MAX_MESSAGE
from pqdht.errors import DecodeError
from pqdht.wire.codec import U8, Bytes32, Decoder, Struct, encode


class Inner(Struct, frozen=True):
    n: U8


class Old(Struct, frozen=True):
    id: Bytes32
    inner: Inner
    note: str = "none"


class New(Struct, frozen=True):
    """`Old` as a later version may have it: a field more, here and inside."""

    id: Bytes32
    inner: tuple[int, bytes]
    note: str = "none"
    more: dict[str, int] | None = None


decode_old = Decoder(Old, "old")
OLD = Old(bytes(32), Inner(7), "x")


def test_round_trip() -> None:
    assert decode_old(encode(OLD)) == OLD


def test_the_same_struct_is_always_the_same_bytes() -> None:
    assert encode(OLD) == encode(Old(bytes(32), Inner(7), "x")) == encode(decode_old(encode(OLD)))


def test_a_longer_array_of_a_later_version_decodes() -> None:
    later = New(bytes(32), (7, b"new"), "x", {"also": 1})
    assert decode_old(encode(later)) == OLD


def test_a_shorter_array_takes_the_defaults() -> None:
    assert decode_old(msgspec.msgpack.encode([bytes(32), [7]])) == Old(bytes(32), Inner(7), "none")


def test_any_truncation_is_refused() -> None:
    whole = encode(OLD)
    for cut in range(len(whole)):
        with pytest.raises(DecodeError):
            decode_old(whole[:cut])


@pytest.mark.parametrize("tail", [b"\0", b"\xc0", encode(OLD)], ids=["zero", "nil", "twice"])
def test_trailing_bytes_are_refused(tail: bytes) -> None:
    with pytest.raises(DecodeError, match="trailing"):
        decode_old(encode(OLD) + tail)


def test_the_limit_counts_bytes_and_is_inclusive() -> None:
    whole = encode(OLD)
    assert Decoder(Old, "old", limit=len(whole))(whole) == OLD
    with pytest.raises(DecodeError, match=f"{len(whole)} bytes, at most {len(whole) - 1}"):
        Decoder(Old, "old", limit=len(whole) - 1)(whole)


def test_the_default_limit_is_one_message() -> None:
    padding = b"\xc4"  # never looked at: the size alone decides
    with pytest.raises(DecodeError, match=f"at most {MAX_MESSAGE}"):
        decode_old(padding * (MAX_MESSAGE + 1))


HOSTILE = {
    "empty": b"",
    "nil": b"\xc0",
    "reserved opcode": b"\xc1",
    "a map for an array": msgspec.msgpack.encode({"id": bytes(32), "inner": [7]}),
    "text for bytes": msgspec.msgpack.encode(["x" * 32, [7]]),
    "31 bytes": msgspec.msgpack.encode([bytes(31), [7]]),
    "33 bytes": msgspec.msgpack.encode([bytes(33), [7]]),
    "a float for an int": msgspec.msgpack.encode([bytes(32), [7.0]]),
    "a bool for an int": msgspec.msgpack.encode([bytes(32), [True]]),
    "text for an int": msgspec.msgpack.encode([bytes(32), ["7"]]),
    "too large an int": msgspec.msgpack.encode([bytes(32), [256]]),
    "a negative int": msgspec.msgpack.encode([bytes(32), [-1]]),
    "nil for a field": msgspec.msgpack.encode([None, [7]]),
    "bad UTF-8": b"\x93\xc4\x20" + bytes(32) + b"\x91\x07\xa1\xff",
    "array of 4 G items": b"\xdd\xff\xff\xff\xff",
    "bytes of 4 G": b"\x93\xc6\xff\xff\xff\xff",
    "more fields announced than sent": b"\x95" + encode(OLD)[1:],
    "unknown map of 4 G pairs": b"\x94" + encode(OLD)[1:] + b"\xdf\xff\xff\xff\xff",
    "nested 20,000 deep": b"\x94" + encode(OLD)[1:] + b"\x91" * 20_000 + b"\xc0",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_raise_decode_error(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_old(data)
    assert caught.value.fields["what"] == "old"
    assert str(caught.value).startswith("old: ")
