"""Reputation in [0, 1] from own experience, 0.5 where there is none (section 7).

Scores of many nodes in bounded memory.  How a score comes about, and every threshold, is in `belief`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .belief import NEWCOMER_RANK as NEWCOMER_RANK
from .belief import REFERRAL_PRIOR, REFERRAL_WEIGHT, Belief, share, shrink, weights_of
from .belief import Deed as Deed
from .memory import make_room

Row = tuple[bytes, float, float, float, float, float, float, float, float, float]
"""node, valid, invalid, alive, silent, praise, fault, reached, missed (weights), at (seconds)."""


class Reputation:
    """Scores of at most `capacity` nodes.

    When it is full the least is forgotten of whom least is known, good and bad apart (`make_room`): to
    push a record out takes as many nodes as it has room for, each with more to remember.
    """

    def __init__(self, capacity: int = 8192) -> None:
        self._capacity = capacity
        self._records: dict[bytes, Belief] = {}

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, node: object) -> bool:
        return node in self._records

    def observe(self, node: bytes, deed: Deed, now: float, weight: float = 1.0) -> None:
        """Count a deed, `weight` times (a fraction where it is less certain).

        Praise of nodes without a record is not kept: what others say begins nothing.  Raises ValueError
        for a weight that is negative or not finite.
        """
        if not 0 <= weight < math.inf:
            raise ValueError(f"weight {weight}")
        if deed is not Deed.PRAISED or node in self._records:
            self._open(node, now).tell(deed, weight)

    def score(self, node: bytes, now: float) -> float:
        """What is thought of a node: [0, 1], 0.5 where nothing is known."""
        return self._seen(node, now).score()

    def rank(self, node: bytes, now: float) -> float:
        """A score to order nodes by: what it is at least, by all we know.

        Three classes: whoever gave more good than bad lies above `NEWCOMER_RANK`, the more the longer we
        know it; the unknown lie on it; whoever scores under 0.5 or has a fault that lasts is below.  Who
        takes only the best starves newcomers; take them by turns, or all who are not below.
        """
        return self._seen(node, now).rank()

    def referred(self, node: bytes, now: float, *, ok: bool) -> None:
        """A node that `node` named could be reached, or not."""
        record = self._open(node, now)
        if ok:
            record.reached, record.missed = share(record.reached, record.missed, 1.0, REFERRAL_WEIGHT)
        else:
            record.missed, record.reached = share(record.missed, record.reached, 1.0, REFERRAL_WEIGHT)

    def referral(self, node: bytes, now: float) -> float:
        """How far what it names is worth a dial: [0, 1], 1 where nothing is known."""
        record = self._seen(node, now)
        good = record.reached + REFERRAL_PRIOR
        return good / (good + record.missed)

    def nodes(self) -> list[bytes]:
        """All of whom anything is remembered, ascending."""
        return sorted(self._records)

    def below(self, score: float, now: float) -> list[bytes]:
        """Who scores less, ascending."""
        return [node for node in self.nodes() if self.score(node, now) < score]

    def dump(self, now: float, nodes: Iterable[bytes] | None = None) -> list[Row]:
        """All that is remembered (of these nodes), in order of node id."""
        rows: list[Row] = []
        for node in self.nodes() if nodes is None else nodes:
            if (record := self._records.get(node)) is not None:
                seen = record.aged(now)
                rows.append((node, *weights_of(seen), seen.at))
        return rows

    def load(self, rows: Iterable[Row], now: float) -> None:
        """Take what `dump` gave in place of all that is remembered.  Raises ValueError for bad numbers."""
        records: dict[bytes, Belief] = {}
        for node, *numbers in rows:
            record = Belief(*numbers)
            if not all(map(math.isfinite, numbers)) or min(weights_of(record)) < 0:
                raise ValueError(f"reputation of {node.hex()}: {numbers}")
            shrink(record)
            record.at = min(record.at, now)
            make_room(records, self._capacity, lambda _, r: r.told, lambda r: r.is_bad)
            records[node] = record
        self._records = records

    def _seen(self, node: bytes, now: float) -> Belief:
        record = self._records.get(node)
        return _UNKNOWN if record is None else record.aged(now)

    def _open(self, node: bytes, now: float) -> Belief:
        """The record of a node as of now, to be changed."""
        if node not in self._records:
            make_room(self._records, self._capacity, lambda _, r: r.aged(now).told, lambda r: r.is_bad)
        record = self._records.get(node, Belief(at=now)).aged(now)
        self._records[node] = record
        return record


_UNKNOWN = Belief()
