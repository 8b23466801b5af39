"""The order under a full topic key."""

from __future__ import annotations

from hashlib import sha3_256

from pqdht.crypto.labels import TOPIC_ORDER
from pqdht.records import topic_rank

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
