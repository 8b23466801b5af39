"""Power cuts and kills at every point of the database's life: a log cut or scribbled on anywhere, a salvage
or a first start that did not end, key files half written."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pqdht.crypto.api import Suite
from pqdht.errors import StorageFull
from pqdht.storage import database
from pqdht.storage.base import Floor, StoredRecord
from pqdht.storage.database import SALVAGED, SALVAGING, open_database
from pqdht.storage.directories import make_directory, sync_directory
from pqdht.storage.keyfiles import load_owner
from pqdht.storage.sqlite import SqliteStore
from pqdht.testing.fake import fake_suite

COMMITS = 12
MOST = 1 << 30


def record(i: int, timestamp: int, size: int = 3_000) -> StoredRecord:
    key = i.to_bytes(32, "big")
    body = random.Random(timestamp).randbytes(size)
    return StoredRecord(key, key, key, 1, timestamp, 1 << 40, "", b"", size + 10, body, bytes(10))


async def written(directory: Path) -> list[int]:
    """A database crashed with all its commits in the log; the length of the log after each commit.

    Commit n writes version n of record 0, the first one of record n, and removes record n - 2.
    """
    store = SqliteStore(directory / "live" / "records.sqlite", MOST, 0)
    wal = directory / "live" / "records.sqlite-wal"
    ends = []
    for n in range(1, COMMITS + 1):
        gone = [(record(n - 2, 1).key,) * 2] if n > 2 else []
        records = [record(0, n), record(n, 1)]
        await store.commit(records, gone, [Floor(records[0].key, records[0].owner, n, 1 << 40)])
        ends.append(wal.stat().st_size)
    shutil.copytree(directory / "live", directory / "crashed")
    await store.close()
    return ends


async def check(path: Path, at_least: int) -> int:
    """The state is that after some whole number of commits, at least `at_least`; which."""
    store = SqliteStore(path, MOST, 1)
    assert store.salvaged is None
    found = store.get(record(0, 1).key)
    n = found[0].timestamp if found else 0
    assert at_least <= n <= COMMITS
    assert found == ([record(0, n)] if n else [])
    assert store.floor(record(0, 1).key, record(0, 1).owner) == n
    for i in range(1, COMMITS + 1):
        assert store.get(record(i, 1).key) == ([record(i, 1)] if i in (n - 1, n) else [])
    await store.commit([record(99, 1)])
    await store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    return n


def torn(directory: Path, log: bytes) -> Path:
    """A fresh copy of the crashed database with another log."""
    copy = directory / "torn"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    shutil.copy(directory / "crashed" / "records.sqlite", copy)
    (copy / "records.sqlite-wal").write_bytes(log)
    return copy / "records.sqlite"


def test_a_log_cut_anywhere_loses_no_commit_before_the_cut(tmp_path: Path) -> None:
    async def main() -> None:
        ends = await written(tmp_path)
        log = (tmp_path / "crashed" / "records.sqlite-wal").read_bytes()
        dice = random.Random(1)
        cuts = [0, 16, 32, *ends, *(e - 1 for e in ends), *(dice.randrange(len(log)) for _ in range(20))]
        for cut in cuts:
            whole = sum(end <= cut for end in ends)
            assert await check(torn(tmp_path, log[:cut]), 0 if cut < ends[0] else whole) == whole

    asyncio.run(main())


def test_garbage_behind_what_was_synced_changes_nothing(tmp_path: Path) -> None:
    """A power cut may leave anything where the log was growing: the next frames half written, or zeros."""

    async def main() -> None:
        ends = await written(tmp_path)
        log = (tmp_path / "crashed" / "records.sqlite-wal").read_bytes()
        dice = random.Random(2)
        for n in (1, 5, COMMITS):
            end = ends[n - 1]
            half = log[end : end + 4_000] + bytes(4_000)
            for scribble in (bytes(9_000), dice.randbytes(9_000), half, log[:5_000]):
                assert await check(torn(tmp_path, log[:end] + scribble), n) == n

    asyncio.run(main())


def test_a_flipped_bit_in_the_log_ends_it_there(tmp_path: Path) -> None:
    async def main() -> None:
        ends = await written(tmp_path)
        log = (tmp_path / "crashed" / "records.sqlite-wal").read_bytes()
        dice = random.Random(3)
        for _ in range(20):
            at = dice.randrange(32, len(log))
            bad = bytearray(log)
            bad[at] ^= 1 << dice.randrange(8)
            whole = sum(end <= at for end in ends)
            assert await check(torn(tmp_path, bytes(bad)), whole) == whole

    asyncio.run(main())


# --- a salvage that does not end ------------------------------------------------------------------


class Killed(BaseException):
    """Stands for SIGKILL: nothing cleans up after it but the kernel."""


def damaged(directory: Path) -> Path:
    """A database of 200 records with one page overwritten."""
    path = directory / "records.sqlite"
    db, _ = open_database(path, 0)
    db.execute("BEGIN")
    for i in range(200):
        r = record(i, i, 700)
        row = (r.key, r.owner, r.record_id, 1, i, 1000 + i, "", b"", 700, r.tbs, r.signature)
        db.execute(database.replace("records"), row)
    db.execute("COMMIT")
    db.close()
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    return path


@pytest.mark.parametrize("step", range(8))
def test_a_salvage_killed_at_any_step_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Dies before the `step`-th rename or sync."""
    path = damaged(tmp_path)
    left = step

    def dying(real: Callable[..., None]) -> Callable[..., None]:
        def call(*args: object) -> None:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            real(*args)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", dying(os.rename))
        patch.setattr("pqdht.storage.database.sync_directory", dying(sync_directory))
        try:
            db, _ = open_database(path, 5)
        except Killed:
            pass
        else:
            db.close()
            assert step > 4, "the salvage takes at least a rename of its own and two syncs"
    db, _ = open_database(path, 6)
    (found,) = db.execute("SELECT count(*) FROM records").fetchone()
    assert found >= 190
    assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    db.close()
    names = {p.name for p in tmp_path.iterdir()}
    assert any(".corrupt-" in name for name in names)
    assert not any(name.endswith((SALVAGED, SALVAGING)) for name in names)


