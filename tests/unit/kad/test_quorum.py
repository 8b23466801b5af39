"""The rules of PUT and GET: every case of the table, and the receipts of PUT."""

from __future__ import annotations

import pytest

from pqdht.ids import ID_BYTES, distance
from pqdht.kad.quorum import (
    Holding,
    Member,
    PutTally,
    Verdict,
    Version,
    choose,
    closest_members,
    confirm,
    required_receipts,
)
from tests.unit.kad.quorum_cases import CASES, NEW, OLD, OWN, TWIN, Case, decide, markdown, parse


def t(count: int, groups: int = 0) -> list[tuple[bytes, str]]:
    """T of `count` nodes in `groups` groups (0: one each)."""
    return [(bytes([i]) * ID_BYTES, str(i % groups if groups else i)) for i in range(count)]


# --- GET -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=[c.name for c in CASES])
def test_case(case: Case) -> None:
    outcome = decide(case)
    assert (outcome.verdict, outcome.units, outcome.holding, outcome.confirmations) == (
        case.verdict,
        case.u,
        case.m,
        case.c,
    )
    assert outcome.newest == case.returns


@pytest.mark.parametrize("case", [c for c in CASES if c.after], ids=[c.name for c in CASES if c.after])
def test_case_after_the_repair_round(case: Case) -> None:
    outcome = decide(case, repaired=True)
    assert outcome.verdict is case.after
    assert outcome.newest == case.returns


def test_case_names_are_unique_and_the_table_shows_each() -> None:
    names = [c.name for c in CASES]
    assert len(set(names)) == len(names)
    rows = markdown().splitlines()
    assert len(rows) == len(CASES) + 2
    assert all(f"| {name} |" in row for name, row in zip(names, rows[2:], strict=True))


def test_the_networks_asked_for_are_all_there() -> None:
    seen = {(c.nodes, c.groups) for c in CASES}
    wanted = {(2, False), (2, True), (5, False), (5, True), (19, False), (19, True), (21, False), (21, True)}
    assert wanted <= seen


def test_repair_names_exactly_the_members_without_the_newest() -> None:
    answers = "2 new; 3 old; same; 3 empty"
    nodes = [a.member.node for a in parse(answers, "s")]
    outcome = decide(Case("", 21, False, answers, Verdict.CONTESTED, 0, 0, 0))
    assert outcome.verdict is Verdict.CONTESTED
    assert outcome.repair == tuple(nodes[2:])
    assert outcome.holders == (nodes[0], nodes[1], nodes[5])
    assert outcome.dissent == (*nodes[2:5], *nodes[6:])


def test_ourselves_are_repaired_too() -> None:
    case = next(c for c in CASES if c.name == "two nodes, the own copy is the older")
    assert decide(case).repair == (OWN,)


def test_nothing_is_repaired_under_equivocation() -> None:
    outcome = decide(next(c for c in CASES if c.name == "five nodes, the owner equivocates"))
    assert outcome.repair == ()
    assert outcome.equivocation == (NEW, TWIN)


def test_a_receipt_from_outside_s_does_not_count() -> None:
    members = [Member(b"a", "a"), Member(b"b", "b"), Member(b"c", "c")]
    outcome = confirm(members, [Holding(b"a", NEW)], address_groups=True, receipts=[b"x", b"y"])
    assert (outcome.verdict, outcome.confirmations) == (Verdict.CONTESTED, 1)


def test_twins_are_weighed_by_reputation_then_by_id() -> None:
    holdings = [Holding(b"a", NEW), Holding(b"b", TWIN), Holding(b"c", TWIN)]
    members = [b"a", b"b", b"c"]
    assert choose(holdings, members)[0] == TWIN
    assert choose(holdings, members, lambda n: 0.9 if n == b"a" else 0.4)[0] == NEW
    assert choose(holdings[:2], members)[0] == NEW  # the smaller id
    assert choose(holdings, [b"a"])[0] == NEW  # only holders in S weigh


def test_one_node_with_both_twins_is_equivocation() -> None:
    members = [Member(bytes([i]), str(i)) for i in range(4)]
    holdings = [Holding(m.node, NEW) for m in members] + [Holding(b"\x00", TWIN)]
    outcome = confirm(members, holdings, address_groups=False)
    assert outcome.verdict is Verdict.CONTESTED
    assert outcome.newest == NEW


def test_old_twins_do_not_matter() -> None:
    old_twin = Version(OLD.timestamp, b"\x09" * ID_BYTES, b"x")
    members = [Member(bytes([i]), str(i)) for i in range(4)]
    holdings = [Holding(m.node, NEW) for m in members[:3]] + [
        Holding(b"\x03", OLD),
        Holding(b"\x03", old_twin),
    ]
    outcome = confirm(members, holdings, address_groups=False)
    assert outcome.verdict is Verdict.CONFIRMED
    assert outcome.equivocation == ()


