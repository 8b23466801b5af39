"""Who stays under a full topic key (section 5).  Pure functions."""

from __future__ import annotations

from ..crypto.labels import TOPIC_ORDER, tagged_hash

TOPIC_PER_GROUP = 2
"""Records of one address group that a full topic key keeps before others had their turn."""


def topic_rank(key: bytes, node_id: bytes, day: int, stake_bits: int = 0) -> tuple[int, bytes]:
    """Sort key of the records competing under a full topic key, best first.

    More stake first, then a hash that changes daily, so that no id is close to a topic for ever.
    Age and reputation never count.  At most `TOPIC_PER_GROUP` per address group is for the caller.
    """
    return -stake_bits, tagged_hash(TOPIC_ORDER, key, day.to_bytes(4, "big"), node_id)
