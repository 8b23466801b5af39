"""How long to wait for whom."""

from __future__ import annotations

import pytest

from pqdht.node.timeouts import (
    DEAD_FIRST_S,
    DEAD_MOST_S,
    FLOOR_S,
    HEDGE_FLOOR_S,
    KEPT,
    SYN_AGAIN_S,
    RoundTrips,
    Silent,
)

A, B = b"a" * 32, b"b" * 32


def test_a_stranger_gets_the_whole_time() -> None:
    trips = RoundTrips(5.0)
    assert trips.rtt(A) is None
    assert trips.timeout(A) == 5.0
    assert trips.hedge(A) == 2 * FLOOR_S


def test_smoothing_is_that_of_rfc_6298() -> None:
    trips = RoundTrips(60.0)
    trips.measured(A, 1.0)
    assert trips.rtt(A) == 1.0
    assert trips.hedge(A) == pytest.approx(1.0 + 4 * 0.5)
    trips.measured(A, 2.0)
    assert trips.rtt(A) == pytest.approx(0.875 * 1.0 + 0.125 * 2.0)
    assert trips.hedge(A) == pytest.approx(1.125 + 4 * (0.75 * 0.5 + 0.25 * 1.0))
    assert trips.timeout(A) == pytest.approx(2 * trips.hedge(A))


def test_waits_stay_between_floor_and_limit() -> None:
    trips = RoundTrips(5.0)
    trips.measured(A, 100.0)
    assert trips.timeout(A) == 5.0
    for _ in range(200):
        trips.measured(B, 0.000_1)
    assert trips.timeout(B) == 4 * FLOOR_S
    assert trips.hedge(B) == pytest.approx(0.000_1 + HEDGE_FLOOR_S)


def test_who_was_measured_longest_ago_is_forgotten_first() -> None:
    trips = RoundTrips(5.0)
    trips.measured(A, 1.0)
    trips.measured(B, 1.0)
    trips.measured(A, 1.0)
    for i in range(KEPT - 1):
        trips.measured(i.to_bytes(32, "big"), 1.0)
    assert trips.rtt(B) is None
    assert trips.rtt(A) == 1.0


def test_a_stranger_is_expected_to_be_as_the_others() -> None:
    trips = RoundTrips(5.0)
    assert trips.patience(A) == trips.dial_timeout(5.0) == 5.0
    for _ in range(200):
        trips.measured(B, 0.05)
    assert trips.hedge(A) == pytest.approx(0.05 + HEDGE_FLOOR_S)
    assert trips.hedge(A, 3) == pytest.approx(3 * 0.05 + HEDGE_FLOOR_S)
    assert trips.timeout(A) == 5.0, "what others do says nothing against it"


def test_a_lookup_loses_patience_after_the_hedge_and_before_the_timeout() -> None:
    trips = RoundTrips(5.0)
    for rtt in (0.05, 0.05, 0.3):
        trips.measured(A, rtt)
        assert trips.hedge(A) + FLOOR_S <= trips.patience(A)
        assert trips.hedge(A) < trips.patience(A) < 5.0
    trips.measured(A, 100.0)
    assert trips.hedge(A) == trips.patience(A) == 5.0


def test_a_dial_outlives_one_lost_packet() -> None:
    trips = RoundTrips(5.0)
    for _ in range(50):
        trips.measured(A, 0.05)
    assert SYN_AGAIN_S + 2 * 0.05 < trips.dial_timeout(5.0) < 2 * SYN_AGAIN_S
    assert trips.dial_timeout(0.5) == 0.5


def test_the_silent_rest_twice_as_long_each_time_until_they_answer() -> None:
    silent = Silent()
    assert silent.wait("a", 0.0) == 0.0
    now, pauses = 0.0, []
    for _ in range(9):
        silent.failed("a", now)
        pauses.append(silent.wait("a", now))
        now += pauses[-1]
        assert silent.wait("a", now) == 0.0
    assert pauses[:3] == [DEAD_FIRST_S, 2 * DEAD_FIRST_S, 4 * DEAD_FIRST_S]
    assert pauses[-1] == DEAD_MOST_S
    assert silent.wait("b", now) == 0.0
    silent.failed("a", now)
    silent.answered("a")
    assert silent.wait("a", now) == 0.0
    silent.failed("a", now)
    assert silent.wait("a", now) == DEAD_FIRST_S


def test_of_the_silent_the_oldest_is_forgotten_first() -> None:
    silent = Silent()
    for i in range(KEPT + 1):
        silent.failed(i, 0.0)
    assert silent.wait(0, 0.0) == 0.0
    assert silent.wait(1, 0.0) == DEAD_FIRST_S
