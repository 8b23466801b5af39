"""The routing table: who enters, who stays, who is drawn, and every limit."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from pqdht.ids import ID_BITS, common_prefix_length, id_in_bucket
from pqdht.kad.table import CELLS_PER_K, Added, Reason, Refused, Table
from tests.unit.kad.network import true_closest

OWN = bytes(32)
FAR = 0
"""The bucket of ids that share no bit with ours."""


def make(k: int = 4, *, limits: bool = False, own: bytes = OWN, seed: int = 1) -> Table[str]:
    return Table(
        own, k, per_bucket=2, per_table=10, per_wide=20, group_limits=limits, dice=random.Random(seed)
    )


def ids(cpl: int, count: int, *, seed: int = 0) -> list[bytes]:
    """Distinct ids in one bucket."""
    dice = random.Random(seed * 1000 + cpl)
    return [id_in_bucket(OWN, cpl, dice.randbytes(32)) for _ in range(count)]


def enter(table: Table[str], nodes: list[bytes], now: float = 0.0) -> list[Added[str] | Refused]:
    return [table.add(n, "", n.hex(), n.hex(), now) for n in nodes]


def crowd(table: Table[str]) -> None:
    """2k close neighbours, so that tenure and draw apply to the far buckets."""
    enter(table, ids(40, 1) + [n for cpl in range(20, 20 + 2 * table.k) for n in ids(cpl, 1)])


# --- entering ------------------------------------------------------------------------------------


def test_what_was_added_is_there() -> None:
    table = make()
    (node,) = ids(3, 1)
    outcome = table.add(node, "contact", "g", "w", 5.0)
    assert isinstance(outcome, Added)
    assert outcome.is_new
    assert table.get(node) is outcome.entry
    assert (outcome.entry.contact, outcome.entry.group, outcome.entry.wide) == ("contact", "g", "w")
    assert (outcome.entry.first_seen, outcome.entry.last_heard, outcome.entry.answered) == (5.0, 5.0, 1)
    assert node in table
    assert len(table) == 1


def test_a_refusal_is_known_before() -> None:
    table = make(limits=True)
    crowd(table)
    dice = random.Random(7)
    outcomes = []
    for i in range(200):
        node, group = ids(i % 6, 1, seed=i)[0], f"g{dice.randrange(40)}"
        reason = table.refusal(node, group, group)
        full = table.is_bucket_full(i % 6)
        outcome = table.add(node, "", group, group, 0.0)
        added = isinstance(outcome, Added)
        assert reason == (outcome.reason if isinstance(outcome, Refused) else None)
        assert not (added and full)
        outcomes.append(added)
    assert set(outcomes) == {True, False}
    assert table.refusal(OWN, "own", "own") is Reason.OWN_ID


def test_adding_again_updates_and_keeps_the_tenure() -> None:
    table = make()
    (node,) = ids(3, 1)
    table.add(node, "old", "g", "w", 5.0)
    outcome = table.add(node, "new", "g", "w", 9.0)
    assert isinstance(outcome, Added)
    assert not outcome.is_new
    assert (outcome.entry.contact, outcome.entry.first_seen, outcome.entry.last_heard) == ("new", 5.0, 9.0)
    assert outcome.entry.answered == 2
    assert len(table) == 1


def test_we_are_not_in_our_table() -> None:
    table = make()
    assert table.add(OWN, "", "", "", 0.0) == Refused(Reason.OWN_ID)
    assert len(table) == 0
    assert table.candidates() == []


def test_a_full_bucket_never_gives_up_a_live_peer_for_a_new_one() -> None:
    table = make()
    crowd(table)
    first, late = ids(FAR, 4), ids(FAR, 50, seed=1)
    enter(table, first)
    outcomes = enter(table, late, now=1.0)
    assert outcomes == [Refused(Reason.BUCKET_FULL)] * 50
    assert all(n in table for n in first)


def test_the_neighbourhood_is_kept_whole_beyond_k() -> None:
    table = make(k=4)
    enter(table, ids(10, 20))
    assert len(table) == 8  # 2k: the closest, whatever their bucket
    held = [e.node_id for e in table.closest(OWN, 99)]
    enter(table, ids(30, 3))
    assert all(n in table for n in ids(30, 3))
    assert all(table.is_neighbour(n) for n in ids(30, 3))
    assert table.status()["buckets"] == {10: 5, 30: 3}
    assert [e.node_id for e in table.closest(OWN, 99)][3:] == held[:5]


def test_who_leaves_the_neighbourhood_becomes_a_candidate() -> None:
    table = make(k=4)
    enter(table, ids(10, 8))
    assert len(table) == 8
    enter(table, ids(30, 8))
    assert table.status()["buckets"] == {10: 4, 30: 8}
    assert 0 < len(table.candidates()) <= 4
    assert all(common_prefix_length(e.node_id, OWN) == 10 for e in table.candidates())


def test_is_neighbour_also_of_strangers() -> None:
    table = make(k=4)
    crowd(table)
    (stranger,) = ids(50, 1)
    assert table.is_neighbour(stranger)
    assert not table.is_neighbour(ids(FAR, 1)[0])


# --- group limits --------------------------------------------------------------------------------


def test_limit_per_bucket() -> None:
    table = make(k=8, limits=True)
    outcomes = [table.add(n, "", "g", "g", 0.0) for n in ids(FAR, 3)]
    assert [type(o) for o in outcomes] == [Added, Added, Refused]
    assert outcomes[2] == Refused(Reason.GROUP_IN_BUCKET)


def test_limit_per_table() -> None:
    table = make(k=8, limits=True)
    outcomes = [table.add(n, "", "g", "g", 0.0) for cpl in range(6) for n in ids(cpl, 2)]
    assert outcomes[10:] == [Refused(Reason.GROUP_IN_TABLE)] * 2
    assert table.group_count("g") == 10


def test_limit_per_wide_group() -> None:
    table = make(k=8, limits=True)
    nodes = [n for cpl in range(11) for n in ids(cpl, 2)]
    outcomes = [table.add(n, "", f"g{i}", "w", 0.0) for i, n in enumerate(nodes)]
    assert outcomes[20:] == [Refused(Reason.WIDE_GROUP_IN_TABLE)] * 2
    assert table.wide_count("w") == 20


def test_limits_hold_in_the_neighbourhood_too() -> None:
    table = make(k=8, limits=True)
    outcomes = [table.add(n, "", "g", "g", 0.0) for n in ids(60, 3)]
    assert outcomes[2] == Refused(Reason.GROUP_IN_BUCKET)


def test_without_group_limits_nothing_is_counted_against_a_node() -> None:
    table = make(k=8)
    assert all(isinstance(table.add(n, "", "g", "g", 0.0), Added) for n in ids(FAR, 8))


def test_pinned_nodes_do_not_count_and_are_not_counted() -> None:
    table = make(k=2, limits=True)
    pinned = ids(FAR, 30)
    assert all(isinstance(table.add(n, "", "g", "g", 0.0, pinned=True), Added) for n in pinned)
    assert table.group_count("g") == 0
    others = [table.add(n, "", "g", "g", 0.0) for n in ids(FAR, 3, seed=1)]
    assert [type(o) for o in others] == [Added, Added, Refused]


def test_pinning_frees_the_place_in_the_limits() -> None:
    table = make(k=8, limits=True)
    nodes = ids(FAR, 3)
    for node in nodes[:2]:
        table.add(node, "", "g", "g", 0.0)
    assert table.pin(nodes[0])
    assert isinstance(table.add(nodes[2], "", "g", "g", 0.0), Added)
    assert not table.pin(b"\x01" * 32)


def test_who_moves_to_a_full_group_loses_its_place() -> None:
    table = make(k=8, limits=True)
    nodes = ids(FAR, 3)
    for node in nodes[:2]:
        table.add(node, "", "g", "g", 0.0)
    table.add(nodes[2], "", "h", "h", 0.0)
    assert table.add(nodes[2], "", "g", "g", 1.0) == Refused(Reason.GROUP_IN_BUCKET)
    assert nodes[2] not in table
    assert (table.group_count("g"), table.group_count("h")) == (2, 0)


def test_who_moves_to_a_free_group_keeps_its_tenure() -> None:
    table = make(k=8, limits=True)
    (node,) = ids(FAR, 1)
    table.add(node, "", "g", "g", 1.0)
    outcome = table.add(node, "", "h", "h", 7.0)
    assert isinstance(outcome, Added)
    assert (outcome.is_new, outcome.entry.first_seen, outcome.entry.group) == (False, 1.0, "h")
    assert (table.group_count("g"), table.group_count("h")) == (0, 1)


# --- failing -------------------------------------------------------------------------------------


def test_three_failures_in_a_row_evict() -> None:
    table = make()
    dead, live = ids(FAR, 2)
    enter(table, [dead, live])
    assert not table.failed(dead, 1.0)
    assert not table.failed(dead, 2.0)
    table.heard(live, 2.5)
    assert table.failed(dead, 3.0)
    assert dead not in table
    assert live in table


def test_a_sign_of_life_starts_the_count_again() -> None:
    table = make()
    node, live = ids(FAR, 2)
    enter(table, [node, live])
    for now in (1.0, 2.0):
        table.failed(node, now)
    table.heard(node, 3.0, rtt=0.05)
    table.heard(live, 9.0)
    assert not table.failed(node, 4.0)
    entry = table.get(node)
    assert entry is not None
    assert (entry.failures, entry.rtt, entry.answered) == (1, 0.05, 2)


def test_nobody_is_evicted_while_nobody_at_all_is_heard() -> None:
    table = make()
    nodes = ids(FAR, 3)
    enter(table, nodes)
    for now in range(1, 20):
        assert not any(table.failed(n, float(now)) for n in nodes)
    table.heard(nodes[0], 20.0)  # the line is back: now silence is theirs
    assert table.failed(nodes[1], 21.0)
    assert len(table) == 2


def test_pinned_nodes_never_lose_their_place() -> None:
    table = make()
    pinned, live = ids(FAR, 2)
    table.add(pinned, "", "", "", 0.0, pinned=True)
    enter(table, [live])
    for now in range(1, 9):
        table.heard(live, now + 0.5)
        assert not table.failed(pinned, float(now))
    assert pinned in table


def test_a_candidate_takes_the_place_of_a_dead_peer() -> None:
    table = make(k=4)
    crowd(table)
    members, waiting = ids(FAR, 4), ids(FAR, 1, seed=1)
    enter(table, members + waiting)
    assert waiting[0] not in table
    for now in (1.0, 2.0, 3.0):
        table.heard(members[1], now + 0.5)
        table.failed(members[0], now)
    assert waiting[0] in table
    assert table.candidates() == []


def test_the_next_neighbour_moves_up_from_the_pool_of_another_bucket() -> None:
    table = make(k=2)
    enter(table, ids(30, 4) + ids(10, 3))  # bucket 10 keeps two, the third waits
    (waiting,) = [e.node_id for e in table.candidates()]
    for node in ids(30, 3):
        assert waiting not in table
        table.remove(node, 1.0)
    assert waiting in table


def test_a_failed_candidate_is_forgotten() -> None:
    table = make(k=4)
    crowd(table)
    enter(table, ids(FAR, 5))
    (waiting,) = table.candidates()
    assert not table.failed(waiting.node_id, 1.0)
    assert table.candidates() == []


def test_removing_also_takes_pinned_nodes_and_candidates() -> None:
    table = make(k=4)
    (node,) = ids(FAR, 1)
    table.add(node, "", "", "", 0.0, pinned=True)
    assert table.remove(node, 1.0)
    assert not table.remove(node, 1.0)
    assert len(table) == 0


# --- candidates and the draw ---------------------------------------------------------------------


def test_the_older_half_stays_and_the_younger_is_drawn() -> None:
    table = make(k=8)
    crowd(table)
    members = ids(FAR, 8)
    for i, node in enumerate(members):
        enter(table, [node], now=float(i))
    others = ids(FAR, 40, seed=1)
    enter(table, others, now=10.0)
    stayed: Counter[bytes] = Counter()
    for hour in range(1, 101):
        enter(table, [*members, *others], now=3600.0 * hour)
        table.redraw(3600.0 * hour)
        assert len([n for n in (*members, *others) if n in table]) == 8
        stayed.update(n for n in (*members, *others) if n in table)
    assert all(stayed[n] == 100 for n in members[:4])
    assert max(stayed[n] for n in members[4:]) < 60
    assert sum(stayed[n] > 0 for n in others) > 30  # all come round


def test_the_draw_is_even_however_often_one_offers_itself() -> None:
    drawn: Counter[bytes] = Counter()
    pushy, *others = ids(FAR, 21, seed=1)
    for seed in range(200):
        table = make(k=4, seed=seed)
        crowd(table)
        enter(table, [*ids(FAR, 4), *others])
        for _ in range(50):
            enter(table, [pushy])
        table.redraw(1.0)
        drawn.update(n for n in (pushy, *others) if n in table)
    assert drawn[pushy] < 2 * 200 * 2 / 20  # two places, some twenty candidates


def test_who_holds_a_cell_does_not_depend_on_who_came_first_or_last() -> None:
    rivals = ids(FAR, 20, seed=1)
    holders: dict[bytes, None] = {}
    for order in (rivals, rivals[::-1], rivals[10:] + rivals[:10]):
        table = make(k=4, limits=True)
        crowd(table)
        enter(table, ids(FAR, 4))
        for node in order:
            table.add(node, "", "same", "same", 0.0)
        holders.update(dict.fromkeys(e.node_id for e in table.candidates() if e.wide == "same"))
    assert len(holders) == 1


def test_one_prefix_fills_one_cell() -> None:
    table = make(k=8, limits=True)
    crowd(table)
    enter(table, ids(FAR, 8))
    for node in ids(FAR, 500, seed=1):
        table.add(node, "", "evil", "evil", 0.0)
    assert sum(e.wide == "evil" for e in table.candidates()) == 1
    for hour in range(20):
        table.redraw(float(hour))
        assert table.group_count("evil") <= 1


def test_the_pool_of_a_bucket_is_bounded() -> None:
    table = make(k=4)
    crowd(table)
    enter(table, ids(FAR, 4) + ids(FAR, 2000, seed=1))
    assert len(table.candidates()) <= CELLS_PER_K * 4


def test_candidates_unheard_for_two_hours_are_not_drawn() -> None:
    table = make(k=4)
    crowd(table)
    enter(table, ids(FAR, 4) + ids(FAR, 10, seed=1))
    table.redraw(7300.0)
    assert table.candidates() == []
    assert all(n in table for n in ids(FAR, 4))


def test_a_candidate_unheard_for_two_hours_fills_no_place() -> None:
    table = make(k=4)
    crowd(table)
    members, waiting = ids(FAR, 4), ids(FAR, 1, seed=1)
    enter(table, members + waiting)
    table.remove(members[0], 7300.0)
    assert waiting[0] not in table


def test_a_squatter_cannot_hold_the_drawn_half() -> None:
    """Always on, a tenth of the candidates, while honest nodes come and go for seven days."""
    table = make(k=20)
    crowd(table)
    dice = random.Random(5)
    evil = ids(FAR, 20, seed=2)
    honest = ids(FAR, 180, seed=3)
    enter(table, evil)
    for hour in range(7 * 24):
        now = 3600.0 * hour
        for i in dice.sample(range(180), 18):  # a tenth of the honest leave, others come
            table.remove(honest[i], now)
            honest[i] = id_in_bucket(OWN, FAR, dice.randbytes(32))
        walked = [*honest, *evil]
        dice.shuffle(walked)
        enter(table, walked, now)
        table.redraw(now)
    held = sum(e.node_id in evil for e in table if common_prefix_length(e.node_id, OWN) == FAR)
    assert 10 <= held <= 14  # all of the tenured half, a tenth of the other: documented, not defeated here


def test_the_same_inputs_give_the_same_table() -> None:
    tables = [make(k=4, seed=9), make(k=4, seed=9)]
    for table in tables:
        enter(table, [n for cpl in range(12) for n in ids(cpl, 30)])
        table.redraw(1.0)
    assert [e.node_id for e in tables[0]] == [e.node_id for e in tables[1]]
    assert [e.node_id for e in tables[0].candidates()] == [e.node_id for e in tables[1].candidates()]


# --- questions -----------------------------------------------------------------------------------


def test_closest_leaves_out_the_silent_and_the_excluded() -> None:
    table = make(k=8)
    nodes = ids(FAR, 6)
    for i, node in enumerate(nodes):
        table.add(node, "", "", "", float(i))
    near = [e.node_id for e in table.closest(nodes[5], 3, heard_since=3.0, exclude=(nodes[5],))]
    assert near == true_closest(nodes[3:5], nodes[5], 3)


def test_iteration_is_in_id_order() -> None:
    table = make(k=8)
    enter(table, [n for cpl in range(9) for n in ids(cpl, 3)])
    listed = [e.node_id for e in table]
    assert listed == sorted(listed)
    assert len(listed) == len(table)


def test_buckets_without_a_lookup_are_due() -> None:
    table = make(k=4)
    enter(table, ids(0, 4) + ids(1, 4) + ids(2, 4) + ids(3, 3))
    assert table.buckets_to_refresh(0.0, 3600.0) == [0, 1, 2, 3]  # the 4th closest lies in bucket 2
    table.looked_up(id_in_bucket(OWN, 1, bytes(32)), 100.0)
    assert table.buckets_to_refresh(200.0, 3600.0) == [0, 2, 3]
    assert table.buckets_to_refresh(3700.0, 3600.0) == [0, 1, 2, 3]


def test_an_empty_table_asks_for_one_refresh() -> None:
    assert make().buckets_to_refresh(0.0, 1.0) == [0]


def test_one_id_ground_close_to_ours_costs_no_refresh_per_bit() -> None:
    table = make(k=4)
    enter(table, ids(0, 4) + ids(1, 4))
    before = table.buckets_to_refresh(0.0, 1.0)
    enter(table, ids(200, 1))
    assert table.buckets_to_refresh(0.0, 1.0) == before


def test_looking_up_ourselves_is_no_bucket_of_the_list() -> None:
    table = make(k=4)
    table.looked_up(OWN, 0.0)
    assert table.buckets_to_refresh(0.0, 1.0) == [0]


def test_status_counts() -> None:
    table = make(k=4, limits=True)
    for node in ids(FAR, 3):
        table.add(node, "", "g", "g", 0.0)
    table.add(ids(5, 1)[0], "", "h", "h", 0.0, pinned=True)
    status = table.status()
    assert status["nodes"] == 3
    assert status["pinned"] == 1
    assert status["candidates"] == 1
    assert status["largest_group"] == 2
    assert status["refused"] == {"group_in_bucket": 1}
    assert status["buckets"] == {0: 2, 5: 1}


@pytest.mark.parametrize("cpl", [0, 1, 100, ID_BITS - 1])
def test_every_bucket_can_be_used(cpl: int) -> None:
    table = make()
    (node,) = ids(cpl, 1)
    enter(table, [node])
    assert [e.node_id for e in table.closest(OWN, 1)] == [node]
