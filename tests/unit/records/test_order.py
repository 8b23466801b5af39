"""The order under a full topic key."""

from __future__ import annotations

from hashlib import sha3_256

from pqdht.crypto.labels import TOPIC_ORDER
from pqdht.records import TOPIC_PER_GROUP, Candidate, topic_order, topic_rank

KEY = b"k" * 32


def test_topic_order_is_stake_then_a_hash_of_key_day_and_node() -> None:
    node = b"n" * 32
    assert topic_rank(KEY, node, 7) == (0, sha3_256(TOPIC_ORDER + KEY + bytes([0, 0, 0, 7]) + node).digest())
    nodes = [bytes([i]) * 32 for i in range(20)]
    today = sorted(nodes, key=lambda n: topic_rank(KEY, n, 7))
    assert today != sorted(nodes, key=lambda n: topic_rank(KEY, n, 8))
    assert today != sorted(nodes, key=lambda n: topic_rank(b"x" * 32, n, 7))
    staked = sorted(nodes, key=lambda n: topic_rank(KEY, n, 7, stake_bits=3 if n == today[-1] else 0))
    assert staked[0] == today[-1]


def test_two_of_each_address_group_come_before_the_rest_whatever_their_stake() -> None:
    crowd = [Candidate(b"o", bytes([i]) * 32, "192.0.2.0/24", 9) for i in range(6)]
    alone = Candidate(b"o", b"a" * 32, "203.0.113.0/24", 0)
    unknown = [Candidate(b"o", bytes([i]) * 32, "", 0) for i in range(100, 104)]
    ordered = topic_order(KEY, 7, [*crowd, alone, *unknown])
    assert sorted(ordered) == sorted([*crowd, alone, *unknown])
    assert set(ordered[:TOPIC_PER_GROUP]) < set(crowd)  # the best staked of the crowd
    assert set(ordered[TOPIC_PER_GROUP : TOPIC_PER_GROUP + 5]) == {alone, *unknown}
    assert set(ordered[TOPIC_PER_GROUP + 5 :]) < set(crowd)
    assert topic_order(KEY, 7, reversed([*crowd, alone, *unknown])) == ordered
