"""The routing table: k-buckets by common prefix length, own neighbourhood whole, half re-drawn (section 6).

Kademlia (Maymounkov and Mazieres 2002) keeps whoever came first, and an attacker who never leaves
then owns the table after a week.  So only the older half of a bucket is held by tenure; the younger
half is drawn afresh every hour from a pool of verified candidates.  The pool has keyed-hash cells by
address prefix (as Bitcoin's addrman; Heilman et al. 2015): one prefix fills one cell, however many
ids it makes.  The draw itself is a keyed hash of id and hour, so that neither repetition nor order
of arrival helps.

What "enters" is decided by the caller: only nodes that completed a handshake *and* answered a
question of ours.  Times are monotonic seconds handed in; addresses appear as two labels, `group`
(/24 or /48) and `wide` (/32 of IPv6, else the group).
"""

from __future__ import annotations

import random
from bisect import insort
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Generic, TypeVar

from ..ids import ID_BITS

C = TypeVar("C")

CELLS_PER_K = 4
"""Candidate cells of one bucket, in units of k: enough to draw from, and a bound on what is kept."""


class Reason(StrEnum):
    """Why a node is not in the table.  All but OWN_ID may still wait in the candidate pool."""

    OWN_ID = "own_id"
    BUCKET_FULL = "bucket_full"
    GROUP_IN_BUCKET = "group_in_bucket"
    GROUP_IN_TABLE = "group_in_table"
    WIDE_GROUP_IN_TABLE = "wide_group_in_table"


@dataclass(slots=True, eq=False)
class Entry(Generic[C]):
    """One peer.  `first_seen` is when it entered the table, the tenure it has."""

    node_id: bytes
    contact: C
    group: str
    wide: str
    first_seen: float
    last_heard: float
    rtt: float | None = None
    """Seconds, as last told."""
    pinned: bool = False
    answered: int = 0
    """How often it answered."""
    failures: int = 0
    """Consecutive unanswered questions."""
    failing_since: float = 0.0
    number: int = field(init=False, repr=False)
    """The id as an integer: XOR without conversions."""

    def __post_init__(self) -> None:
        self.number = int.from_bytes(self.node_id, "big")


@dataclass(frozen=True, slots=True)
class Added(Generic[C]):
    """The node is in the table; `is_new` unless it was before."""

    entry: Entry[C]
    is_new: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """The node is not in the table."""

    reason: Reason