def test_a_node_that_sends_the_newest_and_an_older_one_holds_the_newest() -> None:
    members = [Member(b"a", "a")]
    outcome = confirm(members, [Holding(b"a", OLD), Holding(b"a", NEW)], address_groups=False)
    assert (outcome.verdict, outcome.repair) == (Verdict.CONFIRMED, ())


def test_members_are_the_k_closest() -> None:
    members = [Member(bytes([i]) * ID_BYTES, "") for i in range(10)]
    target = bytes([5]) * ID_BYTES
    chosen = closest_members(target, members, 3)
    assert [distance(m.node, target) for m in chosen] == sorted(distance(m.node, target) for m in members)[:3]
    assert chosen[0].node == target


def test_one_address_group_gets_two_places_while_others_remain() -> None:
    members = [Member(bytes([i]) * ID_BYTES, "evil" if i < 8 else str(i)) for i in range(12)]
    target = bytes(ID_BYTES)

    def chosen(k: int, per_group: int | None) -> list[int]:
        return [m.node[0] for m in closest_members(target, members[::-1], k, per_group)]

    assert chosen(4, None) == [0, 1, 2, 3]
    assert chosen(4, 2) == [0, 1, 8, 9]
    assert chosen(6, 2) == [0, 1, 8, 9, 10, 11]
    assert chosen(8, 2) == [0, 1, 2, 3, 8, 9, 10, 11]  # nobody else is left: the closest passed over
    assert chosen(20, 2) == list(range(12))
    assert [m.node[0] for m in closest_members(target, members[:8], 4, 2)] == [0, 1, 2, 3]


# --- PUT -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "groups", "k", "limits", "need", "spread"),
    [
        (0, 0, 20, True, 1, 1),
        (1, 0, 20, True, 1, 1),
        (2, 0, 20, True, 2, 2),
        (2, 1, 20, True, 2, 1),
        (5, 0, 20, True, 3, 3),
        (5, 2, 20, True, 3, 1),
        (5, 3, 20, True, 3, 3),
        (9, 3, 20, True, 5, 2),
        (19, 0, 20, True, 10, 10),
        (20, 0, 20, True, 11, 11),
        (20, 10, 20, True, 11, 6),
        (20, 11, 20, True, 11, 11),
        (20, 0, 20, False, 11, 1),
        (30, 0, 20, True, 11, 11),
        (4, 0, 4, True, 3, 3),
    ],
)
def test_need(count: int, groups: int, k: int, limits: bool, need: int, spread: int) -> None:
    assert required_receipts(t(count, groups), k, limits) == (need, spread)


def test_one_group_alone_is_no_quorum_where_there_are_three() -> None:
    """Too few groups for one receipt each: nodes count, but not those of one network alone."""
    members = [(bytes([i]) * ID_BYTES, "evil" if i < 8 else str(i)) for i in range(10)]
    tally = PutTally(members, 20, True)
    for node, _ in members[:8]:
        tally.add(node)
    assert (tally.confirmed, tally.need, tally.by_group) == (8, 6, False)
    for node, _ in members[8:]:
        assert (tally.reached, tally.is_possible) == (False, True)
        tally.add(node, ok=False)
    assert (tally.reached, tally.is_possible) == (False, False)
    tally.add(members[8][0])
    assert tally.reached


def test_each_node_counts_once() -> None:
    members = t(5)
    tally = PutTally(members, 20, False)
    assert [tally.add(members[0][0]) for _ in range(9)] == [True] * 9
    assert (tally.confirmed, tally.reached) == (1, False)
    for node, _ in members[1:3]:
        tally.add(node)
    assert (tally.confirmed, tally.reached) == (3, True)


def test_each_group_counts_once() -> None:
    members = t(20, 11)
    tally = PutTally(members, 20, True)
    for node, group in members:
        if group in ("0", "1"):
            tally.add(node)
    assert tally.confirmed == 2
    for node, _ in members[2:10]:
        tally.add(node)
    assert not tally.reached
    tally.add(members[10][0])
    assert tally.reached


def test_a_receipt_from_outside_t_counts_for_nothing() -> None:
    tally = PutTally(t(2), 20, False)
    assert not tally.add(b"\x99" * ID_BYTES)
    assert tally.confirmed == 0


def test_a_refusal_counts_for_nothing_and_undoes_nothing() -> None:
    members = t(1)
    tally = PutTally(members, 20, False)
    assert not tally.add(members[0][0], ok=False)
    assert not tally.reached
    assert not tally.is_possible
    tally.add(members[0][0])
    tally.add(members[0][0], ok=False)
    assert tally.reached


def test_possible_until_too_many_refuse() -> None:
    members = t(5)
    tally = PutTally(members, 20, False)
    for node, _ in members[:2]:
        tally.add(node, ok=False)
    assert tally.is_possible
    tally.add(members[2][0], ok=False)
    assert not tally.is_possible
