"""How long to wait for whom."""

from __future__ import annotations

import pytest

from pqdht.node.timeouts import FLOOR_S, KEPT, RoundTrips

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
    assert trips.hedge(B) == FLOOR_S / 2


def test_who_was_measured_longest_ago_is_forgotten_first() -> None:
    trips = RoundTrips(5.0)
    trips.measured(A, 1.0)
    trips.measured(B, 1.0)
    trips.measured(A, 1.0)
    for i in range(KEPT - 1):
        trips.measured(i.to_bytes(32, "big"), 1.0)
    assert trips.rtt(B) is None
    assert trips.rtt(A) == 1.0
