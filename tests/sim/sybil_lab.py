"""Sybils at a key in a network of 10,000, with routing, lookup and trust code alone (no bytes, no clocks).

`retrieval` stores and fetches under attack, `kl_table` counts false alarms and detections of the Sybil test
with an estimated N.  Published: Sridhar et al., NDSS 2024.  `python -m tests.sim.sybil_lab` prints both.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from pqdht.ids import ID_BITS, common_prefix_length, distance
from pqdht.kad.lookup import Lookup
from pqdht.kad.quorum import Holding, Member, Verdict, Version, closest_members, confirm
from pqdht.kad.size import SizeEstimator
from pqdht.node.lookups import ASKED_MOST, REGION_ASKED, REGION_END, REGION_PATHS
from pqdht.trust.sybil import SybilFinding, SybilTest, region_targets
from tests.unit.kad.network import StaticNetwork, candidates, near, random_id, true_closest

K, END, DOUBT, SEEDS, TOLD = 20, 6, 8, 24, 64
SAMPLES = 10
"""Random lookups behind an estimate of N: about an hour of a young node."""
OLD, NEW = Version(1, b"old", b"old"), Version(2, b"new", b"new")


@dataclass
class Search:
    """One lookup with what the region after an alarm cost on top."""

    lookup: Lookup[int]
    finding: SybilFinding | None
    lookups: int = 1
    contacted: dict[bytes, None] = field(default_factory=dict)
    questions: int = 0

    @property
    def answered(self) -> list[bytes]:
        return [a.node_id for a in self.lookup.answered()]


@dataclass
class World:
    """A network, one key, and the Sybils nearest to it, known to everybody whose table has room."""

    network: StaticNetwork
    target: bytes
    sybils: list[bytes]
    dice: random.Random

    def answer(self, node: bytes, target: bytes, known: dict[bytes, None], asker: bytes) -> list[bytes]:
        if node in self._members:
            others = [s for s in self.sybils if s != node and s not in known] or self.sybils
            return self.dice.sample(others, min(K, len(others)))
        found = self.network.table(node).closest(target, K + len(known) + 1)
        return [e.node_id for e in found if e.node_id not in known and e.node_id != asker][:K]

    def __post_init__(self) -> None:
        self._members = dict.fromkeys(self.sybils)

    def is_sybil(self, node: bytes) -> bool:
        return node in self._members

    def drive(self, lookup: Lookup[int], search: Search | None, me: bytes) -> None:
        waiting = lookup.next(0.0)
        while waiting:
            query = waiting.pop(0)
            if search is not None:
                search.contacted[query.node_id] = None
                search.questions += 1
            known = dict.fromkeys(lookup.told(query.path, TOLD))
            found = self.answer(query.node_id, lookup.target, known, me)
            lookup.on_reply(query.node_id, candidates(found), 0.0)
            waiting += lookup.next(0.0)

    def begin(
        self,
        me: bytes,
        target: bytes,
        end: int,
        hints: Sequence[bytes] = (),
        paths: int = 4,
        most: int = ASKED_MOST,
    ) -> Lookup[int]:
        seeds = [*hints, *(e.node_id for e in self.network.table(me).closest(target, SEEDS))]
        return Lookup(target, k=K, seeds=candidates(seeds), end=end, paths=paths, max_queries=most)

    def estimate(self, me: bytes) -> float:
        """N as this node would estimate it, from walks to random keys."""
        sizes = SizeEstimator(K)
        for _ in range(SAMPLES):
            lookup = self.begin(me, random_id(self.dice), END)
            self.drive(lookup, None, me)
            sizes.observe_paths(lookup.target, [lookup.closest_seen_by(p, K) for p in range(4)], 0.0)
        estimate = sizes.estimate(0.0)
        assert estimate is not None
        return estimate.nodes

    def search(self, me: bytes, n: float, end: int, *, defended: bool) -> Search:
        """As `Reader` and `Publisher` search: the paths, then on alarm the region."""
        lookup = self.begin(me, self.target, end)
        search = Search(lookup, None)
        self.drive(lookup, search, me)
        ids = [c.node_id for c in lookup.closest_known(K)]
        search.finding = SybilTest(K).check(self.target, ids, n) if defended else None
        if search.finding is None:
            return search
        cpl = search.finding.region_cpl
        hints = [c.node_id for c in lookup.closest_known(K * 4)]
        for target in region_targets(self.target, cpl, n, self.dice):
            other = self.begin(me, target, REGION_END, hints, REGION_PATHS, REGION_ASKED)
            self.drive(other, search, me)
            near_ones = [c.node_id for c in other.closest_known(other.live)]
            lookup.tell(candidates([i for i in near_ones if common_prefix_length(i, self.target) >= cpl]))
            search.lookups += 1
        lookup.raise_end(DOUBT)
        lookup.raise_region(cpl)
        self.drive(lookup, search, me)
        return search


@dataclass(frozen=True)
class Retrieval:
    """Means over the trials; shares 0..1."""

    sybils: int
    active: bool
    defended: bool
    alarms: float
    retrieved: float
    """The value itself, whatever the verdict."""
    confirmed: float
    """... and confirmed."""
    contacted: float
    """Distinct nodes asked by a GET."""
    contacted_most: int
    questions: float
    updated: float
    """Nodes that a PUT stored at."""
    lookups: float


def worlds(n: int, sybils: int, trials: int, seed: int) -> list[World]:
    """Keys in one network of `n` honest nodes; at each, Sybils closer than any honest node."""
    dice = random.Random(seed)
    nodes = [random_id(dice) for _ in range(n)]
    made = []
    for _ in range(trials):
        target = random_id(dice)
        bits = ID_BITS - distance(true_closest(nodes, target, 1)[0], target).bit_length() + 1
        packed = [near(target, bits, dice) for _ in range(sybils)]
        made.append(World(StaticNetwork(nodes + packed, K, dice.getrandbits(32)), target, packed, dice))
    return made


def retrieval(
    sybils: int, active: bool, *, trials: int = 20, n: int = 10_000, defended: bool = True, seed: int = 1
) -> Retrieval:
    """PUT of a newer version under attack by one node, GET by another.

    Passive Sybils say that nothing is there; active ones all serve an older version that was valid.  Both
    sign receipts and keep nothing.  Honest nodes that the PUT reaches keep the record.
    """
    rows = []
    for world in worlds(n, sybils, trials, seed):
        honest = [i for i in world.network.nodes if not world.is_sybil(i)]
        writer, reader = world.dice.sample(honest, 2)
        put = world.search(writer, world.estimate(writer), DOUBT, defended=defended)
        wide = {a.node_id for a in put.lookup.closest_on_every_path(K // 4)} | set(put.answered[:K])
        cpl = put.finding.region_cpl if put.finding else ID_BITS + 1
        stored = {i for i in put.answered if i in wide or common_prefix_length(i, world.target) >= cpl}
        get = world.search(reader, world.estimate(reader), END, defended=defended)
        rows.append((put, get, stored, *_outcome(world, get, stored, OLD if active else None)))
    return Retrieval(
        sybils,
        active,
        defended,
        alarms=fmean(get.finding is not None for _, get, *_ in rows),
        retrieved=fmean(seen for *_, seen, _ in rows),
        confirmed=fmean(sure for *_, sure in rows),
        contacted=fmean(len(get.contacted) for _, get, *_ in rows),
        contacted_most=max(len(get.contacted) for _, get, *_ in rows),
        questions=fmean(get.questions for _, get, *_ in rows),
        updated=fmean(len(stored) for _, _, stored, *_ in rows),
        lookups=fmean(get.lookups for _, get, *_ in rows),
    )


def _outcome(world: World, get: Search, stored: set[bytes], lie: Version | None) -> tuple[bool, bool]:
    """(the newest was seen, and the rule confirms it without a repair)."""
    holdings = [Holding(i, NEW) for i in get.answered if i in stored and not world.is_sybil(i)]
    seen = bool(holdings)
    if lie is not None:
        holdings += [Holding(i, lie) for i in get.answered if world.is_sybil(i)]
    region = get.finding.region_cpl if get.finding else None
    members = closest_members(world.target, [Member(i, "") for i in get.answered], K, None, region)
    outcome = confirm(members, holdings, address_groups=False)
    return seen, seen and outcome.verdict is Verdict.CONFIRMED


@dataclass(frozen=True)
class TestRate:
    """How often the test raised an alarm (0..1)."""

    size: int
    sybils: int
    alarms: float


def kl_table(
    sizes: Sequence[int] = (1000, 5000, 10_000, 25_000),
    sybils: Sequence[int] = (0, 10, 20, 45),
    trials: int = 2000,
    seed: int = 1,
) -> list[TestRate]:
    """The test at keys with so many Sybils, closer than any honest node, N estimated from 10 lookups of
    random keys (a new estimate every tenth trial).  0 Sybils: false positives."""
    rows = []
    for size in sizes:
        for count in sybils:
            dice = random.Random(f"{seed} {size} {count}")
            test, alarms, n = SybilTest(K), 0, 0.0
            for trial in range(trials):
                if trial % 10 == 0:
                    n = _estimate(size, dice)
                honest = _closest(size, dice)
                bits = ID_BITS - honest[0].bit_length() + 1
                packed = [dice.getrandbits(ID_BITS - bits) for _ in range(count)]
                ids = [d.to_bytes(32, "big") for d in sorted([*packed, *honest])]
                alarms += test.check(bytes(32), ids, n) is not None
            rows.append(TestRate(size, count, alarms / trials))
    return rows


def _closest(n: int, dice: random.Random) -> list[int]:
    """The K smallest of `n` uniform distances, ascending: each the least of those that remain."""
    found, low = [], 0.0
    for i in range(K):
        low = 1 - (1 - low) * (1 - dice.random()) ** (1 / (n - i))
        found.append(int(low * 2.0**ID_BITS))
    return found


def _estimate(n: int, dice: random.Random) -> float:
    sizes = SizeEstimator(K)
    for _ in range(SAMPLES):
        sizes.observe(bytes(32), [d.to_bytes(32, "big") for d in _closest(n, dice)], 0.0)
    estimate = sizes.estimate(0.0)
    assert estimate is not None
    return estimate.nodes


def main(trials: int) -> None:
    """Both tables on standard output."""
    print("sybils active defended alarms retrieved confirmed contacted most questions updated lookups")
    for defended in (False, True):
        for active in (False, True):
            for count in (15, 20, 30, 45):
                r = retrieval(count, active, trials=trials, defended=defended)
                print(
                    f"{r.sybils:6} {r.active!s:6} {r.defended!s:8} {r.alarms:6.0%} {r.retrieved:9.0%}"
                    f" {r.confirmed:9.0%} {r.contacted:9.1f} {r.contacted_most:4} {r.questions:9.1f}"
                    f" {r.updated:7.1f} {r.lookups:7.1f}",
                    flush=True,
                )
    print("size sybils alarms")
    for row in kl_table(trials=100 * trials):
        print(f"{row.size:5} {row.sybils:6} {row.alarms:7.2%}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20)
