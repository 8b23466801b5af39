"""The latency models: within their bounds, symmetric, fixed by the seed."""

from __future__ import annotations

import pytest

from pqdht.testing.latency import Constant, Coordinates, Latency, Uniform

HOSTS = [f"10.0.{i}.1" for i in range(40)]
PAIRS = [(a, b) for a in HOSTS for b in HOSTS if a < b]


def test_constant_is_half_the_round_trip() -> None:
    assert {Constant(0.08).one_way(a, b) for a, b in PAIRS} == {0.04}


@pytest.mark.parametrize("model", [Uniform(3), Coordinates(3)])
def test_pairs_differ_but_both_ways_take_the_same(model: Latency) -> None:
    delays = [model.one_way(a, b) for a, b in PAIRS]
    assert delays == [model.one_way(b, a) for a, b in PAIRS]
    assert len(set(delays)) == len(PAIRS)


def test_uniform_fills_its_range() -> None:
    rtts = [2 * Uniform(1, 0.01, 0.2).one_way(a, b) for a, b in PAIRS]
    assert all(0.01 <= r <= 0.2 for r in rtts)
    assert min(rtts) < 0.03
    assert max(rtts) > 0.18


def test_coordinates_keep_the_triangle_inequality() -> None:
    model = Coordinates(1, side=0.12, access=0.02)
    assert all(0 <= model.one_way(a, b) <= (0.12 * 2**0.5 + 0.04) / 2 for a, b in PAIRS)
    a, b, c = HOSTS[:3]
    assert model.one_way(a, c) <= model.one_way(a, b) + model.one_way(b, c)


def test_the_seed_decides() -> None:
    assert Coordinates(1).one_way(*PAIRS[0]) == Coordinates(1).one_way(*PAIRS[0])
    assert Coordinates(1).one_way(*PAIRS[0]) != Coordinates(2).one_way(*PAIRS[0])
    assert Uniform(1).one_way(*PAIRS[0]) != Uniform(2).one_way(*PAIRS[0])
    assert round(Uniform(1).one_way(*PAIRS[0]) * 1e9) == 12_977_750  # pinned: the same in every process
