"""Lookups over random static networks against the plain truth, and against anything a liar may send."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqdht.ids import distance
from pqdht.kad.lookup import Candidate, Lookup
from pqdht.kad.size import SizeEstimator
from tests.unit.kad.network import StaticNetwork, candidates, random_id, run, true_closest

K = 20


def walk(
    network: StaticNetwork, me: bytes, target: bytes, dice: random.Random, dead: dict[bytes, None], end: int
) -> Lookup[int]:
    """One lookup by `me`, answers in random order."""
    lookup: Lookup[int] = Lookup(target, k=network.k, seeds=candidates(network.honest(me, target)), end=end)

    def answer(node: bytes, towards: bytes) -> list[bytes] | None:
        return None if node in dead else [n for n in network.honest(node, towards) if n != me]

    run(lookup, answer, dice)
    return lookup


@settings(max_examples=40)
@given(st.integers(1, 400), st.integers(0, 2**32), st.sampled_from([4, 8, 20]))
def test_the_k_closest_are_found(size: int, seed: int, k: int) -> None:
    dice = random.Random(seed)
    network = StaticNetwork([random_id(dice) for _ in range(size)], k, seed)
    for _ in range(4):
        me, target = dice.choice(network.nodes), random_id(dice)
        lookup = walk(network, me, target, dice, {}, 8)
        truth = true_closest([n for n in network.nodes if n != me], target, k)
        assert [a.node_id for a in lookup.closest(k)] == truth


@pytest.mark.parametrize(("end", "rpcs"), [(5, 36), (8, 48)])
def test_two_thousand_nodes(end: int, rpcs: int) -> None:
    """The k closest, at the published price (33 and 49 RPCs) and in the hops that theory gives."""
    dice = random.Random(2)
    network = StaticNetwork([random_id(dice) for _ in range(2000)], K, 2)
    asked = hops = 0
    for _ in range(40):
        me, target = dice.choice(network.nodes), random_id(dice)
        lookup = walk(network, me, target, dice, {}, end)
        truth = true_closest([n for n in network.nodes if n != me], target, K)
        assert [a.node_id for a in lookup.closest(K)] == truth
        assert lookup.paths_used == 4
        asked += lookup.counters["asked"]
        hops += lookup.hops
    assert asked / 40 <= rpcs
    assert 1.0 <= hops / 40 <= 1.6


def test_a_thousand_nodes_take_1_to_1_4_intermediates() -> None:
    dice = random.Random(3)
    network = StaticNetwork([random_id(dice) for _ in range(1000)], K, 3)
    hops = []
    for _ in range(60):
        me = dice.choice(network.nodes)
        hops.append(walk(network, me, random_id(dice), dice, {}, 5).hops)
    assert 1.0 <= sum(hops) / len(hops) <= 1.4
    assert max(hops) <= 3


def test_a_fifth_of_the_nodes_dead() -> None:
    dice = random.Random(4)
    network = StaticNetwork([random_id(dice) for _ in range(1000)], K, 4)
    dead = dict.fromkeys(dice.sample(network.nodes, 200))
    for _ in range(30):
        me, target = dice.choice(network.nodes), random_id(dice)
        lookup = walk(network, me, target, dice, dead, 8)
        truth = true_closest([n for n in network.nodes if n != me and n not in dead], target, 10)
        assert [a.node_id for a in lookup.closest(10)] == truth


def test_lookups_measure_the_network() -> None:
    dice = random.Random(5)
    network = StaticNetwork([random_id(dice) for _ in range(1500)], K, 5)
    me, sizes = network.nodes[0], SizeEstimator(K)
    for _ in range(40):
        target = random_id(dice)
        lookup = walk(network, me, target, dice, {}, 5)
        sizes.observe_paths(target, [lookup.closest_seen_by(p, K) for p in range(4)], 0.0)
    estimate = sizes.estimate(0.0)
    assert estimate is not None
    assert 0.85 * 1500 < estimate.nodes < 1.15 * 1500


@given(st.integers(5, 120), st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 8))
@settings(max_examples=60)
def test_disjoint_and_each_path_to_its_own_end(size: int, seed: int, paths: int, end: int) -> None:
    """No node on two paths; and a path's claim to have ended is checked by hand."""
    dice = random.Random(seed)
    network = StaticNetwork([random_id(dice) for _ in range(size)], 8, seed)
    me, target = dice.choice(network.nodes), random_id(dice)
    seeds = candidates(network.honest(me, target))
    lookup: Lookup[int] = Lookup(target, k=8, seeds=seeds, paths=paths, end=end)
    owner: dict[bytes, int] = {}
    told: dict[int, dict[bytes, None]] = {p: {} for p in range(paths)}
    waiting: list[bytes] = []
    while not lookup.done or waiting:
        for query in lookup.next(0.0):
            assert owner.setdefault(query.node_id, query.path) == query.path
            assert query.node_id not in waiting
            waiting.append(query.node_id)
        node = waiting.pop(dice.randrange(len(waiting)))
        found = [n for n in network.honest(node, target) if n != me]
        known = [c.node_id for c in lookup.closest_known(10**6)]
        if all(n in known for n in found):  # dealing strangers to idle paths is the lookup's own affair
            told[owner[node]].update(dict.fromkeys(found))
        lookup.on_reply(node, candidates(found), 0.0)
    answered = {a.node_id: a.path for a in lookup.answered()}
    for path, nodes in told.items():
        mine = [n for n in nodes if answered.get(n, path) == path]
        closest = true_closest(mine, target, len(mine))
        own = sorted(distance(n, target) for n, p in answered.items() if p == path)
        if len(own) >= end:  # nothing closer than its k'-th was left unasked
            assert all(n in answered for n in closest if distance(n, target) < own[end - 1])


