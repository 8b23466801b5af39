"""The attack report in small: its experiments, its arithmetic, and that what is committed is whole."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from lab import report
from lab.crowd import MEAN_S, UNNOTICED_S, Crowd, crowd, steady
from lab.eclipse import is_eclipsed, packed_keys
from lab.effort import FULL, TINY
from lab.figures import Rate
from lab.lookups import CONDITIONS, RULES, SHARES
from lab.searches import Lie, cases, ours, plain
from tests.unit.kad.network import StaticNetwork, random_id, true_closest

N = 1000


def test_intervals() -> None:
    """Wilson's, from Newcombe (1998): 81 of 263, 15 of 148, 0 of 20."""
    for rate, low, high in ((Rate(81, 263), 0.2553, 0.3662), (Rate(15, 148), 0.0624, 0.1605)):
        assert rate.interval == pytest.approx((low, high), abs=1e-4)
    assert Rate(0, 20).interval == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert str(Rate(199, 200)) == "99.5 % [97.2, 99.9]"


def test_tables_filled_at_once_hold_what_the_rules_of_the_table_give() -> None:
    dice = random.Random(1)
    nodes = [random_id(dice) for _ in range(N)]
    slow, fast = StaticNetwork(nodes, 20, 1), Crowd(nodes, (), {}, 1, poisoned=False)
    for own in nodes[:20]:
        expected, table = slow.table(own), fast.table(own)
        for cpl in range(20):
            assert len(table.members(cpl)) == len(expected.members(cpl))
        assert {*true_closest(nodes, own, 41)} <= {own, *(e.node_id for e in table)}


def test_churn_leaves_the_dead_in_tables_and_squatters_half_of_them() -> None:
    lives = steady(20_000, random.Random(1))
    died = [life for life in lives if not life.is_up]
    assert len(died) == round(20_000 * UNNOTICED_S / MEAN_S)
    assert all(life.was_up(-UNNOTICED_S) or life.born > -UNNOTICED_S for life in died)
    net = crowd(N, 0.2, 1, churn=True, poisoned=True)
    own = net.honest_up[0]
    far = net.table(own).members(0)
    assert len(far) == 20
    assert sum(n in net.colluders for n in far) >= 10
    known = [e.node_id for n in net.honest_up[:50] for e in net.table(n)]
    assert 0.01 < sum(not net.life(n).is_up for n in known) / len(known) < 0.1


def test_twenty_sybils_eclipse_plain_kademlia_and_not_us() -> None:
    keys = packed_keys(replace(TINY, nodes=N, packed=4), 20)
    assert all(is_eclipsed(write, reader, by_us=False) for write, reader in keys)
    tested = [(replace(write, size=float(N)), reader) for write, reader in keys]
    assert not any(is_eclipsed(write, reader, by_us=True) for write, reader in tested)


@pytest.mark.parametrize("lie", list(Lie))
def test_disjoint_paths_reach_at_least_as_much_as_one_list(lie: Lie) -> None:
    keys = [replace(key, lie=lie) for key in cases(crowd(N, 0.4, 3, churn=True, poisoned=True), 12, 3)]
    reached = [sum(search(key).reached for key in keys) for search in (plain, ours)]
    assert reached[1] >= reached[0]
    assert reached[1] >= 10


def test_a_run_writes_tables_and_what_is_behind_them(tmp_path: Path) -> None:
    out = tmp_path / "report.md"
    found = report.measure(["slander", "sybil-test"], TINY)
    report.write(found, out)
    kept = report.kept(out)
    assert list(kept) == ["slander", "sybil-test"]
    assert [s.goals for s in kept.values()] == [s.goals for s in found]
    text = out.read_text()
    for section in found:
        assert section.code in text
        for goal in section.goals:
            assert f"| {goal.figure} | {goal.published} | {goal.ours} |" in text
    forged = {row[0]: row[1] for row in kept["slander"].tables[0].rows}
    assert forged["... admitted"] in ("0", "1")
    judged = [row for row in kept["slander"].tables[0].rows if row[0] == "... admitted"]
    assert [row[1] for row in judged] == ["0", "1"]  # of the false and of the true


def test_a_missed_figure_is_said_in_words() -> None:
    (section,) = report.measure(["slander"], TINY)
    missed = replace(section, goals=[replace(section.goals[0], is_met=False, remark="Why.")])
    assert "None of ours is worse" in report.goals([replace(section, goals=section.goals[:1])])
    assert "**Worse than published**: honest nodes held" in report.goals([missed])


def test_the_committed_report_is_whole_and_says_what_was_measured() -> None:
    kept = report.kept(report.OUT)
    assert list(kept) == list(report.EXPERIMENTS)
    assert report.markdown(list(kept.values()), report.OUT.stem) == report.OUT.read_text()
    lookups = kept["lookups"].tables
    for table, condition in zip(lookups, CONDITIONS, strict=False):
        assert table.caption.endswith(condition)
        assert len(table.header) == 1 + len(SHARES)
        assert [row[0] for row in table.rows][: len(RULES)] == list(RULES)
    assert [row[0] for row in kept["retrieval"].tables[0].rows][-2:-1] == [str(max(FULL.sybil_counts))]
    for section in kept.values():
        for plot in section.plots:
            assert (report.OUT.with_suffix("") / f"{plot.name}.svg").stat().st_size < 100_000
