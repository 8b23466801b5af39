"""The file under the record store: who may open it, and what is left of a damaged one."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pqdht.errors import StorageCorrupt, StorageError, StorageFull
from pqdht.storage import database
from pqdht.storage.database import lock, open_database, replace, storage_error

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "records.db"


def fill(path: Path, rows: int) -> None:
    db, _ = open_database(path, 0)
    db.execute("BEGIN")
    for i in range(rows):
        key = i.to_bytes(32, "big")
        row = (key, bytes(32), key, 1, i, 1000 + i, "group", b"", 700, bytes(690), bytes(10))
        db.execute(replace("records"), row)
        db.execute(replace("floors"), (key, bytes(32), i, i))
    db.execute(replace("states"), ("peers", b"blob"))
    db.execute("COMMIT")
    db.close()


def keys(db: sqlite3.Connection) -> list[int]:
    return [int.from_bytes(key, "big") for (key,) in db.execute("SELECT key FROM records ORDER BY key")]


def root_page(path: Path, name: str) -> int:
    with contextlib.closing(sqlite3.connect(path)) as db:
        page: int = db.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,)).fetchone()[0]
        return page


def overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as f:
        f.seek(offset)
        f.write(data)


def test_a_new_database_is_durable_and_private(path: Path) -> None:
    db, salvaged = open_database(path, 0)
    assert salvaged is None
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
    assert db.execute("PRAGMA user_version").fetchone() == (database.SCHEMA_VERSION,)
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    db.close()


def test_a_newer_schema_is_refused_untouched(path: Path) -> None:
    fill(path, 1)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 2")
    with pytest.raises(StorageError, match="newer pqdht") as caught:
        open_database(path, 0)
    assert caught.value.fields["version"] == 2
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_foreign_database_is_refused_untouched(path: Path) -> None:
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE bookmarks (url TEXT)")
    before = path.read_bytes()
    with pytest.raises(StorageError, match="not a pqdht record database"):
        open_database(path, 0)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"x" * 600, b"not a database" * 1000, bytes(8192)])
def test_a_file_that_is_no_database_is_set_aside(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    db, salvaged = open_database(path, 1234)
    assert salvaged is not None
    assert salvaged.kept == path.with_name("records.db.corrupt-1234")
    assert salvaged.kept.read_bytes() == content
    assert (salvaged.records, salvaged.floors, salvaged.states) == (0, 0, 0)
    assert keys(db) == []
    db.close()


def test_an_earlier_set_aside_file_is_never_overwritten(path: Path) -> None:
    for content in (b"first" * 100, b"second" * 100):
        path.write_bytes(content)
        db, _ = open_database(path, 7)
        db.close()
    assert path.with_name("records.db.corrupt-7").read_bytes() == b"first" * 100
    assert path.with_name("records.db.corrupt-7-2").read_bytes() == b"second" * 100


def break_leaf(path: Path, row: int) -> None:
    """Overwrite the page that holds a row; about 5 rows of 760 B stand on a page."""
    content = path.read_bytes()
    key = row.to_bytes(32, "big")
    leaf = next(
        start
        for start in range(0, len(content), PAGE)
        if content[start] == 0x0D and key + bytes(32) + key in content[start : start + PAGE]
    )
    overwrite(path, leaf, b"\xff" * PAGE)


def test_what_surrounds_a_damaged_page_is_salvaged(path: Path) -> None:
    fill(path, 200)
    break_leaf(path, 100)
    db, salvaged = open_database(path, 5)
    assert salvaged is not None
    kept = keys(db)
    lost = [i for i in range(200) if i not in kept]
    assert 1 <= len(lost) <= 8
    assert 100 in range(lost[0], lost[-1] + 1)
    assert (salvaged.records, salvaged.floors, salvaged.states) == (len(kept), 200, 1)
    assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    assert db.execute("SELECT * FROM states").fetchall() == [("peers", b"blob")]
    db.close()
    again, salvaged = open_database(path, 6)
    assert salvaged is None
    assert keys(again) == kept
    again.close()


class Counting(sqlite3.Connection):
    """Counts the statements it is given."""

    asked = 0

    def execute(self, *args: Any) -> sqlite3.Cursor:
        self.asked += 1
        return super().execute(*args)


def test_nothing_is_tried_again_where_there_is_no_table_at_all(path: Path) -> None:
    """A file without its header once cost 20,000 attempts per table at every start after a bad block."""
    fill(path, 50)
    raw = path.read_bytes()
    path.write_bytes(bytes(100) + raw[100:])
    with contextlib.closing(sqlite3.connect(path, factory=Counting)) as db:
        assert list(database._readable_rows(db, "records")) == []
        assert db.asked == 1
    path.write_bytes(raw)
    with contextlib.closing(sqlite3.connect(path, factory=Counting)) as db:
        db.execute("DROP TABLE records")
        assert list(database._readable_rows(db, "records")) == []
        assert len(list(database._readable_rows(db, "floors"))) == 50
        assert db.asked == 4


def test_a_schema_with_bytes_that_are_no_text_is_damage(path: Path) -> None:
    """SQLite quotes them in its error, and Python raises UnicodeDecodeError instead of that error."""
    fill(path, 3)
    raw = path.read_bytes()
    at = raw.index(b", expires INTEGER NOT NULL, grp")
    path.write_bytes(raw[:at] + b"\xff\xff\x80\0" + raw[at + 4 :])
    db, salvaged = open_database(path, 5)
    assert salvaged is not None
    assert salvaged.kept.read_bytes()[at : at + 4] == b"\xff\xff\x80\0"
    assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    db.close()


def test_a_salvage_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, 200)
    break_leaf(path, 100)
    monkeypatch.setattr(database, "_SALVAGE_ATTEMPTS", 1)
    db, salvaged = open_database(path, 5)
    assert salvaged is not None
    assert keys(db) == list(range(salvaged.records))  # up to the damage, nothing behind it
    assert 90 < salvaged.records <= 100
    db.close()


def test_a_damaged_index_costs_no_record(path: Path) -> None:
    fill(path, 50)
    index_page = root_page(path, "sqlite_autoindex_records_1")
    overwrite(path, (index_page - 1) * PAGE, b"\xff" * PAGE)
    db, salvaged = open_database(path, 5)
    assert salvaged is not None
    assert keys(db) == list(range(50))
    db.close()


def test_a_truncated_file_gives_what_it_has(path: Path) -> None:
    fill(path, 200)
    os.truncate(path, path.stat().st_size // 2)
    db, salvaged = open_database(path, 5)
    assert salvaged is not None
    assert salvaged.records == len(keys(db))
    assert db.execute("PRAGMA quick_check").fetchone() == ("ok",)
    db.close()


def test_rows_of_wrong_type_are_dropped(path: Path) -> None:
    fill(path, 10)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE records SET expires = 'soon' WHERE timestamp = 3")
        db.execute("UPDATE records SET key = 17 WHERE timestamp = 4")
        db.commit()
    db, salvaged = open_database(path, 5)
    assert salvaged is not None
    assert "wrong type" in salvaged.error
    assert keys(db) == [0, 1, 2, 5, 6, 7, 8, 9]
    db.close()


def test_a_database_locked_by_another_program_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, 1)
    monkeypatch.setattr(database, "_BUSY_S", 0)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StorageError, match="close that program"):
            open_database(path, 0)


def test_a_path_that_cannot_be_used_says_so(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(StorageError, match="or choose another"):
        lock(file / "lock")
    (tmp_path / "dir").mkdir()
    with pytest.raises(StorageError, match="or choose another"):
        open_database(tmp_path / "dir", 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_directory_says_so(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o000)
    with pytest.raises(StorageError, match="readable and writable"):
        lock(closed / "lock")


def test_the_lock_names_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "data" / "lock"
    fd = lock(path)
    with pytest.raises(StorageError, match=f"in use by process {os.getpid()}") as caught:
        lock(path)
    assert caught.value.fields["pid"] == os.getpid()
    os.close(fd)
    os.close(lock(path))


def test_the_lock_of_a_dead_process_is_free(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys; from pathlib import Path; from pqdht.storage.database import lock; "
        "lock(Path(sys.argv[1])); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=child_environment(),
    ) as holder:
        assert holder.stdin is not None
        while not path.exists() or not path.read_bytes().endswith(b"\n"):
            assert holder.poll() is None, "the holder ended early"
        with pytest.raises(StorageError) as caught:
            lock(path)
        assert caught.value.fields["pid"] == holder.pid
        holder.kill()
        holder.wait()
    os.close(lock(path))


def child_environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def test_errors_say_what_to_do(path: Path) -> None:
    assert isinstance(storage_error(OSError(errno.ENOSPC, "no space"), path), StorageFull)
    path.write_bytes(b"not a database" * 1000)
    with contextlib.closing(sqlite3.connect(path)) as db:
        with pytest.raises(sqlite3.DatabaseError) as caught:
            db.execute("PRAGMA user_version")
        damaged = storage_error(caught.value, path)
    assert isinstance(damaged, StorageCorrupt)
    assert damaged.fields == {"path": str(path), "cause": "file is not a database"}
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        with pytest.raises(sqlite3.OperationalError) as odd:
            db.execute("nonsense")
        assert "nonsense" in str(storage_error(odd.value, path))
