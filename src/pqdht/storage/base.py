"""What a record store is.  Two exist: SQLite on disk and a dict in memory.

The store keeps promises, it does not judge: which record may enter is decided by `records` and the
node's handlers before.  What `commit` returned from survives `kill -9`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredRecord:
    """One kept record and what is needed to find, order and expire it without parsing it again."""

    key: bytes
    owner: bytes
    """owner id, 32 B (zeros for content records: one per key)"""
    record_id: bytes
    kind: int
    timestamp: int
    """ms"""
    expires: int
    """ms since the epoch, by this node's clock"""
    group: str
    """address group of who stored it here ('' for our own records)"""
    node: bytes
    """topic records: the node id the record is bound to, else b''"""
    size: int
    """bytes of tbs and signature"""
    tbs: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Floor:
    """The highest timestamp seen for (key, owner), remembered after the record itself went."""

    key: bytes
    owner: bytes
    timestamp: int
    expires: int


@dataclass(frozen=True, slots=True)
class Usage:
    """How much somebody has stored here."""

    records: int
    bytes: int


class Store(Protocol):
    """Reads are immediate (memory or page cache); writes are durable when `commit` returns."""

    def get(self, key: bytes, owner: bytes | None = None) -> list[StoredRecord]:
        """Records under `key` (of one owner), ascending by record id; expired ones included."""
        ...

    def floor(self, key: bytes, owner: bytes) -> int:
        """Highest timestamp remembered for (key, owner), 0 if none."""
        ...

    def floors(self) -> list[Floor]: ...
    def keys(self) -> list[bytes]:
        """Every key held, ascending."""
        ...

    def usage_of_owner(self, owner: bytes) -> Usage: ...
    def usage_of_group(self, group: str) -> Usage: ...
    def usage(self) -> Usage: ...

    async def commit(
        self,
        put: Sequence[StoredRecord],
        remove: Sequence[tuple[bytes, bytes]] = (),
        floors: Sequence[Floor] = (),
    ) -> None:
        """Atomically replace `put` by (key, owner), drop `remove` ((key, owner) pairs), raise floors.

        Reads see the change when this returns (and may see it earlier).  Raises StorageFull (nothing
        of this call was kept, everything older was) or StorageError.
        """
        ...

    def expire(self, now: int) -> int:
        """Drop records and floors whose `expires` <= now; returns how many records went."""
        ...

    def load_state(self, name: str) -> bytes | None:
        """A small named blob (remembered contacts, publisher journal), None if never saved."""
        ...

    def list_states(self, prefix: str) -> list[str]:
        """Names of the saved blobs that begin with `prefix`, ascending."""
        ...

    async def save_state(self, name: str, blob: bytes) -> None:
        """Durable when it returns; an empty blob removes the name."""
        ...

    async def close(self) -> None: ...
