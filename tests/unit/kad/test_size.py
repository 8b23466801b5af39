"""The size estimate: right on honest networks, steady under one lying path, silent on too little."""

from __future__ import annotations

import random

import pytest

from pqdht.ids import distance
from pqdht.kad.size import SAMPLES_MAX, SAMPLES_MIN, WINDOW_S, SizeEstimator
from tests.unit.kad.network import near, random_id, true_closest

K = 20


def fed(size: int, samples: int, seed: int = 1) -> SizeEstimator:
    """An estimator that saw lookups of random keys in a network of `size` others."""
    dice = random.Random(seed)
    nodes = [random_id(dice) for _ in range(size)]
    sizes = SizeEstimator(K)
    for i in range(samples):
        target = random_id(dice)
        sizes.observe(target, true_closest(nodes, target, K), float(i))
    return sizes


@pytest.mark.parametrize("size", [100, 1000, 4000])
def test_the_estimate_is_near_the_truth(size: int) -> None:
    estimate = fed(size, 60).estimate(60.0)
    assert estimate is not None
    assert abs(estimate.nodes - size) < 0.15 * size
    assert estimate.low < estimate.nodes < estimate.high
    assert estimate.samples == 60


@pytest.mark.parametrize("size", [1, 2, 5, 19])
def test_networks_smaller_than_k(size: int) -> None:
    estimate = fed(size, 150).estimate(150.0)
    assert estimate is not None
    assert abs(estimate.nodes - size) < max(1.0, 0.35 * size)


def test_the_interval_holds_the_truth_about_nineteen_times_in_twenty() -> None:
    inside = 0
    for seed in range(60):
        estimate = fed(300, 12, seed).estimate(12.0)
        assert estimate is not None
        inside += estimate.low <= 300 <= estimate.high
    assert inside >= 50


def test_the_interval_narrows_with_samples() -> None:
    few, many = fed(1000, 6).estimate(6.0), fed(1000, 120).estimate(120.0)
    assert few is not None
    assert many is not None
    assert many.high - many.low < few.high - few.low


def test_too_few_samples_say_nothing() -> None:
    sizes = fed(100, SAMPLES_MIN - 1)
    assert sizes.estimate(10.0) is None
    assert sizes.region(10.0) is None
    assert fed(100, SAMPLES_MIN).estimate(10.0) is not None


def test_samples_are_forgotten_after_two_hours() -> None:
    sizes = fed(100, 20)
    assert sizes.estimate(WINDOW_S) is not None
    assert sizes.estimate(WINDOW_S + 16.0) is None


def test_at_most_150_samples_are_held() -> None:
    estimate = fed(50, SAMPLES_MAX + 30).estimate(SAMPLES_MAX + 30.0)
    assert estimate is not None
    assert estimate.samples == SAMPLES_MAX


def test_an_empty_lookup_is_no_sample() -> None:
    sizes = SizeEstimator(K)
    for _ in range(10):
        sizes.observe(bytes(32), [], 0.0)
        sizes.observe_paths(bytes(32), [[], []], 0.0)
    assert sizes.estimate(0.0) is None


@pytest.mark.parametrize("lie", ["denser", "sparser"])
def test_a_lying_path_moves_nothing_much(lie: str) -> None:
    dice = random.Random(3)
    nodes = [random_id(dice) for _ in range(1000)]
    sizes, united = SizeEstimator(K), SizeEstimator(K)
    for _ in range(60):
        target = random_id(dice)
        honest = true_closest(nodes, target, K)
        dense = [near(target, 40, dice) for _ in range(K)]
        liars = dense if lie == "denser" else true_closest(nodes[::5], target, K)
        paths = [liars, honest, honest, honest]
        dice.shuffle(paths)
        sizes.observe_paths(target, paths, 0.0)
        united.observe(target, liars, 0.0)
    estimate, fooled = sizes.estimate(0.0), united.estimate(0.0)
    assert estimate is not None
    assert fooled is not None
    assert 850 < estimate.nodes < 1150
    assert not 300 < fooled.nodes < 3000  # what the median saved us from


def test_the_region_holds_about_k_nodes() -> None:
    sizes = fed(1000, 100)
    width = sizes.region(100.0)
    assert width is not None
    share = width / 2**256
    assert 0.8 * K < share * 1000 < 1.2 * K


def test_in_a_network_smaller_than_k_everybody_is_in_the_region() -> None:
    assert fed(10, 10).region(10.0) == 2**256 - 1


def test_identical_samples_give_a_point_not_a_crash() -> None:
    sizes = SizeEstimator(K)
    target = bytes(32)
    nodes = [(i << 240).to_bytes(32, "big") for i in range(1, 21)]
    for _ in range(SAMPLES_MIN):
        sizes.observe(target, nodes, 0.0)
    estimate = sizes.estimate(0.0)
    assert estimate is not None
    assert estimate.nodes == pytest.approx(2**16 - 1, rel=1e-6)
    assert estimate.low == pytest.approx(estimate.high)


def test_nodes_at_the_target_itself_do_not_divide_by_zero() -> None:
    sizes = SizeEstimator(K)
    for _ in range(SAMPLES_MIN):
        sizes.observe(bytes(32), [bytes(32)], 0.0)
    estimate = sizes.estimate(0.0)
    assert estimate is not None
    assert estimate.high == float("inf")


def test_suspect_samples_are_left_out_but_cannot_freeze_the_estimate() -> None:
    dice = random.Random(3)

    def around(n: int) -> tuple[bytes, list[bytes]]:
        target = dice.randbytes(32)
        ids = sorted((dice.randbytes(32) for _ in range(n)), key=lambda i: distance(i, target))
        return target, ids[:20]

    sizes = SizeEstimator(20)
    for _ in range(8):
        target, ids = around(100)
        assert sizes.observe_paths(target, [ids], 0.0, is_suspect=False)
    before = sizes.estimate(0.0)
    taken = []
    for _ in range(20):
        target, ids = around(1000)
        taken.append(sizes.observe_paths(target, [ids], 1.0, is_suspect=True))
    after = sizes.estimate(1.0)
    assert before is not None
    assert after is not None
    assert taken[:2] == [False, False]
    assert taken.count(False) <= 7  # a fifth of 28 and one
    assert after.nodes > 2 * before.nodes
    target, ids = around(1000)
    assert sizes.observe_paths(target, [ids], 1e6, is_suspect=True), "the old ones are forgotten"
