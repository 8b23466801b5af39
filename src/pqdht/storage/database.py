"""The SQLite file under the record store: lock, schema, durability settings, and what to do when it
is damaged.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StorageCorrupt, StorageError, StorageFull

SCHEMA_VERSION = 1
"""In PRAGMA user_version; a newer one is refused, an older one would be migrated here."""

TABLES: dict[str, dict[str, type]] = {
    # Bodies last: reading the columns before them never touches their overflow pages.
    "records": {
        "key": bytes,
        "owner": bytes,
        "record_id": bytes,
        "kind": int,
        "timestamp": int,
        "expires": int,
        "grp": str,
        "node": bytes,
        "size": int,
        "tbs": bytes,
        "signature": bytes,
    },
    "floors": {"key": bytes, "owner": bytes, "timestamp": int, "expires": int},
    "states": {"name": str, "blob": bytes},
}
_UNIQUE = {"records": "key, owner", "floors": "key, owner", "states": "name"}
_SQL_TYPES = {bytes: "BLOB", int: "INTEGER", str: "TEXT"}

_BUSY_S = 5.0
"""How long to wait for somebody who looks at the file with another program."""
_WAL_KEPT = 16 * 1024 * 1024
_SALVAGE_ATTEMPTS = 20_000
"""Unreadable ranges tried per table: bounds the time of a salvage to about a second."""


@dataclass(frozen=True, slots=True)
class Salvage:
    """What was saved from a damaged database."""

    kept: Path
    """Where the damaged file was moved."""
    error: str
    """What SQLite said of it."""
    records: int
    floors: int
    states: int


class _Damaged(Exception):
    """The file is a pqdht database, and broken."""


def columns(table: str) -> str:
    """The columns of a table, in the order of its rows."""
    return ", ".join(TABLES[table])


def replace(table: str) -> str:
    """The statement that writes one whole row."""
    return f"REPLACE INTO {table} ({columns(table)}) VALUES ({', '.join('?' * len(TABLES[table]))})"


def lock(path: Path) -> int:
    """Take the lock file at `path` for this process; its descriptor (close it to give the lock back).

    The directory is made where it is missing. Raises StorageError naming the process that holds it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise storage_error(e, path) from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())
    except BlockingIOError:
        digits = os.read(fd, 20).strip()
        os.close(fd)
        pid = int(digits) if digits.isdigit() else None
        who = f"process {pid}" if pid is not None else "another process"
        raise StorageError(
            f"{path.parent} is in use by {who}: stop it, or choose another data directory",
            path=str(path.parent),
            pid=pid,
        ) from None
    except OSError as e:
        os.close(fd)
        raise storage_error(e, path) from e
    return fd


def open_database(path: Path, now: int) -> tuple[sqlite3.Connection, Salvage | None]:
    """The database at `path`, made or, where it is damaged, made anew with what could be salvaged.

    A damaged file is kept as `<name>.corrupt-<now>`.  Raises StorageError: no access, locked by
    another program, of a newer version, not ours; StorageFull.
    """
    try:
        try:
            return _open(path), None
        except sqlite3.DatabaseError as e:
            if not _is_damage(e):
                raise
            error = str(e)
        except (_Damaged, UnicodeDecodeError) as e:  # Python cannot decode what SQLite says of a bad schema
            error = str(e)
        kept = _set_aside(path, now)
        db = _open(path)
        try:
            counts = _salvage(kept, db)
        except BaseException:
            db.close()
            raise
        return db, Salvage(kept, error, **counts)
    except (sqlite3.Error, OSError) as e:
        raise storage_error(e, path) from e


def open_reader(path: Path) -> sqlite3.Connection:
    """A second connection, for reading only."""
    db = _connect(path)
    db.execute("PRAGMA query_only = ON")
    return db


def storage_error(error: sqlite3.Error | OSError, path: Path) -> StorageError:
    """What a failure of the disk or of SQLite means to the operator."""
    facts = {"path": str(path), "cause": str(error)}
    code = _code(error)
    if code == sqlite3.SQLITE_FULL or _errno(error) in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(f"no room to write {path}: free some disk space", **facts)
    if _is_damage(error):
        return StorageCorrupt(f"{path} is damaged: restart, and what can be read is salvaged", **facts)
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StorageError(f"{path} is locked by another program: close that program", **facts)
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM) or _errno(error):
        return StorageError(
            f"cannot use {path} ({error}): make its directory readable and writable for this user, "
            "or choose another",
            **facts,
        )
    return StorageError(f"{path} failed: {error}", **facts)


