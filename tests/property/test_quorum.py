"""The confirmation rule against its text, transcribed; and what must hold whatever the replicas say."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from pqdht.ids import distance
from pqdht.kad.quorum import (
    Holding,
    Member,
    PutTally,
    Verdict,
    Version,
    closest_members,
    confirm,
    required_receipts,
)

VERSIONS = [
    Version(1, b"a", b"one"),
    Version(2, b"b", b"two"),
    Version(2, b"c", b"three"),  # equivocates with b
    Version(3, b"d", b"two"),
    Version(4, b"e", b"four"),
]
held = st.none() | st.integers(0, len(VERSIONS) - 1)
group = st.sampled_from("uvwxyz")
answers = st.lists(st.tuples(group, held), max_size=20)
outside = st.lists(st.integers(0, len(VERSIONS) - 1), max_size=2)


def world(
    said: list[tuple[str, int | None]], beyond: list[int]
) -> tuple[list[Member], list[Holding], dict[bytes, Version]]:
    members = [Member(f"n{i}".encode(), g) for i, (g, _) in enumerate(said)]
    sent = {m.node: VERSIONS[v] for m, (_, v) in zip(members, said, strict=True) if v is not None}
    holdings = [Holding(n, v) for n, v in sent.items()]
    return members, holdings + [Holding(f"o{i}".encode(), VERSIONS[v]) for i, v in enumerate(beyond)], sent


@settings(max_examples=200)
@given(answers, outside, st.booleans())
def test_the_rule_as_it_is_written(
    said: list[tuple[str, int | None]], beyond: list[int], groups_on: bool
) -> None:
    members, holdings, sent = world(said, beyond)
    outcome = confirm(members, holdings, address_groups=groups_on)
    if not holdings:
        assert outcome.newest is None
        return
    latest = max(h.version.timestamp for h in holdings)
    assert outcome.newest is not None
    assert outcome.newest.timestamp == latest  # never an older version than any valid one seen
    by_group = groups_on and len({m.group for m in members}) >= 3
    unit = {m.node: m.group if by_group else m.node.hex() for m in members}
    newest = outcome.newest
    agreeing = {
        unit[n]
        for n, v in sent.items()
        if v == newest or (v.timestamp < latest and v.value_id == newest.value_id)
    }
    u, m, c = len(set(unit.values())), len({unit[n] for n in sent}), len(agreeing)
    assert (outcome.units, outcome.holding, outcome.confirmations) == (u, m, c)
    twins = len({h.version for h in holdings if h.version.timestamp == latest}) > 1
    is_confirmed = bool(members) and not twins and c > m / 2 and c >= min(3, u)
    assert (outcome.verdict is Verdict.CONFIRMED) == is_confirmed


@given(answers, outside, st.booleans(), st.data())
def test_repair_confirms_unless_refused_or_equivocal(
    said: list[tuple[str, int | None]], beyond: list[int], groups_on: bool, data: st.DataObject
) -> None:
    members, holdings, _ = world(said, beyond)
    before = confirm(members, holdings, address_groups=groups_on)
    receipts = data.draw(st.lists(st.sampled_from(before.repair), unique=True)) if before.repair else []
    after = confirm(members, holdings, address_groups=groups_on, receipts=receipts)
    assert after.newest == before.newest
    assert after.confirmations >= before.confirmations
    if before.verdict is Verdict.CONFIRMED:
        assert after.verdict is Verdict.CONFIRMED
    whole = confirm(members, holdings, address_groups=groups_on, receipts=before.repair)
    if before.repair:
        assert whole.verdict is Verdict.CONFIRMED
        assert whole.repair == ()


@settings(max_examples=200)
@given(answers, st.lists(st.tuples(group, st.integers(0, 2)), max_size=8), st.booleans())
def test_an_early_end_is_never_taken_back(
    said: list[tuple[str, int | None]], later: list[tuple[str, int]], groups_on: bool
) -> None:
    """If it is confirmed with some still to answer, then also when they answer empty, older or newest."""
    members, holdings, _ = world(said, [])
    pending = [Member(f"p{i}".encode(), g) for i, (g, _) in enumerate(later)]
    early = confirm(members, holdings, address_groups=groups_on, pending=pending)
    if early.verdict is not Verdict.CONFIRMED:
        return
    assert early.newest is not None
    older = Version(0, b"0", b"zero")
    choices = [None, older, early.newest]
    answered = [
        Holding(p.node, version)
        for p, (_, what) in zip(pending, later, strict=True)
        if (version := choices[what]) is not None
    ]
    final = confirm([*members, *pending], [*holdings, *answered], address_groups=groups_on)
    assert final.verdict is Verdict.CONFIRMED
    assert final.newest == early.newest


@given(answers, outside, st.booleans())
def test_order_of_arrival_does_not_matter(
    said: list[tuple[str, int | None]], beyond: list[int], groups_on: bool
) -> None:
    members, holdings, _ = world(said, beyond)
    turned = confirm(members[::-1], holdings[::-1], address_groups=groups_on)
    straight = confirm(members, holdings, address_groups=groups_on)
    assert turned[:6] == straight[:6]
    assert sorted(turned.repair) == sorted(straight.repair)


@given(st.lists(group, max_size=40), st.integers(1, 20), st.integers(1, 3), st.binary(min_size=1, max_size=1))
def test_no_group_has_more_than_its_share_while_others_remain(
    groups: list[str], k: int, per_group: int, goal: bytes
) -> None:
    members = [Member(bytes([i * 6]) * 32, g) for i, g in enumerate(groups)]
    target = goal * 32
    chosen = closest_members(target, members, k, per_group)
    assert [m.node for m in chosen] == sorted({m.node for m in chosen}, key=lambda n: distance(n, target))
    assert len(chosen) == min(k, len(members))
    left = [m for m in members if m not in chosen]
    for g in {m.group for m in chosen}:
        mine = [m for m in chosen if m.group == g]
        if len(mine) > per_group:
            held = {m.group for m in left if sum(c.group == m.group for c in chosen) < per_group}
            assert not held  # nobody with a better right was left out
        nearer = [
            m for m in left if m.group == g and distance(m.node, target) < distance(mine[-1].node, target)
        ]
        assert not nearer  # within a group the closest


@given(st.lists(group, max_size=25), st.integers(1, 20), st.booleans(), st.data())
def test_a_quorum_of_put(groups: list[str], k: int, groups_on: bool, data: st.DataObject) -> None:
    members = [(f"n{i}".encode(), g) for i, g in enumerate(groups[:k])]
    need, spread = required_receipts(members, k, groups_on)
    spans = len({g for _, g in members})
    by_group = groups_on and spans >= need
    assert need == min(k, len(members)) // 2 + 1
    assert spread == (need if by_group else spans // 2 + 1 if groups_on and spans >= 3 else 1)
    tally = PutTally(members, k, groups_on)
    told = data.draw(st.lists(st.tuples(st.sampled_from([*members, (b"x", "x")]), st.booleans())))
    for (node, _), ok in told:
        tally.add(node, ok=ok)
    receipts = {node for (node, _), ok in told if ok and node != b"x"}
    from_groups = {g for n, g in members if n in receipts}
    assert tally.confirmed == len(from_groups if by_group else receipts)
    assert tally.reached == (len(receipts) >= need and len(from_groups) >= spread)
    if groups_on and spans >= 3 and tally.reached:
        assert len(from_groups) >= 2  # never by one network alone
    if tally.reached:
        assert tally.is_possible
        # two quorums by node over the same T always share a storer
        assert by_group or 2 * len(receipts) > len(members)
