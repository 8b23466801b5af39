"""Each detector: what is usual passes, what is odd is found, and too little says nothing."""

from __future__ import annotations

import random
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pqdht.ids import ID_BITS
from pqdht.trust.anomaly import (
    SAMPLES_MIN,
    Clocks,
    CloserAnswers,
    EqualAnswers,
    Referrals,
    ResponseTimes,
)

NODES = [bytes([i]) * 32 for i in range(40)]


def test_one_slow_answer_among_usual_ones() -> None:
    times, dice = ResponseTimes(), random.Random(1)
    for _ in range(SAMPLES_MIN):
        assert times.observe(dice.uniform(0.02, 0.12)) is None
    for rtt_s in (0.01, 0.1, 0.2):
        assert times.observe(rtt_s) is None
    found = times.observe(4.0)
    assert found is not None
    assert found["rtt_s"] == 4.0
    assert found["z"] > times.Z_MOST


def test_before_it_is_known_what_is_usual_nothing_is_slow() -> None:
    times = ResponseTimes()
    for _ in range(SAMPLES_MIN - 1):
        assert times.observe(0.03) is None
    assert times.observe(30.0) is None


def test_a_minority_of_slow_liars_does_not_make_slowness_usual() -> None:
    times = ResponseTimes()
    for i in range(200):
        times.observe(4.0 if i % 3 == 0 else 0.05 + 0.0001 * (i % 7))
    assert times.observe(4.0) is not None


def test_a_network_that_is_slow_as_a_whole_is_usual() -> None:
    times, dice = ResponseTimes(), random.Random(2)
    assert all(times.observe(dice.uniform(0.5, 1.5)) is None for _ in range(300))


@given(st.lists(st.floats(1e-9, 100.0), max_size=300))
def test_any_times_are_taken(given_s: list[float]) -> None:
    times = ResponseTimes()
    for rtt_s in given_s:
        found = times.observe(rtt_s)
        assert found is None or rtt_s > times.SLOW_S


def test_a_clock_far_from_the_others_is_found_whoever_is_right() -> None:
    clocks = Clocks()
    for i in range(64):
        assert clocks.observe(300_000.0 + i) is None  # ours is five minutes behind
    assert 299_000 < clocks.own_offset_ms < 301_000
    found = clocks.observe(0.0)
    assert found is not None
    assert found["offset_ms"] == 0.0
    assert Clocks().own_offset_ms == 0.0


def test_seconds_of_difference_are_nobodys_concern() -> None:
    clocks = Clocks()
    for _ in range(64):
        clocks.observe(0.0)
    assert clocks.observe(30_000.0) is None


def test_a_referrer_of_the_dead_is_found_again_after_as_many_more() -> None:
    referrals = Referrals()
    found = [referrals.observe(NODES[0], ok=False) for _ in range(2 * referrals.LEAST)]
    at = [i for i, figures in enumerate(found) if figures]
    assert [b - a for a, b in pairwise(at)] == [referrals.LEAST]
    assert found[at[0]] == {"failed": referrals.LEAST}


def test_churn_is_no_finding() -> None:
    referrals = Referrals()
    assert all(referrals.observe(NODES[0], ok=i % 5 > 0) is None for i in range(100))


def test_what_is_remembered_of_referrers_is_bounded() -> None:
    referrals = Referrals(capacity=4)
    for node in NODES:
        referrals.observe(node, ok=False)
    assert len(referrals._lately) == 4


def test_a_contact_nearer_than_chance() -> None:
    closer, target = CloserAnswers(), NODES[3]
    near = (int.from_bytes(target, "big") ^ 1 << ID_BITS - 40).to_bytes(32, "big")
    usual = (int.from_bytes(target, "big") ^ 1 << ID_BITS - 10).to_bytes(32, "big")
    found = closer.observe(target, [NODES[0], near], 1000.0)
    assert found is not None
    assert found["chance"] < closer.CHANCE
    assert closer.observe(target, [NODES[0], usual], 1000.0) is None
    assert closer.observe(target, [near], None) is None
    assert closer.observe(target, [target], 1000.0) is None  # it was looked for
    assert closer.observe(target, [], 1000.0) is None


def test_the_same_contacts_from_many() -> None:
    equal = EqualAnswers()
    found = [equal.observe(NODES[:5]) for _ in range(equal.NODES)]
    assert found == [None] * (equal.NODES - 1) + [{"answers": equal.NODES, "contacts": 5}]
    assert equal.observe(NODES[:5][::-1]) is not None  # in any order
    assert equal.observe(NODES[1:6]) is None
    assert [equal.observe(NODES[:4]) for _ in range(9)] == [None] * 9
