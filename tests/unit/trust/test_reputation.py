"""Reputation: what moves it and how far, that it cannot be farmed, and that crowding does not clear it."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqdht.errors import DecodeError
from pqdht.trust.belief import (
    DATA_HALF_LIFE_S,
    DAY_S,
    FAULT_CAP,
    HOUR_S,
    LIVE_LIFT,
    NEUTRAL,
    PRAISE_LIFT,
    SILENT_CUT,
)
from pqdht.trust.remembered import decode_reputation, encode_reputation
from pqdht.trust.reputation import NEWCOMER_RANK, Deed, Reputation

NOW = 1.8e9
NODE, OTHER = b"n" * 32, b"o" * 32

deeds = st.sampled_from(list(Deed))
steps = st.lists(
    st.tuples(
        deeds,
        st.sampled_from([0.0, 0.25, 1.0, 3.0, 1e9]),
        st.sampled_from([-40 * DAY_S, -60.0, 0.0, 1.0, HOUR_S, 40 * DAY_S]),
    ),
    max_size=60,
)


def told(*history: tuple[Deed, int], node: bytes = NODE) -> Reputation:
    reputation = Reputation()
    for deed, times in history:
        for _ in range(times):
            reputation.observe(node, deed, NOW)
    return reputation


def score(*history: tuple[Deed, int]) -> float:
    return told(*history).score(NODE, NOW)


def rank(*history: tuple[Deed, int]) -> float:
    return told(*history).rank(NODE, NOW)


def test_the_unknown_are_neutral() -> None:
    reputation = Reputation()
    assert reputation.score(NODE, NOW) == NEUTRAL
    assert reputation.rank(NODE, NOW) == pytest.approx(NEWCOMER_RANK)
    assert reputation.referral(NODE, NOW) == 1.0
    assert len(reputation) == 0, "asking remembers nothing"


def test_order_of_magnitudes() -> None:
    assert score((Deed.VALID, 3)) > 0.75
    assert score((Deed.VALID, 30)) > 0.9
    assert score((Deed.INVALID, 1)) < 0.35
    assert score((Deed.INVALID, 20)) < 0.1
    assert 0.5 < score((Deed.VALID, 9), (Deed.INVALID, 1)) < 0.85, "one in ten is seen"
    assert score((Deed.VALID, 30), (Deed.FAILED, 30)) < 0.65, "a silent good node"


def test_liveness_alone_lifts_to_0_6() -> None:
    assert 0.55 < score((Deed.ANSWERED, 10_000)) <= NEUTRAL + LIVE_LIFT


def test_praise_needs_own_experience_and_adds_little() -> None:
    assert score((Deed.PRAISED, 1000)) == NEUTRAL
    assert len(told((Deed.PRAISED, 1000))) == 0
    for history in ([(Deed.ANSWERED, 100)], [(Deed.INVALID, 3)], [(Deed.VALID, 2), (Deed.INVALID, 2)]):
        assert score(*history, (Deed.PRAISED, 1000)) == score(*history), history
    for n in (1, 5, 30):
        gain = score((Deed.VALID, n), (Deed.PRAISED, 1000)) - score((Deed.VALID, n))
        assert 0 < gain <= PRAISE_LIFT == 0.05


def test_a_proven_fault_caps_the_score_for_60_days_and_is_forgotten_slowly() -> None:
    reputation = told((Deed.VALID, 100), (Deed.PROVEN, 1))
    assert reputation.score(NODE, NOW) <= FAULT_CAP
    for day in range(1, 59):
        for _ in range(50):
            reputation.observe(NODE, Deed.VALID, NOW + day * DAY_S)
        assert reputation.score(NODE, NOW + day * DAY_S) <= FAULT_CAP
        assert reputation.rank(NODE, NOW + day * DAY_S) < NEWCOMER_RANK
    for _ in range(50):
        reputation.observe(NODE, Deed.VALID, NOW + 61 * DAY_S)
    assert 0.5 < reputation.score(NODE, NOW + 61 * DAY_S) < 0.9


def test_proven_faults_add_up_but_end() -> None:
    reputation = told((Deed.PROVEN, 1000))
    assert reputation.score(NODE, NOW + 115 * DAY_S) < 0.5
    reputation.observe(NODE, Deed.VALID, NOW + 1000 * DAY_S)
    assert reputation.score(NODE, NOW + 1000 * DAY_S) > 0.6


@pytest.mark.parametrize("outage_h", [1, 6, 48])
def test_an_honest_node_recovers_from_an_outage_within_an_hour(outage_h: int) -> None:
    for good in (0, 30):
        reputation = told((Deed.VALID, good), (Deed.ANSWERED, 10))
        now = NOW + outage_h * HOUR_S
        never_out = reputation.score(NODE, now)
        for minute in range(outage_h * 60):
            reputation.observe(NODE, Deed.FAILED, NOW + minute * 60)
        during = reputation.score(NODE, now)
        assert never_out * (1 - SILENT_CUT) <= during < never_out * 0.8
        for minute in range(0, 60, 10):
            reputation.observe(NODE, Deed.ANSWERED, now + minute * 60)
        assert reputation.score(NODE, now + HOUR_S) > max(NEUTRAL, never_out - 0.06)
        assert reputation.rank(NODE, now + HOUR_S) >= NEWCOMER_RANK


def test_silence_alone_ends_at_0_3() -> None:
    assert NEUTRAL * (1 - SILENT_CUT) <= score((Deed.FAILED, 10_000)) < 0.4
    assert rank((Deed.FAILED, 3)) < NEWCOMER_RANK


@settings(max_examples=100)
@given(steps)
def test_20_invalid_answers_bring_anybody_below_0_3(history: list[tuple[Deed, float, float]]) -> None:
    reputation, now = Reputation(), NOW
    for deed, weight, later in history:
        now += later
        reputation.observe(NODE, deed, now, weight)
    for _ in range(20):
        reputation.observe(NODE, Deed.INVALID, now)
    assert reputation.score(NODE, now) < 0.3
    assert reputation.rank(NODE, now) < NEWCOMER_RANK


def test_a_sleeper_falls() -> None:
    sleeper = told((Deed.VALID, 5000), (Deed.ANSWERED, 5000), (Deed.PRAISED, 500))
    falls = []
    for _ in range(20):
        sleeper.observe(NODE, Deed.INVALID, NOW)
        falls.append(sleeper.score(NODE, NOW))
    assert falls == sorted(falls, reverse=True)
    assert falls[9] < 0.5
    assert falls[19] < 0.2


def test_idle_records_go_back_to_neutral() -> None:
    for deed in (Deed.VALID, Deed.INVALID, Deed.FAILED, Deed.ANSWERED):
        reputation = told((deed, 30))
        distances = [abs(reputation.score(NODE, NOW + d * DAY_S) - NEUTRAL) for d in range(0, 60, 3)]
        assert distances == sorted(distances, reverse=True)
        assert distances[-1] < 0.001
    good = told((Deed.VALID, 30))
    assert good.score(NODE, NOW + DATA_HALF_LIFE_S) < good.score(NODE, NOW)


def test_newcomers_rank_between_good_and_bad() -> None:
    good = [rank((Deed.VALID, n)) for n in (1, 2, 5, 20)]
    assert good == sorted(good)
    assert good[0] > NEWCOMER_RANK
    assert rank((Deed.ANSWERED, 5)) > NEWCOMER_RANK
    for bad in (
        [(Deed.INVALID, 1)],
        [(Deed.VALID, 12), (Deed.INVALID, 9)],
        [(Deed.VALID, 100), (Deed.PROVEN, 1)],
        [(Deed.FAILED, 5)],
    ):
        assert rank(*bad) < NEWCOMER_RANK, bad


@settings(max_examples=200)
@given(steps)
def test_bounds_always_hold(history: list[tuple[Deed, float, float]]) -> None:
    reputation, now = Reputation(), NOW
    for deed, weight, later in history:
        now += later
        reputation.observe(NODE, deed, now, weight)
        found, lower = reputation.score(NODE, now), reputation.rank(NODE, now)
        assert 0 <= lower <= found <= 1
        assert (lower < NEWCOMER_RANK) or found >= NEUTRAL
        assert (lower >= NEWCOMER_RANK) or found < NEUTRAL or found == FAULT_CAP
    for later in (-1e10, 0.0, 1e12):
        assert 0 <= reputation.score(NODE, now + later) <= 1


@settings(max_examples=200)
@given(st.lists(st.tuples(deeds, st.sampled_from([0.0, 60.0, HOUR_S, DAY_S])), max_size=60))
def test_farming_ends_at_what_valid_data_justify(history: list[tuple[Deed, float]]) -> None:
    farmed, earned, now = Reputation(), Reputation(), NOW
    has_valid = False
    for deed, later in history:
        now += later
        farmed.observe(NODE, deed, now)
        if deed in (Deed.VALID, Deed.INVALID, Deed.PROVEN):
            has_valid |= deed is Deed.VALID
            earned.observe(NODE, deed, now)
    assert farmed.score(NODE, now) <= earned.score(NODE, now) + LIVE_LIFT + PRAISE_LIFT + 1e-9
    if not has_valid:
        assert farmed.score(NODE, now) <= NEUTRAL + LIVE_LIFT


@settings(max_examples=200)
@given(
    st.lists(st.tuples(deeds, st.sampled_from([0.0, 60.0, HOUR_S, DAY_S])), max_size=40),
    st.sampled_from([0.25, 1.0, 4.0]),
)
def test_good_deeds_raise_and_bad_deeds_lower(history: list[tuple[Deed, float]], weight: float) -> None:
    def after(last: Deed | None) -> tuple[float, float]:
        reputation, now = Reputation(), NOW
        for deed, later in history:
            now += later
            reputation.observe(NODE, deed, now)
        if last is not None:
            reputation.observe(NODE, last, now, weight)
        return reputation.score(NODE, now), reputation.rank(NODE, now)

    before = after(None)
    for good in (Deed.VALID, Deed.ANSWERED, Deed.PRAISED):
        for was, became in zip(before, after(good), strict=True):
            assert became >= was - 1e-9, good
    for bad in (Deed.INVALID, Deed.FAILED, Deed.PROVEN):
        for was, became in zip(before, after(bad), strict=True):
            assert became <= was + 1e-9, bad


def test_referrals_are_apart_from_the_score() -> None:
    reputation = Reputation()
    for _ in range(3):
        reputation.referred(NODE, NOW, ok=False)
    first = reputation.referral(NODE, NOW)
    assert 0.5 < first < 0.7
    for _ in range(100):
        reputation.referred(NODE, NOW, ok=False)
    assert reputation.referral(NODE, NOW) < 0.15
    assert reputation.score(NODE, NOW) == NEUTRAL
    assert reputation.referral(NODE, NOW + 30 * DAY_S) > 0.99
    for _ in range(40):
        reputation.referred(NODE, NOW, ok=True)
    assert reputation.referral(NODE, NOW) > 0.7
    reputation = Reputation()
    for i in range(200):
        reputation.referred(NODE, NOW, ok=i % 5 != 0)
    assert reputation.referral(NODE, NOW) > 0.75, "churn is not a fault"


def test_a_clock_that_goes_back_does_no_harm() -> None:
    reputation = Reputation()
    for _ in range(10):
        reputation.observe(NODE, Deed.PROVEN, NOW + 3650 * DAY_S)
    was = reputation.score(NODE, NOW)
    assert was == reputation.score(NODE, NOW + 3650 * DAY_S - 3650 * DAY_S)
    assert reputation.score(NODE, NOW + 365 * DAY_S) > was, "forgetting goes on from the new time"
    reputation.observe(NODE, Deed.VALID, NOW)
    assert reputation.score(NODE, NOW + 365 * DAY_S) > was


def test_weights_are_checked() -> None:
    for weight in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="weight"):
            Reputation().observe(NODE, Deed.VALID, NOW, weight)
    half = Reputation()
    half.observe(NODE, Deed.INVALID, NOW, 0.5)
    half.observe(NODE, Deed.INVALID, NOW, 0.5)
    assert half.score(NODE, NOW) == pytest.approx(score((Deed.INVALID, 1)))


def test_crowding_makes_nobody_forgotten_of_whom_more_is_known() -> None:
    reputation = Reputation(capacity=64)
    for _ in range(10):
        reputation.observe(NODE, Deed.INVALID, NOW)
        reputation.observe(OTHER, Deed.VALID, NOW)
    bad, good = reputation.score(NODE, NOW), reputation.score(OTHER, NOW)
    for i in range(5000):
        deed = (Deed.VALID, Deed.INVALID, Deed.ANSWERED, Deed.PROVEN)[i % 4]
        if deed is Deed.PROVEN:
            reputation.referred(b"x%031d" % i, NOW, ok=False)
        else:
            reputation.observe(b"x%031d" % i, deed, NOW)
        assert len(reputation) <= 64
        assert b"x%031d" % i in reputation, "a newcomer is let in"
    assert (reputation.score(NODE, NOW), reputation.score(OTHER, NOW)) == (bad, good)


def test_a_crowd_of_bad_nodes_makes_no_good_ones_forgotten() -> None:
    reputation = Reputation(capacity=64)
    for i in range(20):
        reputation.observe(b"g%031d" % i, Deed.VALID, NOW)
    for i in range(1000):
        for _ in range(5):
            reputation.observe(b"x%031d" % i, Deed.INVALID, NOW)
    assert all(b"g%031d" % i in reputation for i in range(20))
    assert len(reputation) <= 64


def test_dump_and_load_keep_everything() -> None:
    reputation = told((Deed.VALID, 7), (Deed.INVALID, 2), (Deed.PROVEN, 1), (Deed.FAILED, 2))
    reputation.observe(OTHER, Deed.ANSWERED, NOW - HOUR_S)
    reputation.observe(OTHER, Deed.PRAISED, NOW - HOUR_S)
    reputation.referred(OTHER, NOW, ok=False)
    again = Reputation()
    again.load(decode_reputation(encode_reputation(reputation.dump(NOW))), NOW)
    for node in (NODE, OTHER):
        for later in (0.0, DAY_S, 90 * DAY_S):
            assert again.score(node, NOW + later) == pytest.approx(reputation.score(node, NOW + later))
            assert again.rank(node, NOW + later) == pytest.approx(reputation.rank(node, NOW + later))
            assert again.referral(node, NOW + later) == pytest.approx(reputation.referral(node, NOW + later))
    assert again.dump(NOW) == reputation.dump(NOW)


def test_load_holds_the_bounds() -> None:
    reputation = Reputation(capacity=10)
    huge = (1e300, 1e9, 1e9, 1e9, 1e9, 1e9, 1e9, 1e9, NOW + 1e9)
    reputation.load([(b"%032d" % i, *huge) for i in range(50)], NOW)
    assert len(reputation) <= 10
    for _ in range(20):
        reputation.observe(b"%032d" % 49, Deed.INVALID, NOW)
    assert reputation.score(b"%032d" % 49, NOW) < 0.3
    with pytest.raises(ValueError, match="reputation of"):
        reputation.load([(NODE, math.nan, 0, 0, 0, 0, 0, 0, 0, NOW)], NOW)
    with pytest.raises(ValueError, match="reputation of"):
        reputation.load([(NODE, -1.0, 0, 0, 0, 0, 0, 0, 0, NOW)], NOW)
    assert len(reputation) > 0, "what was there stays"


def test_damage_is_a_typed_error() -> None:
    row = (NODE, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, NOW)
    data = encode_reputation([row])
    for damaged in (b"", data[:-1], data + b"x", b"\x92\x02\x90", b"\x91\x01" + data, b"{}"):
        with pytest.raises(DecodeError):
            decode_reputation(damaged)
    for bad in (math.nan, math.inf, -1.0):
        rows = [(NODE, bad, *row[2:])]
        with pytest.raises(DecodeError):
            decode_reputation(msgspec.msgpack.encode([1, rows]))
    with pytest.raises(DecodeError):
        decode_reputation(msgspec.msgpack.encode([1, [(NODE[:31], *row[1:])]]))


@settings(max_examples=100)
@given(st.binary(max_size=200))
def test_any_bytes_decode_or_raise(data: bytes) -> None:
    try:
        rows = decode_reputation(data)
    except DecodeError:
        return
    Reputation().load(rows, NOW)
