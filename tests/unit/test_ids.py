"""ids: the XOR metric and the text form."""

from __future__ import annotations

import random
from typing import Any

import pytest

from pqdht.errors import ConfigError
from pqdht.ids import (
    ID_BITS,
    common_prefix_length,
    distance,
    id_in_bucket,
    leading_zero_bits,
    parse_id,
    parse_owner_id,
)

DICE = random.Random(1)
SOME = [DICE.randbytes(32) for _ in range(8)]
ZERO, ONES = bytes(32), b"\xff" * 32


def test_distance_is_a_metric() -> None:
    for a in SOME:
        assert distance(a, a) == 0
        for b in SOME:
            assert distance(a, b) == distance(b, a)
            assert (distance(a, b) == 0) == (a == b)
            for c in SOME:
                assert distance(a, c) <= distance(a, b) + distance(b, c)


def test_only_one_id_is_at_a_given_distance() -> None:
    at = {distance(SOME[0], b): b for b in SOME}
    assert len(at) == len(SOME)
    assert distance(ZERO, ONES) == 2**256 - 1
    assert distance(ZERO, bytes(31) + b"\x05") == 5


@pytest.mark.parametrize(
    ("other", "shared"),
    [(ZERO, 256), (ONES, 0), (b"\x01" + bytes(31), 7), (bytes(31) + b"\x01", 255), (b"\0\x80" + ZERO[2:], 8)],
)
def test_common_prefix_length(other: bytes, shared: int) -> None:
    assert common_prefix_length(ZERO, other) == common_prefix_length(other, ZERO) == shared


@pytest.mark.parametrize(("digest", "bits"), [(ZERO, 256), (ONES, 0), (b"\0\x1f", 11), (b"\x80", 0)])
def test_leading_zero_bits(digest: bytes, bits: int) -> None:
    assert leading_zero_bits(digest) == bits


@pytest.mark.parametrize("entropy", [ZERO, ONES, SOME[1]])
def test_an_id_in_a_bucket_shares_exactly_its_prefix(entropy: bytes) -> None:
    own = SOME[0]
    for cpl in range(ID_BITS):
        assert common_prefix_length(own, id_in_bucket(own, cpl, entropy)) == cpl


def test_the_rest_of_a_bucket_id_is_the_entropy() -> None:
    made = id_in_bucket(ZERO, 8, SOME[1])
    assert made[0] == 0
    assert made[1] == 0x80 | SOME[1][1]
    assert made[2:] == SOME[1][2:]


@pytest.mark.parametrize("cpl", [-1, 256])
def test_there_is_no_bucket_outside_the_id(cpl: int) -> None:
    with pytest.raises(ValueError, match="cpl"):
        id_in_bucket(ZERO, cpl, ZERO)


def test_parse_id() -> None:
    assert parse_id(SOME[0].hex()) == SOME[0]
    assert parse_id(SOME[0].hex().upper()) == SOME[0]
    assert parse_id(SOME[0]) == parse_owner_id(SOME[0]) == parse_owner_id(SOME[0].hex()) == SOME[0]


@pytest.mark.parametrize(
    "text",
    ["", "00" * 31, "00" * 33, "0x" + "00" * 31, "zz" * 32, "00" * 31 + "0", "00 " * 32, "00" * 32 + "\n"],
)
def test_what_is_not_64_hex_digits_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match="owner id must be 64 hex digits") as caught:
        parse_id(text, "owner id")
    assert caught.value.fields == {"name": "owner id"}


@pytest.mark.parametrize(
    ("value", "given"),
    [(b"", "0 bytes"), (bytes(31), "31 bytes"), (bytes(64), "64 bytes"), (None, "NoneType"), (5, "int")],
)
def test_what_is_not_32_bytes_is_refused_by_name(value: Any, given: str) -> None:
    with pytest.raises(
        ConfigError, match=f"owner id must be 32 bytes or 64 hex digits, got {given}"
    ) as caught:
        parse_owner_id(value)
    assert caught.value.fields == {"name": "owner id"}


def test_a_refused_text_is_not_repeated_at_length() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_id("x" * 100_000)
    assert len(str(caught.value)) < 200
