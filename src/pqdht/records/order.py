"""Which of two records stands, and who stays under a full topic key (section 5).  Pure functions."""

from __future__ import annotations

from enum import Enum
from typing import Protocol

from ..crypto.labels import TOPIC_ORDER, tagged_hash
from .record import Kind


class Order(Enum):
    """How one record stands to another in the same place."""

    SAME = "same"
    NEWER = "newer"
    OLDER = "older"
    EQUIVOCATION = "equivocation"
    """Two records of one owner with one timestamp: an event; storers keep the smaller record id."""


class Versioned(Protocol):
    """What ordering needs of a record: `Record` and `storage.StoredRecord` both have it."""

    @property
    def kind(self) -> int: ...
    @property
    def key(self) -> bytes: ...
    @property
    def record_id(self) -> bytes: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def expires(self) -> int: ...


def compare(a: Versioned, b: Versioned) -> Order:
    """How `a` stands to `b`: same kind and key, and (content aside) same owner.  Raises ValueError.

    Content: the later expiry is newer, ties by the smaller id.  Others: the later timestamp is newer.
    """
    if (a.kind, a.key) != (b.kind, b.key):
        raise ValueError("records under different keys have no order")
    if a.record_id == b.record_id:
        return Order.SAME
    if a.kind == Kind.CONTENT:
        return Order.NEWER if (-a.expires, a.record_id) < (-b.expires, b.record_id) else Order.OLDER
    if a.timestamp == b.timestamp:
        return Order.EQUIVOCATION
    return Order.NEWER if a.timestamp > b.timestamp else Order.OLDER


def replaces(new: Versioned, held: Versioned) -> bool:
    """Whether a storer that holds `held` keeps `new` instead."""
    order = compare(new, held)
    return order is Order.NEWER or (order is Order.EQUIVOCATION and new.record_id < held.record_id)


TOPIC_PER_GROUP = 2
"""Records of one address group that a full topic key keeps before others had their turn."""


def topic_rank(key: bytes, node_id: bytes, day: int, stake_bits: int = 0) -> tuple[int, bytes]:
    """Sort key of the records competing under a full topic key, best first.

    More stake first, then a hash that changes daily, so that no id is close to a topic for ever.
    Age and reputation never count.  At most `TOPIC_PER_GROUP` per address group is for the caller.
    """
    return -stake_bits, tagged_hash(TOPIC_ORDER, key, day.to_bytes(4, "big"), node_id)
