"""Limits per subject: what they allow, and that forgetting never helps an attacker."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqdht.trust.admission import CostLimiter, CountLimiter, DialLimiter, LoadGauge, ShareLimiter
from pqdht.trust.modes import Mode, Tally

RATE, BURST = 10.0, 50.0
GROUP = "203.0.113.0/24"


def test_a_bucket_gives_its_burst_then_its_rate() -> None:
    limiter = CostLimiter(RATE, BURST)
    assert [limiter.spend("a", 10, 0.0) for _ in range(5)] == [0.0] * 5
    assert limiter.spend("a", 10, 0.0) == pytest.approx(1.0)
    assert limiter.spend("a", 5, 0.0) == pytest.approx(0.5)
    assert limiter.spend("b", 50, 0.0) == 0.0
    assert limiter.spend("a", 10, 1.0) == 0.0
    assert limiter.spend("a", 1, 1.0) == pytest.approx(0.1)
    assert limiter.spend(b"a", 50, 1.0) == 0.0
    assert limiter.tally == Tally(allowed=8, refused=3)


def test_asking_again_after_the_wait_succeeds() -> None:
    limiter = CostLimiter(RATE, BURST)
    assert limiter.spend("a", 50, 0.0) == 0.0
    wait = limiter.spend("a", 7, 0.0)
    assert limiter.spend("a", 7, wait) == 0.0


def test_a_cost_above_the_burst_needs_a_full_bucket() -> None:
    limiter = CostLimiter(RATE, BURST)
    assert limiter.spend("a", 1000, 0.0) == 0.0
    assert limiter.spend("a", 1000, 4.0) == pytest.approx(1.0)
    assert limiter.spend("a", 1000, 5.0) == 0.0


def test_a_clock_that_went_back_costs_one_bucket_at_most() -> None:
    limiter = CostLimiter(RATE, BURST)
    limiter.spend("a", 50, 1e6)
    assert limiter.spend("a", 1, 0.0) == pytest.approx(0.1)


def test_observe_counts_and_off_does_not() -> None:
    watching = CostLimiter(RATE, BURST, mode=Mode.OBSERVE)
    assert [watching.spend("a", 50, 0.0) for _ in range(3)] == [0.0] * 3
    assert watching.tally == Tally(allowed=1, would_refuse=2)
    off = CostLimiter(RATE, BURST, mode=Mode.OFF)
    assert [off.spend("a", 50, 0.0) for _ in range(3)] == [0.0] * 3
    assert off.tally == Tally()
    assert len(off) == 0


def test_crowding_the_map_does_not_reset_a_bucket() -> None:
    limiter = CostLimiter(RATE, BURST, capacity=8)
    assert limiter.spend("attacker", 50, 0.0) == 0.0
    for i in range(1000):
        limiter.spend(f"crowd {i}", 50, 0.0)
    assert len(limiter) <= 8
    assert limiter.spend("attacker", 50, 0.0) > 0.0


def test_newcomers_to_a_busy_map_share_one_bucket() -> None:
    limiter = CostLimiter(RATE, BURST, capacity=2)
    limiter.spend("a", 50, 0.0)
    limiter.spend("b", 50, 0.0)
    assert limiter.spend("c", 30, 0.0) == 0.0
    assert limiter.spend("d", 30, 0.0) == pytest.approx(1.0)
    assert limiter.spend("d", 30, 1.0) == 0.0
    assert len(limiter) == 2


def test_full_buckets_make_room() -> None:
    limiter = CostLimiter(RATE, BURST, capacity=2)
    limiter.spend("a", 50, 0.0)
    limiter.spend("b", 10, 0.0)
    assert limiter.spend("c", 50, 1.0) == 0.0  # b is full again, a is not
    assert limiter.spend("a", 50, 1.0) == pytest.approx(4.0)
    assert limiter.spend("c", 50, 1.0) == pytest.approx(5.0)


def test_busy_entries_in_front_do_not_hide_full_ones() -> None:
    limiter = CostLimiter(RATE, BURST, capacity=8)
    for i in range(8):
        limiter.spend(str(i), 50 if i < 6 else 1, 0.0)
    assert limiter.spend("one", 50, 1.0) == 0.0  # looked at busy ones only: shares
    assert limiter.spend("two", 50, 1.0) == 0.0  # found a full one: has its own
    assert limiter.spend("two", 50, 1.0) == pytest.approx(5.0)
    assert len(limiter) <= 8


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0.1, 60), st.floats(0, 2)), min_size=1, max_size=60))
def test_nobody_ever_gets_more_than_burst_and_rate(calls: list[tuple[int, float, float]]) -> None:
    limiter = CostLimiter(RATE, BURST, capacity=3)
    now = 0.0
    spent: dict[int, list[tuple[float, float]]] = {}
    for subject, cost, pause in calls:
        now += pause
        if limiter.spend(str(subject), cost, now) == 0.0:
            spent.setdefault(subject, []).append((now, min(cost, BURST)))
        assert len(limiter) <= 3
    for taken in spent.values():
        for i, (start, _) in enumerate(taken):
            for j in range(i, len(taken)):
                total = sum(cost for _, cost in taken[i : j + 1])
                # Twice: a subject may use the shared bucket, then one of its own.
                assert total <= 2 * (BURST + RATE * (taken[j][0] - start)) + 1e-6


def test_places_are_counted_per_group_and_in_all() -> None:
    limiter = CountLimiter(per_group=2, total=3)
    assert [limiter.acquire("a") for _ in range(3)] == [True, True, False]
    assert [limiter.acquire("b") for _ in range(2)] == [True, False]
    assert (len(limiter), limiter.held("a"), limiter.held("b")) == (3, 2, 1)
    limiter.release("a")
    assert limiter.acquire("b")
    assert not limiter.acquire("a")
    assert limiter.tally == Tally(allowed=4, refused=3)
    limiter.release("a")
    limiter.release("b")
    limiter.release("b")
    assert (len(limiter), limiter.held("a")) == (0, 0)
    with pytest.raises(KeyError):
        limiter.release("a")
    assert len(limiter) == 0


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.OFF])
def test_places_beyond_the_limit_are_still_counted_when_not_enforced(mode: Mode) -> None:
    limiter = CountLimiter(per_group=1, total=1, mode=mode)
    assert [limiter.acquire("a") for _ in range(3)] == [True] * 3
    assert limiter.held("a") == 3
    assert limiter.tally == (Tally(allowed=1, would_refuse=2) if mode is Mode.OBSERVE else Tally())


def test_two_dials_at_once() -> None:
    limiter = DialLimiter()
    assert [limiter.begin(GROUP, 0.0) for _ in range(2)] == [0.0, 0.0]
    assert limiter.begin(GROUP, 0.0) > 0.0
    assert limiter.begin("elsewhere", 0.0) == 0.0
    limiter.end(GROUP, 0.1, ok=True)
    assert limiter.begin(GROUP, 0.1) == 0.0
    assert limiter.tally == Tally(allowed=4, refused=1)


def dial(limiter: DialLimiter, now: float, ok: bool, verified: bool = False, group: str = GROUP) -> float:
    """One dial, over at once: seconds to wait, 0.0 if it was made."""
    if wait := limiter.begin(group, now, verified=verified):
        return wait
    limiter.end(group, now, ok=ok)
    return 0.0


def test_eight_dials_in_any_minute() -> None:
    limiter = DialLimiter()
    assert [dial(limiter, float(i), ok=True) for i in range(8)] == [0.0] * 8
    assert dial(limiter, 10.0, ok=True) == pytest.approx(50.0)
    assert dial(limiter, 60.0, ok=True) == 0.0
    assert dial(limiter, 60.5, ok=True) == pytest.approx(0.5)
    assert dial(limiter, 61.0, ok=True) == 0.0


def test_failures_in_a_row_bring_rest() -> None:
    limiter = DialLimiter()
    for i in range(3):
        dial(limiter, float(i), ok=False)
    dial(limiter, 3.0, ok=True)
    for i in range(4):
        assert dial(limiter, 100.0 + i, ok=False) == 0.0
    assert dial(limiter, 200.0, ok=False) == pytest.approx(503.0)
    assert dial(limiter, 702.9, ok=False) == pytest.approx(0.1)
    assert dial(limiter, 703.0, ok=False) == 0.0


def test_verified_dials_are_never_refused() -> None:
    limiter = DialLimiter()
    for _ in range(5):
        dial(limiter, 0.0, ok=False)
    assert dial(limiter, 1.0, ok=False) > 0.0
    assert [dial(limiter, 1.0, ok=False, verified=True) for _ in range(20)] == [0.0] * 20
    assert dial(limiter, 1.0, ok=True, verified=True) == 0.0
    assert [limiter.begin(GROUP, 1.0, verified=True) for _ in range(5)] == [0.0] * 5


def test_crowding_does_not_end_the_rest_of_a_group() -> None:
    limiter = DialLimiter(capacity=8)
    for _ in range(4):
        dial(limiter, 0.0, ok=False)
    for i in range(1000):
        dial(limiter, 1.0, ok=True, group=str(i))
    assert len(limiter) <= 8
    assert dial(limiter, 1.0, ok=True) > 0.0
    assert limiter.begin("another", 1.0) > 0.0
    assert limiter.begin("another", 1.0, verified=True) == 0.0
    limiter.end("another", 1.0, ok=True)
    assert dial(limiter, 62.0, ok=True, group="another") == 0.0
    assert dial(limiter, 600.0, ok=True) == 0.0


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.OFF])
def test_dials_pass_when_not_enforced(mode: Mode) -> None:
    limiter = DialLimiter(mode=mode)
    assert [limiter.begin(GROUP, 0.0) for _ in range(4)] == [0.0] * 4
    assert limiter.tally == (Tally(allowed=2, would_refuse=2) if mode is Mode.OBSERVE else Tally())


def test_groups_beyond_a_full_map_share_one_entry() -> None:
    limiter = DialLimiter(capacity=2)
    for i in range(2):
        assert limiter.begin(str(i), 0.0) == 0.0
    assert [limiter.begin(group, 0.0) for group in ("a", "b")] == [0.0, 0.0]
    assert limiter.begin("c", 0.0) > 0.0
    limiter.end("a", 0.1, ok=False)
    limiter.end("b", 0.1, ok=False)
    for i in range(6):  # one liar's failures do not bring rest to all who share
        assert dial(limiter, 0.2, ok=False, group=f"liar {i}") == 0.0
    assert dial(limiter, 0.3, ok=True, group="d") == pytest.approx(59.7)
    assert dial(limiter, 60.2, ok=True, group="d") == 0.0
    assert len(limiter) == 2
    limiter.end("0", 120.0, ok=True)
    assert [limiter.begin("d", 121.0) for _ in range(2)] == [0.0, 0.0]
    assert limiter.begin("e", 121.0) == 0.0  # d has an entry of its own by now, and counts there
    assert limiter.begin("d", 121.0) > 0.0


def test_dials_of_all_groups_together_are_capped() -> None:
    limiter = DialLimiter()
    assert [limiter.begin(str(i), 0.0) for i in range(64)] == [0.0] * 64
    assert limiter.begin("one more", 0.0) > 0.0
    assert limiter.begin("one more", 0.0, verified=True) == 0.0
    limiter.end("one more", 0.1, ok=True)
    assert limiter.begin("one more", 0.1) > 0.0
    limiter.end("7", 0.2, ok=False)
    assert limiter.begin("one more", 0.2) == 0.0


# --- all strangers together ------------------------------------------------------------------------


def test_a_share_is_charged_after_use() -> None:
    share = ShareLimiter(0.5, 0.1)
    assert share.wait(100.0) == 0.0
    share.charge(0.05, 100.0)
    assert share.wait(100.0) == 0.0, "half of the burst"
    share.charge(0.1, 100.0)
    assert share.wait(100.0) == pytest.approx(0.1), "0.05 s over, at half a second a second"
    assert share.wait(100.1) == 0.0
    share.charge(0.01, 100.1)
    assert share.wait(100.1) == pytest.approx(0.02)
    assert share.tally == Tally(allowed=3, refused=2)


def test_a_share_is_kept_over_time_whatever_single_jobs_cost() -> None:
    share, now, used = ShareLimiter(0.25, 0.02), 50.0, 0.0
    dice = random.Random(1)
    while now < 60.0:
        if wait := share.wait(now):
            now += wait
            continue
        cost = dice.uniform(0.0005, 0.01)
        now += cost
        used += cost
        share.charge(cost, now)
    assert 0.24 * 10 < used < 0.25 * 10 + 0.04


def test_a_share_forgives_a_clock_that_went_back_and_can_be_off() -> None:
    share = ShareLimiter(0.5, 0.1)
    share.charge(1.0, 1000.0)
    assert share.wait(0.0) == pytest.approx(0.4)
    assert ShareLimiter(0.5, 0.1, mode=Mode.OFF).wait(0.0) == 0.0


def test_loaded_from_the_first_long_wait_until_a_while_after_the_last() -> None:
    load = LoadGauge(threshold_s=0.05, hold_s=2.0)
    load.waited(0.05, 100.0)
    assert not load.is_loaded(100.0)
    load.waited(0.051, 100.0)
    assert load.is_loaded(100.0)
    load.waited(0.0, 101.0)
    assert load.is_loaded(101.9)
    load.waited(0.2, 101.9)
    assert load.is_loaded(103.8)
    assert not load.is_loaded(104.0)
    assert load.tally == Tally(allowed=2, refused=3)


def test_a_gauge_that_observes_counts_and_asks_nobody() -> None:
    load = LoadGauge(mode=Mode.OBSERVE)
    load.waited(1.0, 5.0)
    assert not load.is_loaded(5.0)
    assert load.tally.would_refuse == 1
    load = LoadGauge(mode=Mode.OFF)
    load.waited(1.0, 5.0)
    assert not load.is_loaded(5.0)


def test_a_clock_that_went_back_does_not_keep_us_loaded() -> None:
    load = LoadGauge()
    load.waited(1.0, 1000.0)
    assert not load.is_loaded(10.0)
