"""The lookup object: paths, claims, ends, slow and silent nodes, limits."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from pqdht.ids import common_prefix_length
from pqdht.kad.lookup import HEDGE_BUSY_S, HEDGE_LATER_S, REGION_QUERIES, TRIES, Candidate, Lookup, Query
from tests.unit.kad.network import StaticNetwork, candidates, near, random_id, run, true_closest

TARGET = bytes(32)


def node(number: int) -> bytes:
    """The id at distance `number` from the target."""
    return number.to_bytes(32, "big")


def named(numbers: Iterable[int], group: str = "", contact: int = 0) -> list[Candidate[int]]:
    return [Candidate(node(i), contact, group or f"g{i}") for i in numbers]


def make(seeds: Sequence[Candidate[int]], **options: Any) -> Lookup[int]:
    return Lookup(TARGET, k=20, seeds=seeds, **options)


def asked(queries: list[Query[int]]) -> list[tuple[int, int]]:
    """(path, distance) of each query."""
    return [(q.path, int.from_bytes(q.node_id, "big")) for q in queries]


def ended(lookup: Lookup[int]) -> bool:
    """`done`, read anew: mypy takes a property for a constant."""
    return lookup.done


# --- paths ---------------------------------------------------------------------------------------


def test_seeds_are_dealt_over_the_paths_closest_first() -> None:
    lookup = make(named(range(1, 9)), parallel=1)
    assert asked(lookup.next(0.0)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_no_more_turns_are_taken_than_it_takes() -> None:
    lookup = make(named(range(1, 13)), parallel=3)
    assert lookup.next(0.0, 0) == []
    assert [path for path, _ in asked(lookup.next(0.0, 1))] == [0, 1, 2, 3]  # no path is preferred
    assert [path for path, _ in asked(lookup.next(0.0, 5))] == [0, 1, 2, 3] * 2
    assert lookup.next(0.0) == []


def test_seeds_of_one_group_share_a_path() -> None:
    seeds = named([1, 2, 3], "evil") + named([4, 5, 6])
    lookup = make(seeds, parallel=3)
    paths = {distance: path for path, distance in asked(lookup.next(0.0))}
    assert paths[1] == paths[2] == paths[3]
    assert len({paths[1], paths[4], paths[5], paths[6]}) == 4


def test_with_fewer_groups_than_paths_every_path_still_forms() -> None:
    lookup = make(named(range(1, 9), "a"), parallel=8)
    assert sorted({path for path, _ in asked(lookup.next(0.0))}) == [0, 1, 2, 3]


def test_groups_do_not_bind_where_the_limits_are_off() -> None:
    lookup = make(named(range(1, 5), "a"), parallel=1, group_limits=False)
    assert asked(lookup.next(0.0)) == [(0, 1), (1, 2), (2, 3), (3, 4)]


def test_one_seed_founds_all_paths_from_its_answer() -> None:
    lookup = make(named([100]), parallel=1)
    assert asked(lookup.next(0.0)) == [(0, 100)]
    lookup.on_reply(node(100), named(range(1, 9)), 0.0)
    assert sorted(path for path, _ in asked(lookup.next(0.0))) == [0, 1, 2, 3]


def test_a_path_whose_seeds_are_all_dead_is_founded_anew() -> None:
    lookup = make(named([1, 2, 3, 4]), parallel=1)
    lookup.next(0.0)
    lookup.on_failure(node(1), 0.0)
    lookup.on_reply(node(2), named([11, 12]), 0.0)
    queries = asked(lookup.next(0.0))
    assert {path for path, _ in queries} == {0, 1}


def test_no_node_is_asked_on_two_paths() -> None:
    lookup = make(named(range(10, 14)), parallel=1)
    lookup.next(0.0)
    for i in range(10, 14):
        lookup.on_reply(node(i), named(range(1, 9)), 0.0)
    everyone: list[int] = []
    for _ in range(9):
        queries = lookup.next(0.0)
        everyone += [d for _, d in asked(queries)]
        for query in queries:
            lookup.on_reply(query.node_id, named(range(1, 9)), 0.0)
    assert sorted(everyone) == list(range(1, 9))
    assert ended(lookup)


def test_a_path_has_at_most_parallel_questions_under_way() -> None:
    lookup = make(named(range(1, 41)), paths=2, parallel=3)
    assert len(lookup.next(0.0)) == 6
    assert lookup.next(0.0) == []
    lookup.on_reply(node(1), [], 0.0)
    assert len(lookup.next(0.0)) == 1


# --- the end -------------------------------------------------------------------------------------


def test_a_path_ends_when_its_own_closest_have_answered() -> None:
    lookup = make(named(range(1, 10)), paths=1, end=3, parallel=2)
    run(lookup, lambda *_: [])
    assert [a.node_id for a in lookup.answered()] == [node(1), node(2), node(3)]


def test_what_another_path_answered_does_not_end_a_path() -> None:
    """The merged rule would end here: the three closest of all have answered, all on path 0."""
    lookup = make(named([1, 2, 3], "evil") + named([50, 60, 70], "good"), paths=2, end=3, parallel=3)
    queries = lookup.next(0.0)
    for query in queries:
        if query.path == 0:
            lookup.on_reply(query.node_id, [], 0.0)
    assert not ended(lookup)
    for query in queries:
        lookup.on_reply(query.node_id, [], 0.0)
    assert ended(lookup)


def test_closer_candidates_reopen_a_path() -> None:
    lookup = make(named([10, 11, 12]), paths=1, end=2, parallel=2)
    first, second = lookup.next(0.0)
    lookup.on_reply(first.node_id, [], 0.0)
    lookup.on_reply(second.node_id, named([1]), 0.0)
    assert not ended(lookup)
    assert asked(lookup.next(0.0)) == [(0, 1)]
    lookup.on_reply(node(1), [], 0.0)
    assert ended(lookup)


def test_in_doubt_the_lookup_goes_on() -> None:
    lookup = make(named(range(1, 40)), paths=2, end=5)
    run(lookup, lambda *_: [])
    assert len(lookup.answered()) == 10
    lookup.raise_end(8)
    assert not ended(lookup)
    run(lookup, lambda *_: [])
    assert len(lookup.answered()) == 16
    lookup.raise_end(5)  # never falls
    assert ended(lookup)
    assert lookup.next(0.0) == []


def test_finish_stops_and_doubt_resumes() -> None:
    lookup = make(named(range(1, 40)))
    lookup.finish()
    assert ended(lookup)
    assert lookup.next(0.0) == []
    lookup.raise_end(8)
    assert not ended(lookup)
    assert lookup.next(0.0)


def test_nobody_to_ask_is_the_end() -> None:
    lookup = make([])
    assert lookup.next(0.0) == []
    assert ended(lookup)
    assert (lookup.closest(5), lookup.paths_used, lookup.hops) == ([], 0, 0)


def test_all_dead_is_the_end() -> None:
    lookup = make(named(range(1, 9)))
    run(lookup, lambda *_: None)
    assert lookup.counters["failed"] == 8
    assert lookup.answered() == []


def test_max_queries_bounds_an_endless_web_of_liars() -> None:
    dice = random.Random(1)
    lookup: Lookup[int] = Lookup(random_id(dice), k=20, seeds=candidates([random_id(dice)]), max_queries=50)
    depth = iter(range(256))  # each answer names closer ones than all before
    run(lookup, lambda _, target: [near(target, bits, dice) for bits in [next(depth)] for _ in range(5)])
    assert lookup.counters["asked"] == 50
    assert ended(lookup)


# --- slow, silent and late -----------------------------------------------------------------------


def timed(seeds: Sequence[Candidate[int]], **options: Any) -> Lookup[int]:
    return make(seeds, timeout_of=lambda _: 5.0, hedge_after=lambda _: 1.0, **options)


def test_a_slow_node_is_hedged_by_one_more() -> None:
    lookup = timed(named(range(1, 9)), paths=1, parallel=1, end=2)
    (query,) = lookup.next(0.0)
    assert (query.hedge_at, query.deadline) == (1.0, 5.0)
    assert lookup.next_deadline() == 1.0
    assert lookup.next(0.9) == []
    assert asked(lookup.next(1.0)) == [(0, 2)]
    assert lookup.next_deadline() == 2.0  # of the second, not the first's again
    assert lookup.next(1.5) == []
    assert lookup.counters["hedged"] == 1


def test_hedges_are_bounded() -> None:
    lookup = timed(named(range(1, 30)), paths=1, parallel=3)
    for now in range(5):
        lookup.next(float(now))
    assert lookup.counters["asked"] == 6


def test_the_cold_take_no_place_of_the_warm_but_are_bounded_too() -> None:
    warm = {node(i) for i in (4, 5, 6, 7)}
    lookup = make(named(range(1, 30)), paths=1, parallel=2, end=9, is_cold=lambda i: i not in warm)
    assert asked(lookup.next(0.0)) == [(0, 1), (0, 2), (0, 3), (0, 4)], "at most twice `parallel` in all"
    lookup.on_reply(node(1), [], 0.1)
    assert asked(lookup.next(0.1)) == [(0, 5)]
    lookup.on_reply(node(2), [], 0.1)
    assert asked(lookup.next(0.1)) == [], "two warm ones are under way"
    lookup.on_reply(node(4), [], 0.1)
    assert asked(lookup.next(0.1)) == [(0, 6)]


def test_a_path_waits_for_its_closest_even_if_they_are_cold() -> None:
    lookup = make(named(range(1, 9)), paths=1, parallel=2, end=2, is_cold=lambda i: i == node(1))
    lookup.next(0.0)
    for i in (2, 3):
        lookup.on_reply(node(i), [], 0.1)
    assert not ended(lookup)
    lookup.on_reply(node(1), [], 0.2)
    assert ended(lookup)


def test_a_path_does_not_wait_for_the_slow() -> None:
    lookup = timed(named(range(1, 9)), paths=1, parallel=2, end=2)
    lookup.next(0.0)
    lookup.on_reply(node(2), [], 0.5)
    lookup.next(1.0)  # 1 is slow, 3 is asked instead
    lookup.on_reply(node(3), [], 1.1)
    assert ended(lookup)


def test_the_last_candidate_is_waited_for_even_if_slow() -> None:
    lookup = timed(named([1, 2]), paths=1, parallel=2, end=2)
    lookup.next(0.0)
    lookup.on_reply(node(2), [], 0.5)
    lookup.next(1.5)
    assert not ended(lookup)
    assert lookup.next_deadline() == 5.0
    lookup.next(5.0)
    assert ended(lookup)
    assert lookup.next_deadline() is None


def test_patience_with_the_slow_ends_only_where_k_others_answered() -> None:
    def lookup(k: int) -> Lookup[int]:
        options: dict[str, Any] = {"timeout_of": lambda _: 5.0, "hedge_after": lambda _: 1.0}
        slow = Lookup(TARGET, k=k, seeds=named([1, 2, 3]), paths=1, patience_of=lambda _: 2.0, **options)
        slow.next(0.0)
        for i in (2, 3):
            slow.on_reply(node(i), [], 0.5)
        slow.next(1.0)
        assert not ended(slow)
        assert slow.next_deadline() == 2.0
        slow.next(2.0)
        assert slow.next_deadline() == 5.0
        return slow

    enough, too_few = lookup(2), lookup(3)
    assert ended(enough)
    assert not ended(too_few)
    too_few.next(5.0)
    assert ended(too_few)
    enough.on_reply(node(1), [], 6.0)
    assert [a.node_id for a in enough.answered()] == [node(1), node(2), node(3)]


def test_a_late_answer_still_counts() -> None:
    lookup = timed(named(range(1, 9)), paths=1, parallel=1, end=2)
    lookup.next(0.0)
    lookup.next(5.0)
    assert lookup.counters["failed"] == 1
    lookup.on_reply(node(1), named([100]), 6.0)
    assert [a.node_id for a in lookup.answered()] == [node(1)]
    assert lookup.counters["late"] == 1
    lookup.on_reply(node(1), [], 7.0)
    assert lookup.counters["unasked"] == 1


def test_a_late_answer_counts_towards_the_end_of_its_path() -> None:
    lookup = timed(named([1, 2, 3]), paths=1, parallel=2, end=2)
    lookup.next(0.0)
    lookup.next(5.0)  # both are given up, 3 is asked
    for i in (1, 2):
        lookup.on_reply(node(i), [], 5.5)
    assert ended(lookup)


def test_answers_nobody_asked_for_change_nothing() -> None:
    lookup = make(named([1, 2]), paths=1, parallel=1)
    lookup.next(0.0)
    lookup.on_reply(node(2), named([3]), 0.0)  # known, not asked
    lookup.on_reply(node(9), named([3]), 0.0)  # never heard of
    lookup.on_failure(node(9), 0.0)
    assert lookup.answered() == []
    assert lookup.counters["unasked"] == 2
    assert [c.node_id for c in lookup.closest_known(9)] == [node(1), node(2)]


def test_without_timeouts_only_the_driver_reports_failures() -> None:
    lookup = make(named([1]), paths=1)
    (query,) = lookup.next(0.0)
    assert query.deadline == query.hedge_at == float("inf")
    assert lookup.next_deadline() is None
    lookup.next(1e9)
    assert not ended(lookup)
    lookup.on_failure(node(1), 1e9)
    assert ended(lookup)


# --- liars ---------------------------------------------------------------------------------------


def test_at_most_two_of_a_group_are_taken_from_an_answer() -> None:
    lookup = make(named([100]), paths=1)
    lookup.next(0.0)
    lookup.on_reply(node(100), named(range(1, 9), "victim"), 0.0)
    assert asked(lookup.next(0.0)) == [(0, 1), (0, 2)]
    assert lookup.counters["over_group"] == 6


def test_any_number_is_taken_where_the_limits_are_off() -> None:
    lookup = make(named([100]), paths=1, end=8, parallel=8, group_limits=False)
    lookup.next(0.0)
    lookup.on_reply(node(100), named(range(1, 9), "victim"), 0.0)
    assert len(lookup.next(0.0)) == 8


def test_a_wrong_address_for_a_right_id_does_not_hide_the_node() -> None:
    lookup = make(named([50, 60]), paths=2, parallel=1)
    lookup.next(0.0)
    lookup.on_reply(node(50), named([1], contact=666), 0.0)
    (lie,) = lookup.next(0.0)
    assert (lie.node_id, lie.contact) == (node(1), 666)
    lookup.on_reply(node(60), named([1], contact=7), 0.0)
    lookup.on_failure(node(1), 0.0)
    (again,) = lookup.next(0.0)
    assert (again.node_id, again.contact, again.path) == (node(1), 7, 1)
    lookup.on_reply(node(1), [], 0.0)
    assert lookup.closest(1)[0].contact == 7
    assert lookup.referrer_of(node(1)) == node(60)
    assert lookup.counters["retried"] == 1


def test_a_wrong_address_can_be_mended_on_the_same_path() -> None:
    lookup = make(named([50, 60]), paths=1, parallel=2)
    lookup.next(0.0)
    lookup.on_reply(node(50), named([1], contact=666), 0.0)
    lookup.next(0.0)
    lookup.on_failure(node(1), 0.0)
    lookup.on_reply(node(60), named([1], contact=7), 0.0)
    (again,) = lookup.next(0.0)
    assert (again.node_id, again.contact) == (node(1), 7)


def test_a_dead_node_is_not_asked_again_at_the_same_place() -> None:
    lookup = make(named([50, 60]), paths=2, parallel=1)
    lookup.next(0.0)
    lookup.on_reply(node(50), named([1], contact=7), 0.0)
    lookup.next(0.0)
    lookup.on_failure(node(1), 0.0)
    lookup.on_reply(node(60), named([1], contact=7), 0.0)
    assert lookup.next(0.0) == []
    assert ended(lookup)


def test_what_the_same_place_is_can_be_told() -> None:
    lookup = make(named([50, 60]), paths=2, parallel=1, same_contact=lambda a, b: a % 10 == b % 10)
    lookup.next(0.0)
    lookup.on_reply(node(50), named([1], contact=7), 0.0)
    lookup.next(0.0)
    lookup.on_failure(node(1), 0.0)
    lookup.on_reply(node(60), named([1], contact=17), 0.0)
    assert ended(lookup)


def test_one_id_costs_at_most_three_questions() -> None:
    lookup = make(named(range(50, 60)), paths=2, parallel=5, end=10)
    lookup.next(0.0)
    for i in range(50, 60):
        lookup.on_reply(node(i), named([1], contact=i), 0.0)
        for query in lookup.next(0.0):
            lookup.on_failure(query.node_id, 0.0)
    while queries := lookup.next(0.0):
        for query in queries:
            lookup.on_failure(query.node_id, 0.0)
    assert lookup.counters["retried"] == TRIES - 1
    assert ended(lookup)


# --- order and results ---------------------------------------------------------------------------


def test_rank_orders_inside_one_prefix_length_only() -> None:
    good = {node(7): 0.9, node(60): 1.0}
    lookup = make(named([4, 5, 6, 7, 60]), paths=1, parallel=5, rank=lambda n: good.get(n, 0.5))
    assert [d for _, d in asked(lookup.next(0.0))] == [7, 4, 5, 6, 60]


def test_results_say_path_referrer_and_depth() -> None:
    lookup = make(named([100, 200]), paths=2, parallel=1)
    lookup.next(0.0)
    lookup.on_reply(node(100), named([10]), 0.0)
    lookup.next(0.0)
    lookup.on_reply(node(10), named([1]), 0.0)
    lookup.next(0.0)
    lookup.on_reply(node(1), [], 0.0)
    first = lookup.closest(1)[0]
    assert (first.node_id, first.path, first.depth, first.referrer) == (node(1), 0, 2, node(10))
    assert (lookup.hops, lookup.paths_used) == (2, 1)
    assert lookup.referrer_of(node(100)) is None
    assert [a.node_id for a in lookup.answered()] == [node(1), node(10), node(100)]
    assert lookup.has_answered(node(10))
    assert not lookup.has_answered(node(200))


def test_the_closest_on_every_path() -> None:
    lookup = make(named(range(1, 21), ""), paths=2, end=5, parallel=1)
    run(lookup, lambda *_: [])
    chosen = lookup.closest_on_every_path(2)
    assert [a.node_id for a in chosen] == [node(i) for i in (1, 2, 3, 4)]
    assert sorted(a.path for a in chosen) == [0, 0, 1, 1]


def test_the_closest_known_leave_out_the_dead() -> None:
    lookup = make(named(range(1, 6)), paths=1, parallel=2)
    lookup.next(0.0)
    lookup.on_failure(node(1), 0.0)
    lookup.on_reply(node(2), [], 0.0)
    assert [c.node_id for c in lookup.closest_known(3)] == [node(2), node(3), node(4)]


def test_what_one_path_saw_includes_what_another_asked() -> None:
    lookup = make(named([50, 60]), paths=2, parallel=1, end=2)
    lookup.next(0.0)
    for i in (50, 60):
        lookup.on_reply(node(i), named([1, 2, i + 1]), 0.0)
    run(lookup, lambda *_: [])
    for path in (0, 1):
        assert set(lookup.closest_seen_by(path, 2)) == {node(1), node(2)}


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7])
def test_tiny_networks(size: int) -> None:
    dice = random.Random(size)
    nodes = [random_id(dice) for _ in range(size)]
    network = StaticNetwork(nodes, 20, 1)
    for me in nodes:
        target = random_id(dice)
        others = [n for n in nodes if n != me]
        one_seed = candidates(others[:1])
        lookup: Lookup[int] = Lookup(target, k=20, seeds=one_seed)
        run(lookup, lambda n, t, me=me: [x for x in network.honest(n, t) if x != me])  # type: ignore[misc]
        assert [a.node_id for a in lookup.closest(20)] == true_closest(others, target, 20)


# --- what need not be told again, what is due ------------------------------------------------------


def test_a_path_is_not_told_again_what_it_knows() -> None:
    """Seeds are ours; what another path was told is not, and who failed may have a better address."""
    lookup = make(named(range(50, 58)), paths=4, parallel=1)
    lookup.next(0.0)
    lookup.on_reply(node(50), named([1, 2]), 0.0)
    lookup.on_reply(node(51), named([2, 3]), 0.0)
    assert lookup.told(0, 64) == [node(1), node(2), *map(node, range(50, 58))]
    assert node(3) in lookup.told(1, 64)
    assert node(1) not in lookup.told(1, 64)
    assert lookup.told(0, 3) == [node(1), node(2), node(50)]
    lookup.on_failure(node(52), 0.0)
    assert all(node(52) not in lookup.told(path, 64) for path in range(4))
    assert lookup.live == 10


def test_slow_answers_are_not_due_unless_we_are_slow_ourselves() -> None:
    busy = [True]
    seeds = named(range(50, 54))
    lookup = make(seeds, paths=4, parallel=1, hedge_after=lambda _: 1.0, is_busy=lambda: busy[0])
    lookup.next(0.0)
    assert lookup.answers_due(0.5) == 4
    assert lookup.answers_due(1.7) == 4
    assert lookup.counters["hedged"] == 0
    assert lookup.is_due(node(50))
    busy[0] = False
    assert lookup.answers_due(1.7 + HEDGE_LATER_S) == 0
    assert lookup.counters["hedged"] == 4
    assert not lookup.is_due(node(50))
    assert not lookup.is_due(node(99))


def test_being_busy_does_not_cover_for_who_stalls() -> None:
    seeds = named(range(50, 54))
    lookup = make(seeds, paths=4, parallel=1, hedge_after=lambda _: 0.5, is_busy=lambda: True)
    lookup.next(0.0)
    times = [0.5 + HEDGE_LATER_S * i for i in range(5)]
    assert [lookup.answers_due(now) for now in times] == [4, 4, 4, 4, 0]
    assert times[-1] == 0.5 + HEDGE_BUSY_S


def test_who_is_slow_at_an_address_may_be_named_again_with_another() -> None:
    """Else a liar that names the closest first, where they are not, hides them from its whole path."""
    lookup = make(named([50, 60]), paths=1, parallel=1, hedge_after=lambda _: 1.0)
    (query,) = lookup.next(0.0)
    lookup.on_reply(query.node_id, named([1]), 0.0)
    assert [q.node_id for q in lookup.next(0.0)] == [node(1)]
    assert node(1) in lookup.told(0, 64)
    assert [q.node_id for q in lookup.next(1.0)] == [node(60)]
    assert node(1) not in lookup.told(0, 64)


def test_answers_that_take_a_dial_are_not_counted_on() -> None:
    lookup = make(named(range(50, 54)), paths=4, parallel=1, is_cold=lambda n: n == node(50))
    lookup.next(0.0)
    assert lookup.answers_due(0.0) == 3


def test_a_region_is_asked_whole_over_disjoint_paths() -> None:
    dice = random.Random(5)
    nodes = [random_id(dice) for _ in range(400)]
    target = random_id(dice)
    network = StaticNetwork(nodes, 8, 5)
    lookup: Lookup[int] = Lookup(target, k=8, seeds=candidates(network.honest(nodes[0], target)), end=2)
    run(lookup, network.honest)
    few = lookup.counters["asked"]
    lookup.tell(candidates([n for n in nodes if common_prefix_length(n, target) >= 3]))
    lookup.raise_region(3)
    assert not lookup.done
    asked: list[bytes] = []

    def answer(node: bytes, goal: bytes) -> list[bytes]:
        asked.append(node)
        return network.honest(node, goal)

    run(lookup, answer)
    region = [n for n in nodes if common_prefix_length(n, target) >= 3]
    assert all(lookup.has_answered(n) for n in region)
    assert len(region) > few
    assert len(asked) == len(set(asked))
    assert lookup.paths_used == 4


def test_a_region_costs_128_questions_at_most_and_waits_for_the_slow_until_they_are_overdue() -> None:
    target = bytes(32)
    liars = [(2**200 + i).to_bytes(32, "big") for i in range(400)]
    lookup: Lookup[int] = Lookup(target, k=4, seeds=candidates(liars), end=2, max_queries=10)
    run(lookup, lambda _node, _target: [])
    before = lookup.counters["asked"]
    lookup.raise_region(20)
    run(lookup, lambda _node, _target: [])
    assert before <= 10
    assert lookup.counters["asked"] == before + REGION_QUERIES

    near_ones = liars[:6]
    lookup = Lookup(
        target, k=4, seeds=candidates(near_ones), end=1, hedge_after=lambda _: 1.0, patience_of=lambda _: 5.0
    )
    lookup.raise_region(20)
    silent = [q.node_id for q in lookup.next(0.0)]
    assert len(silent) == len(near_ones)
    for node in silent[1:]:
        lookup.on_reply(node, [], 0.5)
    lookup.next(2.0)
    assert not lookup.done, "one node of the region is slow"
    lookup.next(6.0)
    assert lookup.done, "it is overdue and k others answered"
