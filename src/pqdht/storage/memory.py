"""Records in memory: the store of the simulator, and the index that SQLite's store keeps over its file."""

from __future__ import annotations

import heapq
import threading
from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from ..errors import Closed, StorageFull
from .base import Floor, StoredRecord, Usage

Pair = tuple[bytes, bytes]
"""(key, owner)"""
Sizes = dict[Pair, int]

MAX_FLOORS = 100_000
"""Floors remembered (about 35 MB). A floor outlives its record by days, so no record quota bounds
them; past this the oldest go first, which shortens the protection against rollback under a flood."""


class Entry(Protocol):
    """What accounting needs to know of a record."""

    @property
    def size(self) -> int: ...
    @property
    def group(self) -> str: ...
    @property
    def expires(self) -> int: ...


E = TypeVar("E", bound=Entry)


class Index(Generic[E]):
    """What is held by (key, owner), who takes how much, and the floors.  Not durable by itself."""

    def __init__(self, max_bytes: int, max_floors: int = MAX_FLOORS) -> None:
        self._max_bytes = max_bytes
        self._max_floors = max_floors
        self._held: dict[bytes, dict[bytes, E]] = {}
        self._floors: dict[Pair, tuple[int, int]] = {}
        self._owners: dict[bytes, tuple[int, int]] = {}
        self._groups: dict[str, tuple[int, int]] = {}
        self._records = 0
        self._bytes = 0

    def under(self, key: bytes) -> Mapping[bytes, E]:
        """Entries under a key, by owner."""
        return self._held.get(key, {})

    def keys(self) -> list[bytes]:
        return sorted(self._held)

    def usage_of_owner(self, owner: bytes) -> Usage:
        return Usage(*self._owners.get(owner, (0, 0)))

    def usage_of_group(self, group: str) -> Usage:
        return Usage(*self._groups.get(group, (0, 0)))

    def usage(self) -> Usage:
        return Usage(self._records, self._bytes)

    def floor(self, key: bytes, owner: bytes) -> int:
        return self._floors.get((key, owner), (0, 0))[0]

    def floors(self) -> list[Floor]:
        """Every floor, ascending by (key, owner)."""
        return [Floor(*pair, *self._floors[pair]) for pair in sorted(self._floors)]

    # --- changing ------------------------------------------------------------------------------

    def growth(
        self, put: Iterable[StoredRecord], remove: Iterable[Pair], pending: Mapping[Pair, int]
    ) -> tuple[int, Sizes]:
        """Bytes a change would add, and the sizes after it of the pairs it touches.

        `pending`: the sizes after changes that are accepted but not applied yet.
        """
        grown = 0
        sizes: Sizes = {}
        for pair, size in [*((pair, 0) for pair in remove), *(((r.key, r.owner), r.size) for r in put)]:
            before = sizes.get(pair, pending.get(pair))
            if before is None:
                entry = self.under(pair[0]).get(pair[1])
                before = entry.size if entry is not None else 0
            grown += size - before
            sizes[pair] = size
        return grown, sizes

    def check_room(self, grown: int, pending: int = 0) -> None:
        """Raises StorageFull where `grown` more bytes, over what is held and `pending`, exceed the quota.

        What does not grow always passes: a full store can still replace and remove.
        """
        if grown > 0 and self._bytes + pending + grown > self._max_bytes:
            raise StorageFull(
                f"the record store is full ({self._bytes} of {self._max_bytes} bytes): raise its quota "
                "or wait until records expire",
                used=self._bytes,
                max_bytes=self._max_bytes,
            )

    def put(self, key: bytes, owner: bytes, entry: E) -> None:
        self.remove(key, owner)
        self._held.setdefault(key, {})[owner] = entry
        self._count(owner, entry, +1)

    def remove(self, key: bytes, owner: bytes) -> None:
        owners = self._held.get(key)
        if owners is None or (entry := owners.pop(owner, None)) is None:
            return
        if not owners:
            del self._held[key]
        self._count(owner, entry, -1)

    def raise_floor(self, floor: Floor) -> None:
        """Remember a timestamp; one lower than what is remembered changes nothing."""
        pair = floor.key, floor.owner
        timestamp, expires = self._floors.get(pair, (0, 0))
        if floor.timestamp >= timestamp:
            self._floors[pair] = floor.timestamp, max(floor.expires, expires)

    def expire(self, now: int) -> tuple[list[Pair], list[Floor]]:
        """Drop what is over at `now`, and the oldest floors past the limit: (records, floors) dropped."""
        records = [
            (key, owner)
            for key, owners in self._held.items()
            for owner, entry in owners.items()
            if entry.expires <= now
        ]
        for pair in records:
            self.remove(*pair)
        floors = [Floor(*pair, *mark) for pair, mark in self._floors.items() if mark[1] <= now]
        excess = len(self._floors) - len(floors) - self._max_floors
        if excess > 0:
            lasting = (Floor(*pair, *mark) for pair, mark in self._floors.items() if mark[1] > now)
            floors += heapq.nsmallest(excess, lasting, key=attrgetter("expires", "key", "owner"))
        for floor in floors:
            del self._floors[floor.key, floor.owner]
        return records, floors

    def _count(self, owner: bytes, entry: E, sign: int) -> None:
        self._records += sign
        self._bytes += sign * entry.size
        _add(self._owners, owner, sign, entry.size)
        _add(self._groups, entry.group, sign, entry.size)


