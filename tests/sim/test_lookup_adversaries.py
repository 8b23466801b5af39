"""Colluders at the key: the end rule over merged results fails, the per-path rule does not (section 6).

N = 10,000; 20 Sybils sit closer to the key than any honest node, and a fifth or three tenths of all nodes
collude: colluders answer only with colluders, the closest first.  A lookup succeeds if it reaches an honest
one of the 20 nodes that held the record before the Sybils came.  Routing and lookup code alone.

A weaker attacker's Sybils name nobody (`quiet`) and only the other colluders name them.  A path that met one
then goes on with what it was told before, which gives about the figures of the design (own 5: 94 and 76 %).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

import pytest

from pqdht.config import Config
from pqdht.ids import ID_BITS, distance
from pqdht.kad.lookup import Lookup
from tests.unit.kad.network import StaticNetwork, candidates, near, random_id, run, true_closest

N, K, SYBILS = 10_000, 20, 20
TRIALS = 24


@dataclass
class World:
    """One key under attack, and one honest node that looks it up."""

    network: StaticNetwork
    me: bytes
    target: bytes
    colluders: dict[bytes, None]
    closest_colluders: list[bytes]
    replicas: dict[bytes, None]
    quiet: dict[bytes, None]
    """Colluders that answer without a contact."""

    def answer(self, node: bytes, target: bytes) -> list[bytes]:
        if node in self.quiet:
            return []
        if node in self.colluders:
            return self.closest_colluders
        return [n for n in self.network.honest(node, target) if n != self.me]

    def is_reached_by(self, nodes: list[bytes]) -> bool:
        return any(n in self.replicas and n not in self.colluders for n in nodes)


def worlds(share: float, count: int = TRIALS, sybils: int = SYBILS) -> list[World]:
    """Keys in one network; the same for every rule that is compared."""
    dice = random.Random(round(share * 100))
    nodes = [random_id(dice) for _ in range(N)]
    made = []
    for _ in range(count):
        target = random_id(dice)
        replicas = true_closest(nodes, target, K)
        bits = ID_BITS - distance(replicas[0], target).bit_length() + 1
        packed = [near(target, bits, dice) for _ in range(sybils)]
        colluders = dict.fromkeys([*dice.sample(nodes, round(N * share)), *packed])
        me = next(n for n in dice.sample(nodes, N) if n not in colluders)
        named = true_closest(list(colluders), target, K)
        network = StaticNetwork(nodes + packed, K, dice.getrandbits(32))
        made.append(World(network, me, target, colluders, named, dict.fromkeys(replicas), {}))
    return made


def with_quiet_sybils(world: World) -> World:
    """The same attack, in which the Sybils at the key (the closest of all nodes) name nobody."""
    return replace(world, quiet=dict.fromkeys(world.closest_colluders[:SYBILS]))


def own_rule(world: World, *, end: int, paths: int = 4) -> tuple[bool, int]:
    """(success, questions) of our lookup, begun with as many seeds as a node begins with.

    The number matters to whoever is near the key: of 20, the Sybils would be all.
    """
    begin = max(K, paths * min(end, Config().path_end))
    nearest = world.network.table(world.me).closest(world.target, begin)
    seeds = candidates([entry.node_id for entry in nearest])
    lookup: Lookup[int] = Lookup(world.target, k=K, seeds=seeds, end=end, paths=paths)
    run(lookup, world.answer)
    return world.is_reached_by([a.node_id for a in lookup.answered()]), lookup.counters["asked"]


def merged_rule(world: World, *, parallel: int = 12) -> tuple[bool, int]:
    """Kademlia as usual: ends when the k closest of all that was learned have answered."""
    known = dict.fromkeys(world.network.honest(world.me, world.target))
    asked: dict[bytes, None] = {}
    while True:
        shortlist = true_closest(list(known), world.target, K)
        todo = [n for n in shortlist if n not in asked][:parallel]
        if not todo:
            return world.is_reached_by(list(asked)), len(asked)
        for node in todo:
            asked[node] = None
            known.update(dict.fromkeys(world.answer(node, world.target)))


def rate(outcomes: list[tuple[bool, int]]) -> tuple[float, float]:
    """(share of successes, mean questions)."""
    return sum(ok for ok, _ in outcomes) / len(outcomes), sum(q for _, q in outcomes) / len(outcomes)


@pytest.mark.parametrize("share", [0.2, 0.3])
def test_twenty_sybils_at_the_key(share: float) -> None:
    attacked = worlds(share)
    merged, merged_cost = rate([merged_rule(w) for w in attacked])
    own5, cost5 = rate([own_rule(w, end=5) for w in attacked])
    own6, cost6 = rate([own_rule(w, end=6) for w in attacked])
    own8, cost8 = rate([own_rule(w, end=8) for w in attacked])
    wide5, wide_cost = rate([own_rule(w, end=5, paths=8) for w in attacked])
    assert merged <= 0.4  # the attack succeeds without the defence: published 24 to 25 %
    assert own5 >= merged + 0.15
    assert own6 >= 0.94  # what the design expects of 5 at 38 questions
    assert own8 == 1.0
    assert wide5 == 1.0
    assert merged_cost <= 35
    assert cost5 <= 38
    assert cost6 <= 40
    assert cost8 <= 52
    assert wide_cost <= 76


@pytest.mark.parametrize("share", [0.2, 0.3])
def test_sybils_that_name_nobody_hide_less(share: float) -> None:
    """Than those that name one another, at the same keys."""
    loud = worlds(share)
    quiet = [with_quiet_sybils(w) for w in loud]
    assert rate([merged_rule(w) for w in quiet])[0] <= 0.4
    own5, cost5 = rate([own_rule(w, end=5) for w in quiet])
    assert own5 > rate([own_rule(w, end=5) for w in loud])[0]
    assert cost5 <= 38
    assert rate([own_rule(w, end=6) for w in quiet])[0] >= 0.94


def test_without_sybils_a_fifth_of_colluders_stop_nothing() -> None:
    success, cost = rate([own_rule(w, end=5) for w in worlds(0.2, sybils=0)])
    assert success == 1.0
    assert cost <= 45


def test_doubt_turns_a_failed_lookup_into_a_successful_one() -> None:
    """The same lookup object, asked on with k' = 8 after it found nothing honest at 5."""
    mended = 0
    for world in worlds(0.3):
        seeds = candidates(world.network.honest(world.me, world.target))
        lookup: Lookup[int] = Lookup(world.target, k=K, seeds=seeds, end=5)
        run(lookup, world.answer)
        if world.is_reached_by([a.node_id for a in lookup.answered()]):
            continue
        lookup.raise_end(8)
        run(lookup, world.answer)
        assert world.is_reached_by([a.node_id for a in lookup.answered()])
        mended += 1
    assert mended > 0
