"""What both stores promise, and the accounting they share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pqdht.errors import Closed, StorageFull
from pqdht.storage.base import Floor, Store, StoredRecord, Usage
from pqdht.storage.memory import Index, MemoryStore
from pqdht.storage.sqlite import SqliteStore

MAX_BYTES = 1000


def name(text: str) -> bytes:
    return text.encode().ljust(32, b".")


def record(key: str, owner: str = "owner", size: int = 100, **fields: object) -> StoredRecord:
    made = StoredRecord(
        key=name(key),
        owner=name(owner),
        record_id=name(f"{key}/{owner}"),
        kind=2,
        timestamp=1_700_000_000_000,
        expires=2_000,
        group="203.0.113.0/24",
        node=b"",
        size=size,
        tbs=b"t" * (size - 10),
        signature=b"s" * 10,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


Check = Callable[[Store], Awaitable[None]]
WithStore = Callable[[Check], None]


@pytest.fixture(params=["memory", "sqlite"])
def with_store(request: pytest.FixtureRequest, tmp_path: Path) -> WithStore:
    """Runs a check against an empty store of each kind, opened before the loop runs."""
    store: Store = (
        MemoryStore(MAX_BYTES) if request.param == "memory" else SqliteStore(tmp_path / "r.db", MAX_BYTES, 0)
    )

    async def run(check: Check) -> None:
        try:
            await check(store)
        finally:
            await store.close()

    return lambda check: asyncio.run(run(check))


def test_records_come_back_whole_and_ordered(with_store: WithStore) -> None:
    async def check(store: Store) -> None:
        later = record("k", "a", record_id=name("2"), node=name("node"), group="")
        sooner = record("k", "b", record_id=name("1"), kind=1, timestamp=2**62, expires=2**62)
        await store.commit([later, sooner, record("other")])
        assert store.get(name("k")) == [sooner, later]
        assert store.get(name("k"), name("a")) == [later]
        assert store.get(name("k"), name("c")) == []
        assert store.get(name("nothing")) == []
        assert store.keys() == [name("k"), name("other")]

    with_store(check)


def test_a_put_replaces_by_key_and_owner(with_store: WithStore) -> None:
    async def check(store: Store) -> None:
        await store.commit([record("k", size=100, group="a")])
        newer = record("k", size=300, group="b", record_id=name("newer"))
        await store.commit([record("k", size=200), newer])
        assert store.get(name("k")) == [newer]
        assert store.usage() == store.usage_of_owner(name("owner")) == Usage(1, 300)
        assert store.usage_of_group("b") == Usage(1, 300)
        assert store.usage_of_group("a") == Usage(0, 0)

    with_store(check)


def test_removal_comes_before_put(with_store: WithStore) -> None:
    async def check(store: Store) -> None:
        await store.commit([record("a"), record("b")])
        pairs = [(name("a"), name("owner")), (name("b"), name("owner")), (name("none"), name("owner"))]
        await store.commit([record("b", size=50)], pairs)
        assert store.keys() == [name("b")]
        assert store.usage() == Usage(1, 50)

    with_store(check)


def test_a_full_store_refuses_whole_calls_and_keeps_the_rest(with_store: WithStore) -> None:
    async def check(store: Store) -> None:
        await store.commit([record("a", size=600)])
        with pytest.raises(StorageFull, match="raise its quota") as caught:
            await store.commit(
                [record("b", size=300), record("c", size=101)],
                floors=[Floor(name("b"), name("owner"), 5, 9)],
            )
        assert caught.value.fields == {"used": 600, "max_bytes": MAX_BYTES}
        assert store.keys() == [name("a")]
        assert store.floors() == []
        await store.commit([record("b", size=400)])
        await store.commit([record("a", size=600)])
        await store.commit([record("d", size=600)], [(name("a"), name("owner"))])
        assert store.usage() == Usage(2, MAX_BYTES)

    with_store(check)


def test_floors_only_rise(with_store: WithStore) -> None:
    async def check(store: Store) -> None:
        key, owner = name("k"), name("o")
        assert store.floor(key, owner) == 0
        await store.commit([], floors=[Floor(key, owner, 10, 100)])
        await store.commit([], floors=[Floor(key, owner, 9, 900), Floor(name("j"), owner, 1, 50)])
        assert store.floor(key, owner) == 10
        await store.commit([], floors=[Floor(key, owner, 11, 90)])
        assert store.floors() == [Floor(name("j"), owner, 1, 50), Floor(key, owner, 11, 100)]

    with_store(check)


def test_expiry_takes_records_and_floors_apart(with_store: WithStore) -> None:
    async def check(store: Store) -> None:
        await store.commit(
            [record("a", expires=10), record("b", expires=11)],
            floors=[Floor(name("a"), name("owner"), 5, 11), Floor(name("b"), name("owner"), 5, 10)],
        )
        assert store.expire(9) == 0
        assert store.expire(10) == 1
        assert store.keys() == [name("b")]
        assert store.get(name("a")) == []
        assert store.floors() == [Floor(name("a"), name("owner"), 5, 11)]
        assert store.usage() == Usage(1, 100)
        await store.commit([record("a", expires=20)])
        assert store.expire(11) == 1
        assert store.get(name("a")) == [record("a", expires=20)]

    with_store(check)


def test_states_are_named_blobs(with_store: WithStore) -> None:
    async def check(store: Store) -> None:
        assert store.load_state("peers") is None
        await store.save_state("peers", b"1")
        await store.save_state("peers", b"2")
        await store.save_state("own/b", b"b")
        await store.save_state("own/a", b"a")
        assert store.load_state("peers") == b"2"
        assert store.list_states("own/") == ["own/a", "own/b"]
        await store.save_state("own/a", b"")
        await store.save_state("never", b"")
        assert store.load_state("own/a") is None
        assert store.list_states("") == ["own/b", "peers"]

    with_store(check)


def test_a_closed_store_says_so(with_store: WithStore) -> None:
    async def check(store: Store) -> None:
        await store.close()
        await store.close()
        with pytest.raises(Closed):
            await store.commit([record("a")])
        with pytest.raises(Closed):
            await store.save_state("a", b"b")
        for read in (
            lambda: store.get(name("a")),
            lambda: store.expire(1),
            lambda: store.load_state("a"),
            lambda: store.list_states(""),
        ):
            with pytest.raises(Closed):
                read()

    with_store(check)


def test_past_the_limit_the_oldest_floors_go() -> None:
    index: Index[StoredRecord] = Index(MAX_BYTES, max_floors=2)
    for i in (3, 1, 4, 2):
        index.raise_floor(Floor(name(str(i)), name("o"), 7, 100 + i))
    _, dropped = index.expire(101)
    assert [f.key for f in dropped] == [name("1"), name("2")]
    assert [f.key for f in index.floors()] == [name("3"), name("4")]


def test_growth_counts_what_is_pending() -> None:
    index: Index[StoredRecord] = Index(MAX_BYTES)
    index.put(name("a"), name("owner"), record("a", size=100))
    grown, sizes = index.growth([record("a", size=150), record("b", size=70)], [], {})
    assert grown == 120
    assert index.growth([record("a", size=10)], [(name("b"), name("owner"))], sizes)[0] == -140 - 70
    assert index.growth([record("a", size=10)], [(name("a"), name("owner"))], {})[0] == -90
