"""Which version stands, and the order under a full topic key."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha3_256
from itertools import combinations

import pytest

from pqdht.crypto.labels import TOPIC_ORDER
from pqdht.records import Kind, Order, compare, replaces, topic_rank

KEY = b"k" * 32


@dataclass(frozen=True)
class Version:
    """What ordering needs of a record."""

    record_id: bytes
    timestamp: int = 0
    expires: int = 0
    kind: int = Kind.OWNER
    key: bytes = KEY


def test_the_later_timestamp_is_newer_whatever_the_expiry() -> None:
    old, new = Version(b"a", 1, expires=100), Version(b"b", 2, expires=50)
    assert (compare(new, old), compare(old, new)) == (Order.NEWER, Order.OLDER)
    assert replaces(new, old)
    assert not replaces(old, new)


def test_a_record_does_not_replace_itself() -> None:
    one = Version(b"a", 1)
    assert compare(one, one) is Order.SAME
    assert not replaces(one, one)


@pytest.mark.parametrize("kind", [Kind.OWNER, Kind.TOPIC])
def test_two_records_with_one_timestamp_are_equivocation_and_the_smaller_id_stays(kind: Kind) -> None:
    small, large = Version(b"a", 1, kind=kind), Version(b"b", 1, kind=kind)
    assert compare(small, large) is compare(large, small) is Order.EQUIVOCATION
    assert replaces(small, large)
    assert not replaces(large, small)


def test_of_content_the_later_expiry_is_kept() -> None:
    short = Version(b"a", 9, expires=10, kind=Kind.CONTENT)
    long = Version(b"b", 1, expires=11, kind=Kind.CONTENT)
    assert compare(long, short) is Order.NEWER
    assert replaces(long, short)
    assert not replaces(short, long)


def test_content_never_equivocates() -> None:
    a, b = (Version(i, 1, expires=10, kind=Kind.CONTENT) for i in (b"a", b"b"))
    assert (compare(a, b), compare(b, a)) == (Order.NEWER, Order.OLDER)


@pytest.mark.parametrize("kind", [Kind.CONTENT, Kind.OWNER])
def test_storers_end_with_the_same_record_whatever_the_order_of_arrival(kind: Kind) -> None:
    versions = [Version(bytes([i]), i // 2, 7 - i // 3, kind) for i in range(8)]
    for a, b in combinations(versions, 2):
        assert replaces(a, b) != replaces(b, a)
    final = set()
    for start in range(8):
        held = versions[start]
        for new in versions[start:] + versions[:start]:
            held = new if replaces(new, held) else held
        final.add(held)
    assert len(final) == 1


@pytest.mark.parametrize("other", [Version(b"b", key=b"x" * 32), Version(b"b", kind=Kind.TOPIC)])
def test_records_in_different_places_have_no_order(other: Version) -> None:
    with pytest.raises(ValueError, match="no order"):
        compare(Version(b"a"), other)


def test_topic_order_is_stake_then_a_hash_of_key_day_and_node() -> None:
    node = b"n" * 32
    assert topic_rank(KEY, node, 7) == (0, sha3_256(TOPIC_ORDER + KEY + bytes([0, 0, 0, 7]) + node).digest())
    nodes = [bytes([i]) * 32 for i in range(20)]
    today = sorted(nodes, key=lambda n: topic_rank(KEY, n, 7))
    assert today != sorted(nodes, key=lambda n: topic_rank(KEY, n, 8))
    assert today != sorted(nodes, key=lambda n: topic_rank(b"x" * 32, n, 7))
    staked = sorted(nodes, key=lambda n: topic_rank(KEY, n, 7, stake_bits=3 if n == today[-1] else 0))
    assert staked[0] == today[-1]