K = TypeVar("K")


def _add(counts: dict[K, tuple[int, int]], who: K, sign: int, size: int) -> None:
    records, total = counts.get(who, (0, 0))
    if records + sign:
        counts[who] = records + sign, total + sign * size
    else:
        del counts[who]


class IndexedStore(Generic[E]):
    """The part of a `Store` that its index answers.  A writer thread may change the index meanwhile."""

    def __init__(self, index: Index[E]) -> None:
        self._index = index
        self._lock = threading.Lock()

    def floor(self, key: bytes, owner: bytes) -> int:
        return self._index.floor(key, owner)

    def floors(self) -> list[Floor]:
        with self._lock:
            return self._index.floors()

    def keys(self) -> list[bytes]:
        with self._lock:
            return self._index.keys()

    def usage_of_owner(self, owner: bytes) -> Usage:
        return self._index.usage_of_owner(owner)

    def usage_of_group(self, group: str) -> Usage:
        return self._index.usage_of_group(group)

    def usage(self) -> Usage:
        with self._lock:
            return self._index.usage()


class MemoryStore(IndexedStore[StoredRecord]):
    """A `Store` that lives as long as the process.  `max_bytes` bounds the sum of record sizes.

    In one `commit`, removals come before puts, and of several puts for one (key, owner) the last counts.
    """

    def __init__(self, max_bytes: int) -> None:
        super().__init__(Index(max_bytes))
        self._states: dict[str, bytes] = {}
        self._closed = False

    def get(self, key: bytes, owner: bytes | None = None) -> list[StoredRecord]:
        self._check_open()
        held = self._index.under(key)
        found = held.values() if owner is None else [held[owner]] if owner in held else []
        return sorted(found, key=lambda r: r.record_id)

    async def commit(
        self, put: Sequence[StoredRecord], remove: Sequence[Pair] = (), floors: Sequence[Floor] = ()
    ) -> None:
        """See `Store.commit`. Raises StorageFull, Closed."""
        self._check_open()
        grown, _ = self._index.growth(put, remove, {})
        self._index.check_room(grown)
        for pair in remove:
            self._index.remove(*pair)
        for record in put:
            self._index.put(record.key, record.owner, record)
        for floor in floors:
            self._index.raise_floor(floor)

    def expire(self, now: int) -> int:
        self._check_open()
        return len(self._index.expire(now)[0])

    def load_state(self, name: str) -> bytes | None:
        self._check_open()
        return self._states.get(name)

    def list_states(self, prefix: str) -> list[str]:
        self._check_open()
        return sorted(name for name in self._states if name.startswith(prefix))

    async def save_state(self, name: str, blob: bytes) -> None:
        self._check_open()
        if blob:
            self._states[name] = blob
        else:
            self._states.pop(name, None)

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this store was closed: open it again")
