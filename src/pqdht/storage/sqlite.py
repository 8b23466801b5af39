"""Records in SQLite: what `commit` returned from is on disk.

One writer thread joins the commits that wait while it is busy into one transaction (group commit);
reads run on the caller's thread over a second connection.  Which records exist, how much they take
and the floors are kept in memory; bodies stay on disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import Closed, StorageFull
from .base import Floor, StoredRecord
from .database import Salvage, columns, lock, open_database, open_reader, replace, storage_error
from .memory import Index, IndexedStore, Pair, Sizes

_log = logging.getLogger(__name__)

_GROUP_JOBS = 256
_GROUP_BYTES = 8 * 1024 * 1024
"""Bounds of one transaction, so that the first caller need not wait for everybody behind."""

_PUT = replace("records")
_REMOVE = "DELETE FROM records WHERE key = ? AND owner = ?"
_EXPIRE = "DELETE FROM records WHERE key = ? AND owner = ? AND expires <= ?"
_RAISE_FLOOR = (
    "INSERT INTO floors (key, owner, timestamp, expires) VALUES (?, ?, ?, ?) "
    "ON CONFLICT (key, owner) DO UPDATE "
    "SET timestamp = excluded.timestamp, expires = max(expires, excluded.expires) "
    "WHERE excluded.timestamp >= timestamp"
)
_DROP_FLOOR = "DELETE FROM floors WHERE key = ? AND owner = ? AND timestamp <= ? AND expires <= ?"
_GET = f"SELECT {columns('records')} FROM records WHERE key = ? ORDER BY record_id"
_GET_ONE = f"SELECT {columns('records')} FROM records WHERE key = ? AND owner = ?"
_row = attrgetter(*(f.name for f in fields(StoredRecord)))
"""A record as a row of its table: its fields stand in the order of the columns."""


class Held(NamedTuple):
    """What is kept in memory of a record."""

    size: int
    group: str
    expires: int


@dataclass(slots=True, eq=False)
class _Job:
    """One call's share of a transaction: all of it or nothing."""

    statements: list[tuple[str, Sequence[tuple[Any, ...]]]]
    put: tuple[StoredRecord, ...] = ()
    remove: tuple[Pair, ...] = ()
    floors: tuple[Floor, ...] = ()
    done: Future[None] = field(default_factory=Future)

    @property
    def size(self) -> int:
        return sum(record.size for record in self.put)