class Table(Generic[C]):
    """Peers of one node.

    `per_bucket`, `per_table`, `per_wide`: most contacts of one group in a bucket and in the table, and
    of one wide group in the table; they hold where `group_limits`, also in the neighbourhood (else
    cheap addresses would buy it).  `secret` (32 B) keys the draw; without it `dice` gives one, which
    is enough only if others never see `dice`'s output.  After `max_failures` in a row a peer is
    replaced.  Candidates unheard for `candidate_age_s` are not drawn.
    """

    def __init__(
        self,
        own: bytes,
        k: int,
        *,
        per_bucket: int,
        per_table: int,
        per_wide: int,
        group_limits: bool,
        dice: random.Random,
        secret: bytes | None = None,
        max_failures: int = 3,
        candidate_age_s: float = 7200.0,
    ) -> None:
        self.own = own
        self.k = k
        self._own_number = int.from_bytes(own, "big")
        self._per_bucket, self._per_table, self._per_wide = per_bucket, per_table, per_wide
        self._group_limits = group_limits
        self._secret = dice.randbytes(32) if secret is None else secret
        self._max_failures = max_failures
        self._candidate_age_s = candidate_age_s
        self._entries: dict[bytes, Entry[C]] = {}
        self._buckets: dict[int, list[Entry[C]]] = {}  # by cpl, never empty, ascending first_seen
        self._candidates: dict[bytes, Entry[C]] = {}
        self._cells: dict[tuple[int, int], Entry[C]] = {}
        self._groups: Counter[str] = Counter()
        self._wides: Counter[str] = Counter()
        self._looked_up: dict[int, float] = {}
        self._radius: int | None = None
        self._epoch = 0
        self._last_heard = float("-inf")
        self._refused: Counter[str] = Counter()
        self._evicted = 0

    # --- coming and going ------------------------------------------------------------------------

    def add(
        self, node_id: bytes, contact: C, group: str, wide: str, now: float, *, pinned: bool = False
    ) -> Added[C] | Refused:
        """A node completed a handshake and answered: let it in, bring it up to date, or pool it.

        A node that moved to another address group is asked for the limits again.
        """
        if node_id == self.own:
            self._refused[Reason.OWN_ID] += 1
            return Refused(Reason.OWN_ID)
        self._last_heard = max(self._last_heard, now)
        entry = self._entries.get(node_id)
        is_new = entry is None
        if entry is None:
            entry = self._unpool(node_id) or Entry(node_id, contact, group, wide, now, now)
            entry.first_seen = now
        elif (entry.group, entry.wide) == (group, wide) and entry.pinned >= pinned:
            entry.contact = contact
            entry.answered += 1
            _alive(entry, now)
            return Added(entry, is_new)
        else:
            self._take(entry)  # it is counted under other labels from now on
        entry.contact, entry.group, entry.wide = contact, group, wide
        entry.pinned |= pinned
        entry.answered += 1
        _alive(entry, now)
        reason = self._admit(entry)
        if reason is None:
            return Added(entry, is_new)
        self._refused[reason] += 1
        self._pool(entry)
        return Refused(reason)

    def heard(self, node_id: bytes, now: float, rtt: float | None = None) -> None:
        """A sign of life; with `rtt` (seconds) it was an answer.  Unknown nodes are ignored."""
        self._last_heard = max(self._last_heard, now)
        entry = self._entries.get(node_id) or self._candidates.get(node_id)
        if entry is None:
            return
        _alive(entry, now)
        if rtt is not None:
            entry.rtt = rtt
            entry.answered += 1

    def failed(self, node_id: bytes, now: float) -> bool:
        """A question went unanswered.  True if the node lost its place (to a candidate, if any).

        While nobody at all is heard, the fault is probably ours, and nobody is thrown out.
        """
        self._unpool(node_id)
        entry = self._entries.get(node_id)
        if entry is None:
            return False
        if entry.failures == 0:
            entry.failing_since = now
        entry.failures += 1
        patient = entry.failures < self._max_failures or self._last_heard <= entry.failing_since
        if entry.pinned or patient:
            return False
        self._take(entry)
        self._evicted += 1
        self._fill(self._cpl(entry), now)
        return True

    def remove(self, node_id: bytes, now: float) -> bool:
        """Drop a node, pinned or not, from table and pool.  True if it was in the table."""
        self._unpool(node_id)
        entry = self._entries.get(node_id)
        if entry is None:
            return False
        self._take(entry)
        self._fill(self._cpl(entry), now)
        return True

    def pin(self, node_id: bytes) -> bool:
        """Never evict this node; it stops counting against limits.  False if it is not in the table."""
        entry = self._entries.get(node_id)
        if entry is None:
            return False
        if not entry.pinned:
            self._take(entry)
            entry.pinned = True
            self._insert(entry)
        return True

    def redraw(self, now: float) -> None:
        """Draw the younger half of each bucket afresh from itself and its candidates.  Once an hour."""
        self._epoch += 1
        oldest = now - self._candidate_age_s
        for stale in [e for e in self._candidates.values() if e.last_heard < oldest]:
            self._unpool(stale.node_id)
        cpls = {*self._buckets, *(cpl for cpl, _ in self._cells)}
        for cpl in sorted(cpls):
            drawn = self._outer(cpl)[(self.k + 1) // 2 :]
            for entry in drawn:
                self._take(entry)
            lots = [*drawn, *self._drawable(cpl)]
            for entry in sorted(lots, key=self._lot):
                was_candidate = self._unpool(entry.node_id) is not None
                if was_candidate:
                    entry.first_seen = now
                if self._admit(entry) is not None:
                    self._pool(entry)

    def drawn_anew(self, now: float) -> int:
        """How many places a draw would give to candidates, group limits aside.  Changes nothing."""
        oldest = now - self._candidate_age_s
        places = 0
        for cpl in self._buckets:
            drawn = self._outer(cpl)[(self.k + 1) // 2 :]
            fresh = [e for e in self._drawable(cpl) if e.last_heard >= oldest]
            lots = sorted([*drawn, *fresh], key=self._lot)[: len(drawn)]
            places += sum(e.node_id in self._candidates for e in lots)
        return places

    # --- questions -------------------------------------------------------------------------------

    def closest(
        self,
        target: bytes,
        n: int,
        *,
        heard_since: float | None = None,
        exclude: Collection[bytes] = (),
    ) -> list[Entry[C]]:
        """The up to `n` entries closest to `target`, ascending; only those heard since, if given.

        With x = own XOR target, bucket i lies wholly before every deeper one if bit i of x is set and
        wholly behind if not: buckets with a set bit ascending, then the others descending, are in
        order of distance, and only as many are looked at as it takes.
        """
        goal = int.from_bytes(target, "big")
        x = goal ^ self._own_number
        found: list[Entry[C]] = []
        for cpl in self._by_distance(x):
            usable = [
                e
                for e in self._buckets[cpl]
                if (heard_since is None or e.last_heard >= heard_since) and e.node_id not in exclude
            ]
            usable.sort(key=lambda e: e.number ^ goal)
            found += usable
            if len(found) >= n:
                break
        return found[:n]

    def get(self, node_id: bytes) -> Entry[C] | None:
        """The entry of a node in the table."""
        return self._entries.get(node_id)

    def refusal(self, node_id: bytes, group: str, wide: str) -> Reason | None:
        """Why a node that is not in the table could not enter it now; None if it could."""
        if node_id == self.own:
            return Reason.OWN_ID
        return self._refusal(int.from_bytes(node_id, "big"), group, wide)

    def is_bucket_full(self, cpl: int) -> bool:
        """Whether a bucket holds the k that it may hold outside our neighbourhood."""
        return len(self._buckets.get(cpl, ())) >= self.k

    def is_neighbour(self, node_id: bytes) -> bool:
        """Whether this id is, or would be, among the 2k closest to our own."""
        return self._is_near(int.from_bytes(node_id, "big"))

    def looked_up(self, target: bytes, now: float) -> None:
        """A lookup of `target` was made: its bucket needs no refresh for a while."""
        x = int.from_bytes(target, "big") ^ self._own_number
        self._looked_up[ID_BITS - x.bit_length()] = now

    def buckets_to_refresh(self, now: float, idle_s: float) -> list[int]:
        """Common prefix lengths without a lookup for `idle_s` seconds, ascending.

        Ends one past the bucket of the k-th closest peer: a lookup there returns everything deeper,
        so a single id made very close to ours cannot cause a lookup per bit.
        """
        nearest = self.closest(self.own, self.k)
        last = self._cpl(nearest[-1]) + 1 if nearest else 0
        due = now - idle_s
        return [cpl for cpl in range(last + 1) if self._looked_up.get(cpl, due) <= due]

    def bucket_of(self, node_id: bytes) -> int:
        """The bucket a node belongs to: the common prefix length with our own id."""
        return self._cpl_of(int.from_bytes(node_id, "big"))

    def members(self, bucket: int) -> list[bytes]:
        """The nodes in one bucket, the longest held first."""
        return [e.node_id for e in self._buckets.get(bucket, ())]

    def group_count(self, group: str) -> int:
        """Unpinned entries of one address group."""
        return self._groups[group]

    def wide_count(self, wide: str) -> int:
        """Unpinned entries of one wide address group."""
        return self._wides[wide]

    def candidates(self) -> list[Entry[C]]:
        """The candidate pool, in id order."""
        return sorted(self._candidates.values(), key=lambda e: e.number)

    def __iter__(self) -> Iterator[Entry[C]]:
        return iter(sorted(self._entries.values(), key=lambda e: e.number))

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, node_id: object) -> bool:
        return node_id in self._entries

    def status(self) -> dict[str, Any]:
        """Figures for people and metrics, JSON-friendly."""
        return {
            "nodes": len(self._entries),
            "pinned": sum(e.pinned for e in self._entries.values()),
            "neighbours": sum(self._is_near(e.number) for e in self._entries.values()),
            "candidates": len(self._candidates),
            "groups": len(self._groups),
            "largest_group": max(self._groups.values(), default=0),
            "largest_wide_group": max(self._wides.values(), default=0),
            "buckets": {cpl: len(self._buckets[cpl]) for cpl in sorted(self._buckets)},
            "evicted": self._evicted,
            "refused": {reason: self._refused[reason] for reason in sorted(self._refused)},
        }

    # --- buckets ---------------------------------------------------------------------------------

    def _cpl(self, entry: Entry[C]) -> int:
        return self._cpl_of(entry.number)

    def _cpl_of(self, number: int) -> int:
        return ID_BITS - (number ^ self._own_number).bit_length()

    def _by_distance(self, x: int) -> list[int]:
        filled = sorted(self._buckets)
        ahead = [cpl for cpl in filled if x >> (ID_BITS - 1 - cpl) & 1]
        behind = [cpl for cpl in reversed(filled) if not x >> (ID_BITS - 1 - cpl) & 1]
        return ahead + behind

    def _is_near(self, number: int) -> bool:
        if self._radius is None:
            nearest = self.closest(self.own, 2 * self.k)
            full = len(nearest) == 2 * self.k
            self._radius = nearest[-1].number ^ self._own_number if full else 1 << ID_BITS
        return number ^ self._own_number <= self._radius

    def _outer(self, cpl: int) -> list[Entry[C]]:
        """Entries of a bucket that tenure and draw apply to, the longest held first."""
        return [e for e in self._buckets.get(cpl, ()) if not e.pinned and not self._is_near(e.number)]

    def _admit(self, entry: Entry[C]) -> Reason | None:
        """Insert, or say why not."""
        reason = None if entry.pinned else self._refusal(entry.number, entry.group, entry.wide)
        if reason is None:
            self._insert(entry)
            self._trim()
        return reason

    def _refusal(self, number: int, group: str, wide: str) -> Reason | None:
        others = [e for e in self._buckets.get(self._cpl_of(number), ()) if not e.pinned]
        if self._group_limits:
            if sum(e.group == group for e in others) >= self._per_bucket:
                return Reason.GROUP_IN_BUCKET
            if self._groups[group] >= self._per_table:
                return Reason.GROUP_IN_TABLE
            if self._wides[wide] >= self._per_wide:
                return Reason.WIDE_GROUP_IN_TABLE
        if len(others) >= self.k and not self._is_near(number):
            return Reason.BUCKET_FULL
        return None

    def _trim(self) -> None:
        """A new neighbour pushed another out of the neighbourhood: its bucket is k deep again."""
        for cpl, bucket in list(self._buckets.items()):
            if len(bucket) > self.k:
                over = sum(not e.pinned for e in bucket) - self.k
                outer = self._outer(cpl)
                for entry in outer[max(0, len(outer) - over) :] if over > 0 else ():
                    self._take(entry)
                    self._pool(entry)

    def _insert(self, entry: Entry[C]) -> None:
        self._entries[entry.node_id] = entry
        insort(self._buckets.setdefault(self._cpl(entry), []), entry, key=lambda e: e.first_seen)
        self._count(entry, 1)
        self._radius = None

    def _take(self, entry: Entry[C]) -> None:
        del self._entries[entry.node_id]
        cpl = self._cpl(entry)
        self._buckets[cpl].remove(entry)
        if not self._buckets[cpl]:
            del self._buckets[cpl]
        self._count(entry, -1)
        self._radius = None

    def _count(self, entry: Entry[C], by: int) -> None:
        if entry.pinned:
            return
        for counter, label in ((self._groups, entry.group), (self._wides, entry.wide)):
            counter[label] += by
            if not counter[label]:
                del counter[label]

    # --- candidates ------------------------------------------------------------------------------

    def _keyed(self, data: bytes) -> int:
        return int.from_bytes(blake2b(data, key=self._secret, digest_size=8).digest(), "big")

    def _lot(self, entry: Entry[C]) -> int:
        """This hour's lot of an id; the lowest win."""
        return self._keyed(b"lot" + self._epoch.to_bytes(8, "big") + entry.node_id)

    def _cell(self, entry: Entry[C]) -> tuple[int, int]:
        label = entry.wide.encode() if self._group_limits else entry.node_id
        return self._cpl(entry), self._keyed(b"cell" + label) % (CELLS_PER_K * self.k)

    def _pool(self, entry: Entry[C]) -> None:
        cell = self._cell(entry)
        holder = self._cells.get(cell)
        if holder is not None:
            if self._lot(holder) < self._lot(entry):
                return
            del self._candidates[holder.node_id]
        self._cells[cell] = entry
        self._candidates[entry.node_id] = entry

    def _unpool(self, node_id: bytes) -> Entry[C] | None:
        entry = self._candidates.pop(node_id, None)
        if entry is not None:
            del self._cells[self._cell(entry)]
        return entry

    def _drawable(self, cpl: int) -> list[Entry[C]]:
        return [e for e in self._candidates.values() if self._cpl(e) == cpl]

    def _fill(self, cpl: int, now: float) -> None:
        """A place in bucket `cpl` is free: give it to a candidate, and let in who is a neighbour now."""
        oldest = now - self._candidate_age_s
        ready = [
            e
            for e in self._candidates.values()
            if e.last_heard >= oldest and (self._cpl(e) == cpl or self._is_near(e.number))
        ]
        for entry in sorted(ready, key=self._lot):
            if self._unpool(entry.node_id) is None:
                continue  # lost its cell meanwhile
            entry.first_seen = now
            if self._admit(entry) is not None:
                self._pool(entry)


def _alive(entry: Entry[Any], now: float) -> None:
    entry.last_heard = max(entry.last_heard, now)
    entry.failures = 0
