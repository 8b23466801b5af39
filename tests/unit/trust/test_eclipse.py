"""Two views of one network: when they differ, and how often before it is said."""

from __future__ import annotations

from pqdht.trust.eclipse import ENOUGH, LATEST, WalkCheck, disagreement

NODES = [bytes([i]) * 32 for i in range(40)]


def test_views_that_agree_but_for_churn_raise_nothing() -> None:
    check = WalkCheck()
    for i in range(10):
        assert check.observe(NODES[:20], NODES[i : 20 + i]) is None


def test_views_that_differ_again_and_again_do() -> None:
    check = WalkCheck()
    found = [check.observe(NODES[:20], NODES[20:]) for _ in range(ENOUGH)]
    assert found == [None] * (ENOUGH - 1) + [{"overlap": 0.0, "lookups": ENOUGH, "found": 20}]


def test_one_odd_lookup_among_good_ones_does_not() -> None:
    check = WalkCheck()
    for _ in range(LATEST // 2 + 1):
        assert check.observe(NODES[:20], NODES[:20]) is None
    assert check.observe(NODES[:20], NODES[20:]) is None
    assert check.observe(NODES[:20], NODES[20:]) is None


def test_a_view_of_hardly_anybody_is_none() -> None:
    check = WalkCheck()
    for _ in range(10):
        assert check.observe(NODES[:3], NODES[20:]) is None
        assert check.observe(NODES[:20], []) is None


def test_bootstrap_entries_that_name_other_neighbours_than_the_rest() -> None:
    near, made_up = NODES[:8], NODES[20:28]
    assert disagreement({"a": near}) is None
    assert disagreement({"a": near, "b": near[3:], "c": near[:4]}) is None
    assert disagreement({"a": near, "b": near, "c": made_up}) == {"entries": 3, "apart": 1}
    assert disagreement({"a": near, "b": made_up}) == {"entries": 2, "apart": 2}
    assert disagreement({"a": near, "b": made_up[:3]}) is None  # a young node knows nobody yet