@given(st.integers(0, 2**32), st.integers(1, 60))
def test_the_same_events_give_the_same_queries(seed: int, size: int) -> None:
    def history() -> list[tuple[int, bytes]]:
        dice = random.Random(seed)
        network = StaticNetwork([random_id(dice) for _ in range(size)], 4, seed)
        me, target = dice.choice(network.nodes), random_id(dice)
        lookup: Lookup[int] = Lookup(target, k=4, seeds=candidates(network.honest(me, target)))
        asked: list[tuple[int, bytes]] = []
        waiting: list[bytes] = []
        while True:
            queries = lookup.next(0.0)
            asked += [(q.path, q.node_id) for q in queries]
            waiting += [q.node_id for q in queries]
            if lookup.done or not waiting:
                return asked
            node = waiting.pop(dice.randrange(len(waiting)))
            if dice.random() < 0.2:
                lookup.on_failure(node, 0.0)
            else:
                lookup.on_reply(node, candidates(network.honest(node, target)), 0.0)

    assert history() == history()


EVENTS = st.lists(
    st.tuples(
        st.sampled_from(["reply", "fail", "tick", "next", "raise", "finish"]),
        st.integers(0, 40),
        st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3), st.integers(0, 3)), max_size=8),
    ),
    max_size=120,
)


@settings(max_examples=200)
@given(EVENTS, st.integers(1, 4), st.integers(1, 5), st.booleans(), st.integers(1, 30))
def test_any_events_are_taken(
    events: list[tuple[str, int, list[tuple[int, int, int]]]],
    paths: int,
    end: int,
    group_limits: bool,
    most: int,
) -> None:
    """Replies nobody asked for, twice, late, with any contacts: no crash, bounds kept, and an end."""
    ids = [i.to_bytes(32, "big") for i in range(41)]
    lookup: Lookup[int] = Lookup(
        ids[0],
        k=4,
        seeds=[Candidate(ids[i], 0, f"{i % 3}") for i in (10, 20, 30)],
        paths=paths,
        end=end,
        parallel=2,
        group_limits=group_limits,
        max_queries=most,
        timeout_of=lambda _: 5.0,
        hedge_after=lambda _: 2.0,
    )
    now, in_flight = 0.0, 0
    for kind, which, contacts in events:
        if kind == "tick":
            now += which / 10
        elif kind == "reply":
            lookup.on_reply(ids[which], [Candidate(ids[i], c, f"{g}") for i, c, g in contacts], now)
        elif kind == "fail":
            lookup.on_failure(ids[which], now)
        elif kind == "raise":
            lookup.raise_end(which % 10)
        elif kind == "finish":
            lookup.finish()
        else:
            in_flight += len(lookup.next(now))
    lookup.raise_end(1)  # resume whatever was finished
    assert in_flight <= lookup.counters["asked"] <= most
    for _ in range(200):
        lookup.next(now)
        deadline = lookup.next_deadline()
        if deadline is None:
            break
        assert deadline > now
        now = deadline
    lookup.next(now)
    assert lookup.done
    results = lookup.answered()
    assert [a.node_id for a in results] == sorted({a.node_id for a in results})
    assert all(0 <= a.path < paths for a in results)
    assert lookup.counters["asked"] <= most
