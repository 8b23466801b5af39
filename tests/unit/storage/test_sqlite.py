"""What is particular to the store on disk: durability, group commit, full disks, damage."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from pqdht.errors import StorageError, StorageFull
from pqdht.storage import sqlite
from pqdht.storage.base import Floor, StoredRecord, Usage
from pqdht.storage.sqlite import SqliteStore

MAX_BYTES = 1 << 30


def record(i: int, size: int = 1000, **fields: Any) -> StoredRecord:
    key = i.to_bytes(32, "big")
    made = {
        "key": key,
        "owner": key,
        "record_id": key,
        "kind": 2,
        "timestamp": i,
        "expires": 1 << 40,
        "group": "g",
        "node": b"",
        "size": size,
        "tbs": bytes([i % 251]) * (size - 10),
        "signature": bytes(10),
    }
    return StoredRecord(**{**made, **fields})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "records.db"


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(main)


def test_everything_is_there_after_reopening(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0)
        await store.commit([record(1), record(2)], floors=[Floor(bytes(32), bytes(32), 7, 60)])
        await store.commit([], floors=[Floor(bytes(32), bytes(32), 6, 90)])  # lower: changes nothing
        await store.commit([], floors=[Floor(bytes(32), bytes(32), 7, 70)])
        await store.commit([record(2, size=500)], [(record(1).key, record(1).owner)])
        await store.save_state("peers", b"blob")
        await store.close()
        assert not path.with_name("records.db-wal").exists()
        store = SqliteStore(path, MAX_BYTES, 0)
        assert store.salvaged is None
        assert store.get(record(2).key) == [record(2, size=500)]
        assert store.keys() == [record(2).key]
        assert store.usage() == store.usage_of_group("g") == Usage(1, 500)
        assert store.floors() == [Floor(bytes(32), bytes(32), 7, 70)]
        assert store.load_state("peers") == b"blob"
        await store.close()

    run(main())


def test_expired_records_do_not_come_back(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0)
        floors = [Floor(record(1).key, bytes(32), 1, 50), Floor(record(2).key, bytes(32), 1, 51)]
        await store.commit([record(1, expires=50), record(2, expires=51)], floors=floors)
        assert store.expire(50) == 1
        await store.close()
        store = SqliteStore(path, MAX_BYTES, 0)
        assert store.keys() == [record(2).key]
        assert store.floors() == floors[1:]
        await store.close()

    run(main())


def test_a_newer_version_written_meanwhile_survives_expiry(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0)
        pair = record(1).key, record(1).owner
        await store.commit([record(1, expires=50)], floors=[Floor(*pair, 1, 50)])
        with held_up(path):
            commit = asyncio.ensure_future(
                store.commit([record(1, expires=99)], floors=[Floor(*pair, 2, 40)])
            )
            await asyncio.wait([commit], timeout=0)
            store.expire(60)
        await commit
        await store.close()
        store = SqliteStore(path, MAX_BYTES, 0)
        assert store.get(record(1).key) == [record(1, expires=99)]
        assert store.floor(*pair) == 2
        await store.close()

    run(main())


class held_up:
    """Keeps the writer thread waiting: another connection holds SQLite's write lock."""

    def __init__(self, path: Path) -> None:
        self._other = sqlite3.connect(path, isolation_level=None)

    def __enter__(self) -> None:
        self._other.execute("BEGIN IMMEDIATE")

    def __exit__(self, *_: object) -> None:
        self._other.execute("ROLLBACK")
        self._other.close()


def test_waiting_commits_are_joined(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0)
        with held_up(path):
            commits = [asyncio.ensure_future(store.commit([record(i)])) for i in range(100)]
            await asyncio.wait(commits, timeout=0)
            assert not any(commit.done() for commit in commits)
            assert store.keys() == []
        await asyncio.gather(*commits)
        # The writer may have taken the first few before the rest came.
        assert 1 <= store.transactions <= 2
        assert store.usage().records == 100
        await store.close()

    run(main())


