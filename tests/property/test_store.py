"""Both stores against a dict, through commits, failures, expiry, reopening and crashes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pqdht.errors import StorageFull
from pqdht.storage.base import Floor, Store, StoredRecord, Usage
from pqdht.storage.memory import MemoryStore
from pqdht.storage.sqlite import SqliteStore

MAX_BYTES = 2000
KEYS = [bytes([i]) * 32 for i in range(4)]
OWNERS = [bytes([0xA0 + i]) * 32 for i in range(3)]
GROUPS = ["", "203.0.113.0/24", "2001:db8::/48"]
TIMES = st.integers(0, 20)
PAIRS = st.tuples(st.sampled_from(KEYS), st.sampled_from(OWNERS))


@st.composite
def records(draw: st.DrawFn) -> StoredRecord:
    key, owner = draw(PAIRS)
    size = draw(st.integers(0, 600))
    return StoredRecord(
        key=key,
        owner=owner,
        record_id=draw(st.binary(min_size=32, max_size=32)),
        kind=draw(st.integers(1, 7)),
        timestamp=draw(TIMES),
        expires=draw(TIMES),
        group=draw(st.sampled_from(GROUPS)),
        node=draw(st.sampled_from([b"", KEYS[0]])),
        size=size,
        tbs=bytes(size),
        signature=b"",
    )


FLOORS = st.builds(
    lambda pair, timestamp, expires: Floor(pair[0], pair[1], timestamp, expires), PAIRS, TIMES, TIMES
)
CALL = st.tuples(st.lists(records(), max_size=4), st.lists(PAIRS, max_size=3), st.lists(FLOORS, max_size=3))


class Reference:
    """What a store is, said as plainly as possible."""

    def __init__(self) -> None:
        self.records: dict[tuple[bytes, bytes], StoredRecord] = {}
        self.floors: dict[tuple[bytes, bytes], Floor] = {}
        self.states: dict[str, bytes] = {}

    def commit(self, put: list[StoredRecord], remove: list[tuple[bytes, bytes]], floors: list[Floor]) -> bool:
        after = {pair: r for pair, r in self.records.items() if pair not in remove}
        after |= {(r.key, r.owner): r for r in put}
        total = sum(r.size for r in after.values())
        if total > MAX_BYTES and total > sum(r.size for r in self.records.values()):
            return False
        self.records = after
        for f in floors:
            old = self.floors.get((f.key, f.owner), Floor(f.key, f.owner, 0, 0))
            if f.timestamp >= old.timestamp:
                self.floors[f.key, f.owner] = replace(f, expires=max(f.expires, old.expires))
        return True

    def expire(self, now: int) -> int:
        before = len(self.records)
        self.records = {pair: r for pair, r in self.records.items() if r.expires > now}
        self.floors = {pair: f for pair, f in self.floors.items() if f.expires > now}
        return before - len(self.records)


class MemoryStoreMachine(RuleBasedStateMachine):
    """The memory store."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.reference = Reference()
        self.store: Store = self.open()

    def open(self) -> Store:
        return MemoryStore(MAX_BYTES)

    def teardown(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.loop.close()

    async def call(
        self, put: list[StoredRecord], remove: list[tuple[bytes, bytes]], floors: list[Floor]
    ) -> bool:
        try:
            await self.store.commit(put, remove, floors)
        except StorageFull:
            return False
        return True

    @rule(calls=st.lists(CALL, min_size=1, max_size=3))
    def commit(self, calls: list[tuple[list[StoredRecord], list[tuple[bytes, bytes]], list[Floor]]]) -> None:
        async def together() -> list[bool]:
            return await asyncio.gather(*(self.call(*call) for call in calls))

        kept = self.loop.run_until_complete(together())
        assert kept == [self.reference.commit(*call) for call in calls]

    @rule(now=TIMES)
    def expire(self, now: int) -> None:
        assert self.store.expire(now) == self.reference.expire(now)

    @rule(name=st.sampled_from(["peers", "own/a", "own/b"]), blob=st.binary(max_size=5))
    def save_state(self, name: str, blob: bytes) -> None:
        self.loop.run_until_complete(self.store.save_state(name, blob))
        self.reference.states[name] = blob

    @invariant()
    def the_same_is_held(self) -> None:
        held = self.reference.records
        assert self.store.keys() == sorted({key for key, _ in held})
        for key in KEYS:
            under = sorted((r for r in held.values() if r.key == key), key=lambda r: r.record_id)
            found = self.store.get(key)
            assert [r.record_id for r in found] == [r.record_id for r in under]
            assert sorted(found, key=lambda r: r.owner) == sorted(under, key=lambda r: r.owner)
            for owner in OWNERS:
                assert self.store.get(key, owner) == [r for r in under if r.owner == owner]

    @invariant()
    def the_same_is_counted(self) -> None:
        held = list(self.reference.records.values())

        def usage(of: list[StoredRecord]) -> Usage:
            return Usage(len(of), sum(r.size for r in of))

        assert self.store.usage() == usage(held)
        for owner in OWNERS:
            assert self.store.usage_of_owner(owner) == usage([r for r in held if r.owner == owner])
        for group in GROUPS:
            assert self.store.usage_of_group(group) == usage([r for r in held if r.group == group])

    @invariant()
    def the_same_is_remembered(self) -> None:
        floors = self.reference.floors
        assert self.store.floors() == [floors[pair] for pair in sorted(floors)]
        for key in KEYS:
            for owner in OWNERS:
                floor = floors.get((key, owner))
                assert self.store.floor(key, owner) == (floor.timestamp if floor else 0)
        states = {name: blob for name, blob in self.reference.states.items() if blob}
        assert self.store.list_states("") == sorted(states)
        for name in ("peers", "own/a", "own/b"):
            assert self.store.load_state(name) == states.get(name)


class SqliteStoreMachine(MemoryStoreMachine):
    """The store on disk, which also has to come back."""

    def __init__(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="pqdht-store-"))
        self.directory = self.root / "0"
        self.expired = False
        super().__init__()

    def open(self) -> Store:
        return SqliteStore(self.directory / "records.db", MAX_BYTES, 0)

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.root)

    @rule(now=TIMES)
    def expire(self, now: int) -> None:
        super().expire(now)
        self.expired = True

    @rule()
    def reopen(self) -> None:
        self.loop.run_until_complete(self.store.close())
        self.store = self.open()
        self.expired = False

    # Expiry is not promised to survive a crash: it happens again.
    @precondition(lambda self: not self.expired)
    @rule()
    def crash(self) -> None:
        crashed = self.directory
        self.directory = self.root / str(int(crashed.name) + 1)
        shutil.copytree(crashed, self.directory)
        self.loop.run_until_complete(self.store.close())
        self.store = self.open()


TestMemoryStore = MemoryStoreMachine.TestCase
TestMemoryStore.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)
TestSqliteStore = SqliteStoreMachine.TestCase
TestSqliteStore.settings = settings(
    max_examples=40, stateful_step_count=15, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