# --- opening -----------------------------------------------------------------------------------


def _connect(path: Path) -> sqlite3.Connection:
    # One connection is used by one thread at a time, though not always by the one that opened it.
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_S)
    db.text_factory = lambda text: text.decode("utf-8", "replace")  # a flipped bit must not stop a read
    return db


def _open(path: Path) -> sqlite3.Connection:
    # SQLite gives -wal and -shm the permissions of this file.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    db = _connect(path)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA_VERSION:
            raise StorageError(
                f"{path} was written by a newer pqdht (schema {version}, this one knows {SCHEMA_VERSION}): "
                "upgrade, or choose another data directory",
                path=str(path),
                version=version,
            )
        if version:
            _check(db)
        elif db.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise StorageError(f"{path} is not a pqdht record database: choose another data directory")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = FULL")
        db.execute(f"PRAGMA journal_size_limit = {_WAL_KEPT}")
        if not version:
            _create(db)
    except BaseException:
        db.close()
        raise
    return db


def _check(db: sqlite3.Connection) -> None:
    """Structure, then types: SQLite does not mind what type a column holds, we do. Raises _Damaged."""
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise _Damaged(verdict)
    for table, fields in TABLES.items():
        wrong = " OR ".join(f"typeof({name}) <> '{_SQL_TYPES[t].lower()}'" for name, t in fields.items())
        if db.execute(f"SELECT 1 FROM {table} WHERE {wrong} LIMIT 1").fetchone():
            raise _Damaged(f"values of wrong type in {table}")


def _create(db: sqlite3.Connection) -> None:
    db.execute("BEGIN IMMEDIATE")
    for table, fields in TABLES.items():
        typed = ", ".join(f"{name} {_SQL_TYPES[kind]} NOT NULL" for name, kind in fields.items())
        db.execute(f"CREATE TABLE {table} ({typed}, UNIQUE ({_UNIQUE[table]}))")
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
    db.execute("COMMIT")


# --- damage ------------------------------------------------------------------------------------


def _set_aside(path: Path, now: int) -> Path:
    kept = path.with_name(f"{path.name}.corrupt-{now}")
    repeat = 1
    while kept.exists():
        repeat += 1
        kept = path.with_name(f"{path.name}.corrupt-{now}-{repeat}")
    for suffix in ("", "-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.rename(f"{path}{suffix}", f"{kept}{suffix}")
    return kept


def _salvage(kept: Path, into: sqlite3.Connection) -> dict[str, int]:
    """Copy every sound row; how many per table."""
    counts = dict.fromkeys(TABLES, 0)
    into.execute("BEGIN IMMEDIATE")
    with contextlib.closing(_connect(kept)) as db:
        for table in TABLES:
            statement = replace(table)
            for row in _readable_rows(db, table):
                into.execute(statement, row)
                counts[table] += 1
    into.execute("COMMIT")
    return counts


def _readable_rows(db: sqlite3.Connection, table: str) -> Iterator[list[Any]]:
    """Every row that can be read: rowid ranges that cannot are halved until the damage stands alone."""
    types = tuple(TABLES[table].values())
    try:
        (last,) = db.execute(f"SELECT max(rowid) FROM {table}").fetchone()
    except sqlite3.DatabaseError as e:
        if _code(e) in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR):
            return  # no header, no such table: no range of rows can be read, and trying each takes a second
        last = 1 << 32
    except UnicodeDecodeError:
        return
    ranges = deque([(1, last or 0)])
    select = f"SELECT rowid, {columns(table)} FROM {table} WHERE rowid BETWEEN ? AND ? ORDER BY rowid"
    attempts = 0
    while ranges and attempts < _SALVAGE_ATTEMPTS:
        low, high = ranges.popleft()
        try:
            for rowid, *row in db.execute(select, (low, high)):
                low = rowid + 1
                if tuple(map(type, row)) == types:
                    yield row
        except (sqlite3.DatabaseError, UnicodeDecodeError):
            attempts += 1
            if low < high:
                middle = (low + high) // 2
                ranges.extend(((low, middle), (middle + 1, high)))


def _is_damage(error: Exception) -> bool:
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: Exception) -> int | None:
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _errno(error: Exception) -> int | None:
    return error.errno if isinstance(error, OSError) else None