def test_a_salvage_without_room_leaves_the_damaged_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = damaged(tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        with pytest.raises(StorageFull):
            open_database(path, 5)
    assert path.read_bytes() == before
    db, salvaged = open_database(path, 6)
    assert salvaged is not None
    assert salvaged.records >= 190
    db.close()


# --- a first start that does not end ---------------------------------------------------------------

BEGINNER = """
import sys
from pathlib import Path
from pqdht.config import Config
from pqdht.node.identities import load_or_make_owner
from pqdht.storage.sqlite import SqliteStore
from pqdht.testing.fake import fake_suite

for i in range(1 << 20):
    directory = Path(sys.argv[1]) / str(i)
    print(i, flush=True)
    SqliteStore(directory / "records.sqlite", 1 << 30, 0)
    load_or_make_owner(Config(data_dir=directory), fake_suite())
"""


@pytest.mark.parametrize("first", [3, 17, 40])
def test_kill_9_while_the_data_directory_is_made(tmp_path: Path, first: int) -> None:
    """Whatever is there afterwards opens; what is there of a key file is whole."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", BEGINNER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as beginner:
        assert beginner.stdout is not None
        for _ in range(first):
            beginner.stdout.readline()
        beginner.kill()
    suite: Suite = fake_suite()
    made = list(tmp_path.iterdir())
    assert len(made) >= first - 1

    async def main() -> None:
        for directory in made:
            store = SqliteStore(directory / "records.sqlite", MOST, 0)
            assert store.salvaged is None
            await store.commit([record(1, 1)])
            await store.close()
            if (directory / "owner.key").exists():
                assert load_owner(directory / "owner.key", suite).owner_id

    asyncio.run(main())


def test_a_directory_is_made_with_its_parents_and_never_over_a_file(tmp_path: Path) -> None:
    make_directory(tmp_path / "a" / "b" / "c")
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700
    make_directory(tmp_path / "a" / "b" / "c")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")
