"""The routing table against a plain reference: sort everything by XOR distance."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pqdht.ids import common_prefix_length, distance
from pqdht.kad.table import CELLS_PER_K, Table
from tests.unit.kad.network import StaticNetwork, near, random_id, true_closest

PER_BUCKET, PER_TABLE, PER_WIDE = 2, 5, 8


@given(st.integers(0, 2**32), st.integers(0, 400), st.integers(1, 40), st.integers(0, 255))
def test_closest_equals_sorting(seed: int, size: int, n: int, closeness: int) -> None:
    dice = random.Random(seed)
    own = random_id(dice)
    table: Table[None] = Table(
        own, 20, per_bucket=2, per_table=10, per_wide=20, group_limits=False, dice=dice
    )
    for _ in range(size):
        table.add(near(own, dice.randrange(24), dice), None, "", "", dice.random())
    held = [e.node_id for e in table]
    for target in (own, random_id(dice), near(own, closeness, dice), *held[:1]):
        assert [e.node_id for e in table.closest(target, n)] == true_closest(held, target, n)
        skipped = held[::3]
        since = [e.node_id for e in table if e.last_heard >= 0.5 and e.node_id not in skipped]
        found = table.closest(target, n, heard_since=0.5, exclude=skipped)
        assert [e.node_id for e in found] == true_closest(since, target, n)


@pytest.mark.parametrize("seed", [1, 2])
def test_ten_thousand_nodes(seed: int) -> None:
    """Whoever is met: the neighbourhood is whole, no bucket too deep, the closest are right."""
    dice = random.Random(seed)
    own, k = random_id(dice), 20
    nodes = [random_id(dice) for _ in range(10_000)]
    table: Table[None] = Table(own, k, per_bucket=2, per_table=10, per_wide=20, group_limits=False, dice=dice)
    for node in nodes:
        table.add(node, None, "", "", 0.0)
    held = [e.node_id for e in table]
    neighbours = true_closest(nodes, own, 2 * k)
    assert true_closest(held, own, 2 * k) == neighbours
    for cpl, count in table.status()["buckets"].items():
        others = [n for n in held if common_prefix_length(n, own) == cpl and n not in neighbours]
        assert count <= k or not others
    for target in [random_id(dice) for _ in range(200)] + nodes[:50]:
        assert [e.node_id for e in table.closest(target, k)] == true_closest(held, target, k)


@settings(max_examples=15)
@given(st.integers(1, 300), st.integers(0, 2**32))
def test_tables_know_the_k_closest_to_themselves(size: int, seed: int) -> None:
    dice = random.Random(seed)
    network = StaticNetwork([random_id(dice) for _ in range(size)], 8, seed)
    for own in network.nodes[:10]:
        others = [n for n in network.nodes if n != own]
        assert network.honest(own, own) == true_closest(others, own, 8)


class TableMachine(RuleBasedStateMachine):
    """Anything may happen to a table; the limits hold after each step."""

    @initialize(seed=st.integers(0, 2**32), k=st.integers(1, 6), limits=st.booleans())
    def start(self, seed: int, k: int, limits: bool) -> None:
        self.dice = random.Random(seed)
        self.own, self.k, self.limits, self.now = random_id(self.dice), k, limits, 0.0
        self.pinned: dict[bytes, None] = {}
        self.table: Table[int] = Table(
            self.own,
            k,
            per_bucket=PER_BUCKET,
            per_table=PER_TABLE,
            per_wide=PER_WIDE,
            group_limits=limits,
            dice=self.dice,
        )

    @rule(count=st.integers(1, 12), bits=st.integers(0, 12), group=st.integers(0, 9), pin=st.integers(0, 15))
    def add(self, count: int, bits: int, group: int, pin: int) -> None:
        for _ in range(count):
            self.now += 1.0
            node = near(self.own, bits, self.dice)
            self.table.add(node, 0, f"g{group}", f"w{group % 4}", self.now, pinned=pin == 0)
            if pin == 0:
                self.pinned[node] = None

    @precondition(lambda self: len(self.table) > 0)
    @rule(which=st.integers(0, 99), group=st.integers(0, 9))
    def move(self, which: int, group: int) -> None:
        entry = list(self.table)[which % len(self.table)]
        self.table.add(entry.node_id, 1, f"g{group}", f"w{group % 4}", self.now)

    @precondition(lambda self: len(self.table) > 0)
    @rule(which=st.integers(0, 99), times=st.integers(1, 4), live=st.booleans())
    def fail(self, which: int, times: int, live: bool) -> None:
        entry = list(self.table)[which % len(self.table)]
        for _ in range(times):
            self.now += 1.0
            evicted = self.table.failed(entry.node_id, self.now)
            assert not (evicted and entry.node_id in self.table)
            if live:
                self.table.heard(self.dice.randbytes(32), self.now + 0.5)

    @precondition(lambda self: len(self.table) > 0)
    @rule(which=st.integers(0, 99))
    def remove(self, which: int) -> None:
        node = list(self.table)[which % len(self.table)].node_id
        assert self.table.remove(node, self.now)
        self.pinned.pop(node, None)

    @rule(hours=st.integers(1, 3))
    def redraw(self, hours: int) -> None:
        before = len(self.table)
        self.now += 3600.0 * hours
        self.table.redraw(self.now)
        assert len(self.table) >= before

    @invariant()
    def limits_hold(self) -> None:
        if not hasattr(self, "table"):
            return
        entries = list(self.table)
        counted = [e for e in entries if not e.pinned]
        groups, wides = Counter(e.group for e in counted), Counter(e.wide for e in counted)
        assert all(self.table.group_count(f"g{i}") == groups[f"g{i}"] for i in range(10))
        assert all(self.table.wide_count(f"w{i}") == wides[f"w{i}"] for i in range(4))
        neighbours = dict.fromkeys(true_closest([e.node_id for e in entries], self.own, 2 * self.k))
        buckets: dict[int, list[bytes]] = {}
        in_bucket: Counter[tuple[int, str]] = Counter()
        for e in counted:
            cpl = common_prefix_length(e.node_id, self.own)
            buckets.setdefault(cpl, []).append(e.node_id)
            in_bucket[cpl, e.group] += 1
        for members in buckets.values():
            assert len(members) <= self.k or all(n in neighbours for n in members)
        if self.limits:
            assert max(groups.values(), default=0) <= PER_TABLE
            assert max(wides.values(), default=0) <= PER_WIDE
            assert max(in_bucket.values(), default=0) <= PER_BUCKET

    @invariant()
    def pinned_stay(self) -> None:
        if hasattr(self, "table"):
            assert all(n in self.table for n in self.pinned)

    @invariant()
    def pool_is_bounded_and_apart(self) -> None:
        if not hasattr(self, "table"):
            return
        pool = self.table.candidates()
        assert not any(e.node_id in self.table for e in pool)
        per_bucket = Counter(common_prefix_length(e.node_id, self.own) for e in pool)
        assert max(per_bucket.values(), default=0) <= CELLS_PER_K * self.k

    @invariant()
    def closest_is_right(self) -> None:
        if hasattr(self, "table"):
            target = random.Random(len(self.table)).randbytes(32)
            held = sorted((e.node_id for e in self.table), key=lambda n: distance(n, target))
            assert [e.node_id for e in self.table.closest(target, 5)] == held[:5]


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=30)