@pytest.mark.parametrize(("limit", "value"), [("_GROUP_JOBS", 10), ("_GROUP_BYTES", 10_000)])
def test_a_transaction_is_bounded(
    path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    async def main() -> None:
        monkeypatch.setattr(sqlite, limit, value)
        store = SqliteStore(path, MAX_BYTES, 0)
        await asyncio.gather(*(store.commit([record(i, size=1000)]) for i in range(100)))
        assert store.transactions >= 10
        assert store.usage().records == 100
        await store.close()

    run(main())


def test_joined_commits_fail_one_by_one(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, 2600, 0)
        await store.commit([record(0)])
        with held_up(path):
            calls = [
                store.commit([record(1)]),
                store.commit([record(2)]),  # over the quota
                store.commit([record(0, size=900), record(3, size=600)]),
                store.commit(
                    [record(4, size=100, timestamp=1 << 70)]
                ),  # SQLite cannot hold it: fails the group
                store.save_state("peers", b"blob"),
            ]
            commits = [asyncio.ensure_future(call) for call in calls]
            await asyncio.wait(commits, timeout=0)
        results = await asyncio.gather(*commits, return_exceptions=True)
        failures = [type(r) for r in results if r is not None]
        assert failures == [StorageFull, OverflowError]
        assert [i for i, r in enumerate(results) if r is not None] == [1, 3]
        assert store.keys() == [record(i).key for i in (0, 1, 3)]
        assert store.usage() == Usage(3, 2500)
        assert store.load_state("peers") == b"blob"
        await store.close()

    run(main())


def test_a_cancelled_commit_happens_whole_or_not_at_all(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0)
        with held_up(path):
            commits = [
                asyncio.ensure_future(store.commit([record(2 * i), record(2 * i + 1)])) for i in range(20)
            ]
            await asyncio.wait(commits, timeout=0)
            for commit in commits:
                commit.cancel()
            await asyncio.wait(commits)
        await store.commit([record(1000)])
        held = store.keys()
        assert record(1000).key in held
        for i in range(20):
            assert (record(2 * i).key in held) == (record(2 * i + 1).key in held)
        await store.close()

    run(main())


def test_a_full_disk_refuses_and_loses_nothing(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0, max_pages=64)
        kept: list[int] = []

        async def fill() -> None:
            for i in range(1000):
                await store.commit([record(i, size=3000)])
                kept.append(i)

        with pytest.raises(StorageFull, match="free some disk space"):
            await fill()
        assert 10 < len(kept) < 100
        with pytest.raises(StorageFull):  # the small one goes with the big one
            await store.commit([record(2000, size=10), record(2001, size=100_000)])
        assert store.keys() == [record(i).key for i in kept]
        assert [store.get(record(i).key) for i in kept] == [[record(i, size=3000)] for i in kept]
        await store.commit([], [(record(i).key, record(i).owner) for i in kept[:10]])
        await store.commit([record(3000, size=3000)])
        await store.close()
        store = SqliteStore(path, MAX_BYTES, 0)
        assert store.keys() == [record(i).key for i in [*kept[10:], 3000]]
        await store.close()

    run(main())


def test_a_full_disk_refuses_only_what_does_not_fit(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0, max_pages=64)
        with held_up(path):
            sizes = [1000, 500_000, 1000]
            commits = [asyncio.ensure_future(store.commit([record(i, size=s)])) for i, s in enumerate(sizes)]
            await asyncio.wait(commits, timeout=0)
        results = await asyncio.gather(*commits, return_exceptions=True)
        assert [type(r) for r in results] == [type(None), StorageFull, type(None)]
        assert store.keys() == [record(0).key, record(2).key]
        await store.close()

    run(main())


def test_a_crash_keeps_what_commit_returned_from(path: Path, tmp_path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0)
        await store.commit([record(1)])
        crashed = tmp_path / "crashed"
        shutil.copytree(path.parent, crashed)
        copy = SqliteStore(crashed / path.name, MAX_BYTES, 0)
        assert copy.get(record(1).key) == [record(1)]
        await copy.close()
        await store.close()

    run(main())


WRITER = """
import asyncio, sys
from pathlib import Path
from pqdht.storage import sqlite
from pqdht.storage.base import StoredRecord
from pqdht.storage.sqlite import SqliteStore

async def main():
    store = SqliteStore(Path(sys.argv[1]), 1 << 30, 0)
    async def put(i):
        key = i.to_bytes(32, "big")
        await store.commit([StoredRecord(key, key, key, 1, i, 1 << 40, "", b"", 500, bytes(490), bytes(10))])
        print(i, flush=True)
    for i in range(0, 1 << 20, 8):
        await asyncio.gather(*map(put, range(i, i + 8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("receipts", [1, 20, 333])
def test_kill_9_keeps_every_promise(path: Path, receipts: int) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True, env=environment
    ) as writer:
        assert writer.stdout is not None
        promised = [int(writer.stdout.readline()) for _ in range(receipts)]
        writer.kill()
        promised += [int(line) for line in writer.stdout.read().splitlines(True) if line.endswith("\n")]

    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0)
        assert store.salvaged is None
        for i in promised:
            assert len(store.get(i.to_bytes(32, "big"))) == 1, f"record {i} was promised"
        await store.close()

    run(main())


def test_a_damaged_database_is_set_aside_and_reported(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(b"rubbish" * 1000)

    async def main() -> None:
        with caplog.at_level(logging.WARNING):
            store = SqliteStore(path, MAX_BYTES, 99)
        assert store.salvaged is not None
        assert store.salvaged.kept.name == "records.db.corrupt-99"
        assert "was damaged" in caplog.text
        await store.commit([record(1)])
        await store.close()
        store = SqliteStore(path, MAX_BYTES, 100)
        assert store.salvaged is None
        assert store.get(record(1).key) == [record(1)]
        await store.close()

    run(main())


def test_one_process_at_a_time(path: Path) -> None:
    async def main() -> None:
        store = SqliteStore(path, MAX_BYTES, 0)
        with pytest.raises(StorageError, match=f"in use by process {os.getpid()}"):
            SqliteStore(path, MAX_BYTES, 0)
        await store.close()
        await SqliteStore(path, MAX_BYTES, 0).close()

    run(main())


def test_a_refused_open_leaves_the_directory_free(path: Path) -> None:
    async def main() -> None:
        await SqliteStore(path, MAX_BYTES, 0).close()
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 9")
        with pytest.raises(StorageError, match="newer"):
            SqliteStore(path, MAX_BYTES, 0)
        with contextlib.closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA user_version = 1")
        await SqliteStore(path, MAX_BYTES, 0).close()

    run(main())
