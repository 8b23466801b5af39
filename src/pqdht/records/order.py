"""Who stays under a full topic key (section 5).  Pure functions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from ..crypto.labels import TOPIC_ORDER, tagged_hash

TOPIC_PER_GROUP = 2
"""Records of one address group that a full topic key keeps before others had their turn."""


def topic_rank(key: bytes, node_id: bytes, day: int, stake_bits: int = 0) -> tuple[int, bytes]:
    """Sort key of the records competing under a full topic key, best first.

    More stake first, then a hash that changes daily, so that no id is close to a topic for ever.
    Age and reputation never count.  At most `TOPIC_PER_GROUP` per address group is for the caller.
    """
    return -stake_bits, tagged_hash(TOPIC_ORDER, key, day.to_bytes(4, "big"), node_id)


class Candidate(NamedTuple):
    """One record under a topic key: `group` is that of who brought it, '' where nobody's counts."""

    owner: bytes
    """owner id"""
    node_id: bytes
    group: str
    stake_bits: int


def topic_order(key: bytes, day: int, candidates: Iterable[Candidate]) -> list[Candidate]:
    """Who stays under a full topic key first: the best `TOPIC_PER_GROUP` of each address group, then the
    rest, both as `topic_rank` says."""
    first: list[Candidate] = []
    rest: list[Candidate] = []
    taken: Counter[str] = Counter()
    for c in sorted(candidates, key=lambda c: topic_rank(key, c.node_id, day, c.stake_bits)):
        is_over = c.group and taken[c.group] >= TOPIC_PER_GROUP
        (rest if is_over else first).append(c)
        taken[c.group] += 1
    return first + rest