class SqliteStore(IndexedStore[Held]):
    """A `Store` in one file.  `max_bytes` bounds the sum of record sizes, `max_pages` the file itself
    (in SQLite's pages of 4 KiB; None: only the disk does).

    `now` (ms) names the copy of a database found damaged; `salvaged` then says what was saved.  The
    file's directory is locked for this process.  Raises StorageError (no access, in use, of a newer
    version), StorageFull.  In one `commit`, removals come before puts, and of several puts for one
    (key, owner) the last counts.
    """

    def __init__(self, path: Path, max_bytes: int, now: int, *, max_pages: int | None = None) -> None:
        super().__init__(Index(max_bytes))
        self._path = path
        self._closed = False
        self.transactions = 0
        """Transactions written; fewer than the commits where these were joined."""
        with contextlib.ExitStack() as undo:
            self._lock_fd = lock(path.parent / "lock")
            undo.callback(os.close, self._lock_fd)
            self._writer, self.salvaged = open_database(path, now)
            undo.callback(self._writer.close)
            if self.salvaged is not None:
                self._report(self.salvaged)
            try:
                self._reader = open_reader(path)
                undo.callback(self._reader.close)
                if max_pages is not None:
                    self._writer.execute(f"PRAGMA max_page_count = {max_pages}")
                self._load()
            except sqlite3.Error as e:
                raise storage_error(e, path) from e
            undo.pop_all()
        self._queue: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._stopped: Future[None] = Future()
        self._stopped.set_running_or_notify_cancel()
        threading.Thread(target=self._run, name="pqdht-store", daemon=True).start()

    # --- reading -------------------------------------------------------------------------------

    def get(self, key: bytes, owner: bytes | None = None) -> list[StoredRecord]:
        """See `Store.get`. Raises StorageError where the disk fails."""
        self._check_open()
        held = self._index.under(key)
        if not held or (owner is not None and owner not in held):
            return []
        rows = self._read(_GET, key) if owner is None else self._read(_GET_ONE, key, owner)
        # What the index dropped may still await its deletion on disk.
        return [StoredRecord(*row) for row in rows if row[1] in held]

    def load_state(self, name: str) -> bytes | None:
        self._check_open()
        rows = self._read("SELECT blob FROM states WHERE name = ?", name)
        return rows[0][0] if rows else None

    def list_states(self, prefix: str) -> list[str]:
        self._check_open()
        return [
            name for (name,) in self._read("SELECT name FROM states ORDER BY name") if name.startswith(prefix)
        ]

    def _read(self, sql: str, *values: Any) -> list[Any]:
        try:
            return self._reader.execute(sql, values).fetchall()
        except sqlite3.Error as e:
            raise storage_error(e, self._path) from e

    # --- writing -------------------------------------------------------------------------------

    async def commit(
        self, put: Sequence[StoredRecord], remove: Sequence[Pair] = (), floors: Sequence[Floor] = ()
    ) -> None:
        """See `Store.commit`. Raises StorageFull, StorageError, Closed."""
        job = _Job([], tuple(put), tuple(remove), tuple(floors))
        job.statements = [
            (_REMOVE, job.remove),
            (_PUT, [_row(record) for record in job.put]),
            (_RAISE_FLOOR, [(f.key, f.owner, f.timestamp, f.expires) for f in job.floors]),
        ]
        await self._submit(job)

    def expire(self, now: int) -> int:
        self._check_open()
        with self._lock:
            records, floors = self._index.expire(now)
        if records or floors:
            # Nobody waits for this: what a crash brings back expires again.
            expired = [(*pair, now) for pair in records]
            dropped = [(f.key, f.owner, f.timestamp, f.expires) for f in floors]
            self._queue.put(_Job([(_EXPIRE, expired), (_DROP_FLOOR, dropped)]))
        return len(records)

    async def save_state(self, name: str, blob: bytes) -> None:
        if blob:
            await self._submit(_Job([(replace("states"), [(name, blob)])]))
        else:
            await self._submit(_Job([("DELETE FROM states WHERE name = ?", [(name,)])]))

    async def close(self) -> None:
        """Write what was submitted, then let go of the file."""
        if not self._closed:
            self._closed = True
            self._reader.close()
            self._queue.put(None)
        await asyncio.wrap_future(self._stopped)

    async def _submit(self, job: _Job) -> None:
        self._check_open()
        self._queue.put(job)
        await asyncio.wrap_future(job.done)

    def _check_open(self) -> None:
        if self._closed:
            raise Closed("this store was closed: open it again")

    # --- the writer thread ---------------------------------------------------------------------

    def _run(self) -> None:
        more = True
        while more:
            jobs, more = self._next_group()
            if jobs:
                self._write(jobs)
        # The last connection: SQLite checkpoints and removes the -wal file.
        with contextlib.suppress(sqlite3.Error):
            self._writer.close()
        os.close(self._lock_fd)
        self._stopped.set_result(None)

    def _next_group(self) -> tuple[list[_Job], bool]:
        """Wait for a job, then take what else waits; False after the last."""
        jobs: list[_Job] = []
        size = 0
        while True:
            try:
                job = self._queue.get(block=not jobs)
            except queue.Empty:
                return jobs, True
            if job is None:
                return jobs, False
            if job.done.set_running_or_notify_cancel():  # else its caller gave up in time
                jobs.append(job)
                size += job.size
            if len(jobs) >= _GROUP_JOBS or size >= _GROUP_BYTES:
                return jobs, True

    def _write(self, jobs: list[_Job]) -> None:
        accepted = self._with_room(jobs)
        try:
            self._transact(accepted)
        except Exception as e:
            if len(accepted) > 1:
                for job in accepted:  # each alone, so that one call's failure is not another's
                    self._write([job])
                return
            accepted[0].done.set_exception(
                storage_error(e, self._path) if isinstance(e, sqlite3.Error) else e
            )
            return
        with self._lock:
            for job in accepted:
                self._apply(job)
        for job in accepted:
            job.done.set_result(None)

    def _with_room(self, jobs: list[_Job]) -> list[_Job]:
        """Refuse what exceeds the quota, counting what the others add."""
        accepted: list[_Job] = []
        pending: Sizes = {}
        added = 0
        for job in jobs:
            grown, sizes = self._index.growth(job.put, job.remove, pending)
            try:
                self._index.check_room(grown, added)
            except StorageFull as e:
                job.done.set_exception(e)
                continue
            accepted.append(job)
            pending.update(sizes)
            added += grown
        return accepted

    def _transact(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        try:
            for job in jobs:
                for sql, rows in job.statements:
                    db.executemany(sql, rows)
            db.execute("COMMIT")
        except BaseException:
            # SQLite may have rolled back by itself (a full disk).
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        self.transactions += 1

    def _apply(self, job: _Job) -> None:
        for pair in job.remove:
            self._index.remove(*pair)
        for r in job.put:
            self._index.put(r.key, r.owner, Held(r.size, r.group, r.expires))
        for floor in job.floors:
            self._index.raise_floor(floor)

    # --- opening -------------------------------------------------------------------------------

    def _load(self) -> None:
        owners: dict[bytes, bytes] = {}
        select = "SELECT key, owner, size, grp, expires FROM records"
        for key, owner, size, group, expires in self._reader.execute(select):
            self._index.put(key, owners.setdefault(owner, owner), Held(size, sys.intern(group), expires))
        for row in self._reader.execute(f"SELECT {columns('floors')} FROM floors"):
            self._index.raise_floor(Floor(*row))

    def _report(self, salvaged: Salvage) -> None:
        _log.warning(
            "%s was damaged (%s): kept as %s; %d records, %d floors and %d states salvaged",
            self._path,
            salvaged.error,
            salvaged.kept,
            salvaged.records,
            salvaged.floors,
            salvaged.states,
        )
