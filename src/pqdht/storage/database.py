"""The SQLite file under the record store: lock, schema, durability settings, and what to do when it
is damaged.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import sqlite3
import tempfile
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import StorageCorrupt, StorageError, StorageFull
from .directories import make_directory, sync_directory

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

SALVAGING, SALVAGED = ".salvaging", ".salvaged"
"""Beside a damaged database: its sound rows while they are copied, and all of them."""
_FILES = ("", "-wal", "-shm")
"""What a database consists of."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_IO = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL)
_PROBE = 64 * 1024
"""Bytes: more than the 32 KiB by which SQLite's shared memory grows."""

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
        make_directory(path.parent)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise storage_error(e, path) from e
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
    with contextlib.suppress(OSError):  # only a help to who finds it locked: a full disk stops nobody
        os.ftruncate(fd, 0)
        os.write(fd, b"%d\n" % os.getpid())
    return fd


def open_database(path: Path, now: int) -> tuple[sqlite3.Connection, Salvage | None]:
    """The database at `path`, made or, where it is damaged, made anew with what could be salvaged.

    A damaged file is kept as `<name>.corrupt-<now>`.  Killed anywhere in between, the next call starts
    or goes on with the same salvage.  Raises StorageError: no access, locked by another program, of a
    newer version, not ours; StorageFull (the damaged file stays in its place).
    """
    try:
        if _beside(path, SALVAGED).exists():
            _replace_damaged(path, now)
        try:
            return _open(path), None
        except sqlite3.DatabaseError as e:
            if not _is_damage(e):
                raise
            error = str(e)
        except (_Damaged, UnicodeDecodeError) as e:  # Python cannot decode what SQLite says of a bad schema
            error = str(e)
        counts = _salvage(path)
        kept = _replace_damaged(path, now)
        return _open(path), Salvage(kept, error, **counts)
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
    if code == sqlite3.SQLITE_FULL or _errno(error) in _NO_ROOM or (code in _IO and _is_full(path)):
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


def _is_full(path: Path) -> bool:
    """Whether nothing can be written beside `path`.

    SQLite calls only ENOSPC on the database or its log a full disk: a quota, or no room for the shared
    memory of a reader, comes as any other failure.
    """
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(bytes(_PROBE))
            probe.flush()
    except OSError as e:
        return e.errno in _NO_ROOM
    return False


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


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _salvage(damaged: Path) -> dict[str, int]:
    """Copy every sound row into `<name>.salvaged`, which is there only when complete; rows per table."""
    half = _beside(damaged, SALVAGING)
    for suffix in _FILES:
        _beside(half, suffix).unlink(missing_ok=True)
    counts = dict.fromkeys(TABLES, 0)
    with contextlib.closing(_open(half)) as into:
        into.execute("BEGIN IMMEDIATE")
        with contextlib.closing(_connect(damaged)) as db:
            for table in TABLES:
                statement = replace(table)
                for row in _readable_rows(db, table):
                    into.execute(statement, row)
                    counts[table] += 1
        into.execute("COMMIT")
        into.execute("PRAGMA journal_mode = DELETE")  # all in the one file that is renamed
    os.rename(half, _beside(damaged, SALVAGED))
    sync_directory(damaged.parent)
    return counts


def _replace_damaged(path: Path, now: int) -> Path:
    """Set aside what is left of the damaged database and put the salvaged one in its place."""
    kept = _beside(path, f".corrupt-{now}")
    repeat = 1
    while any(_beside(kept, suffix).exists() for suffix in _FILES):
        repeat += 1
        kept = _beside(path, f".corrupt-{now}-{repeat}")
    for suffix in _FILES:
        with contextlib.suppress(FileNotFoundError):
            os.rename(_beside(path, suffix), _beside(kept, suffix))
    os.rename(_beside(path, SALVAGED), path)
    sync_directory(path.parent)
    return kept


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
