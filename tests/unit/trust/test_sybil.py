"""The Sybil test: the published vectors, its rate of false alarms, and the smaller signs."""

from __future__ import annotations

import random
from math import inf

import pytest

from pqdht.ids import common_prefix_length
from pqdht.trust.sybil import (
    SybilTest,
    crowded_prefix,
    divergence,
    fresh_ids,
    low_stake,
    model,
    region_cpl,
    region_targets,
    tail,
    threshold,
)
from tests.unit.kad.network import near, random_id, true_closest


def direct_model(n: int, k: int, x: int) -> float:
    """q_x summed as the definition reads."""

    def below(i: int, bits: int) -> float:  # F_i(bits)
        return 1 - tail(n, 2.0 ** -(bits + 1), i) if bits >= 0 else 0.0

    return sum(below(i, x) - below(i, x - 1) for i in range(1, k + 1)) / k


def test_published_model() -> None:
    q = model(10_000, 20)
    assert q[8:11] == pytest.approx([0.10024, 0.41156, 0.24404], abs=5e-6)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [({8: 2, 9: 9, 10: 5, 11: 2, 12: 1, 13: 1}, 0.04075), ({13: 9, 14: 6, 15: 3, 16: 1, 17: 1}, 2.84328)],
)
def test_published_divergences(counts: dict[int, int], expected: float) -> None:
    assert divergence(counts, 10_000, 20) == pytest.approx(expected, abs=5e-6)


@pytest.mark.parametrize(("n", "k"), [(4, 4), (20, 20), (21, 20), (60, 8), (700, 20)])
def test_the_model_is_the_definition(n: int, k: int) -> None:
    q = model(n, k)
    assert sum(q) == pytest.approx(1.0)
    assert min(q) >= 0.0
    assert q[:16] == pytest.approx([direct_model(n, k, x) for x in range(16)], abs=1e-9)


def test_large_networks_lose_no_digits() -> None:
    q = model(10**9, 20)
    assert sum(q) == pytest.approx(1.0)
    assert q[60] == pytest.approx(10**9 * 2.0**-61 / 20)  # far out one id in n 2^-61


@pytest.mark.parametrize(("n", "k"), [(3, 4), (10, 0)])
def test_no_model_of_more_than_all(n: int, k: int) -> None:
    with pytest.raises(ValueError, match="closest of"):
        model(n, k)


def test_thresholds_fall_with_k() -> None:
    limits = [threshold(k) for k in range(4, 21)]
    assert limits == sorted(limits, reverse=True)
    assert limits[-1] == 0.94 == threshold(40)
    with pytest.raises(ValueError, match="at least 4"):
        threshold(3)


@pytest.mark.parametrize(("n", "bits"), [(0, 0), (1, 0), (20, 0), (60, 1), (10_000, 8), (25_000, 10)])
def test_region(n: int, bits: int) -> None:
    assert region_cpl(n) == bits


@pytest.mark.parametrize("k", [4, 8, 20])
def test_false_alarms_and_detection(k: int) -> None:
    dice = random.Random(k)
    nodes = [random_id(dice) for _ in range(500)]
    test = SybilTest(k)
    honest = attacked = 0
    for _ in range(200):
        target = random_id(dice)
        honest += test.check(target, true_closest(nodes, target, k), 500) is not None
        packed = [near(target, 12, dice) for _ in range(k)]
        finding = test.check(target, true_closest(packed + nodes, target, k), 500)
        attacked += finding is not None
        if finding is not None:
            assert finding.divergence > finding.threshold == threshold(k)
            assert finding.cpls == tuple(common_prefix_length(i, target) for i in finding.ids)
            assert sum(finding.counts.values()) == k
            assert finding.region_cpl == 4
    assert honest <= 4  # 0.37 % of 200 expected
    assert attacked == 200


def test_too_few_ids_are_no_finding() -> None:
    target = bytes(32)
    assert SybilTest(20).check(target, [target] * 3, 10_000) is None
    assert SybilTest(20).check(target, [target] * 4, 10_000) is not None


def test_more_ids_than_the_estimate_says_there_are() -> None:
    dice = random.Random(1)
    target = random_id(dice)
    assert SybilTest(20).check(target, [random_id(dice) for _ in range(20)], 9.0) is None


def test_other_threshold() -> None:
    assert SybilTest(20, at=inf).check(bytes(32), [bytes(32)] * 20, 10_000) is None


def test_models_kept_are_bounded() -> None:
    test = SybilTest(4)
    for exponent in range(200):
        test.check(bytes(32), [bytes([i]) * 32 for i in range(4)], 1.05**exponent * 10)
    assert len(test._models) <= 64


def test_crowded_prefix() -> None:
    table = {f"10.0.{i}.0/24": 1 for i in range(100)}
    spread = [f"10.0.{i}.0/24" for i in range(20)]
    assert crowded_prefix(spread, table) is None
    sign = crowded_prefix([*spread[:14], *["10.9.9.0/24"] * 6], table)
    assert sign is not None
    assert (sign.count, sign.of) == (6, 20)
    assert crowded_prefix([""] * 20, table) is None
    at_home = {"10.9.9.0/24": 60, "10.9.8.0/24": 40}
    assert crowded_prefix(["10.9.9.0/24"] * 12, at_home) is None


def test_fresh_ids_and_low_stake() -> None:
    born = [100] * 15 + [80] * 5
    sign = fresh_ids(born, 100, 0.1)
    assert sign is not None
    assert sign.count == 15
    assert sign.chance < 1e-9
    assert fresh_ids(born, 100, 0.9) is None  # a young network is all fresh
    assert fresh_ids([98] * 20, 100, 0.1) is None
    assert low_stake([16] * 20, 16, 0.5) is not None
    assert low_stake([16] * 10 + [18] * 10, 16, 0.5) is None


@pytest.mark.parametrize(
    ("of", "share", "count", "expected"),
    [(20, 0.5, 0, 1.0), (20, 0.5, 20, 2.0**-20), (3, 0.5, 2, 0.5), (5, 1.0, 5, 1.0), (5, 0.0, 1, 0.0)],
)
def test_tail(of: int, share: float, count: int, expected: float) -> None:
    assert tail(of, share, count) == pytest.approx(expected)


def test_region_targets_cover_the_region_from_outside_inwards() -> None:
    dice = random.Random(2)
    key = random_id(dice)
    targets = region_targets(key, 8, 10_000, dice)
    assert [common_prefix_length(t, key) for t in targets] == [8, 8, 9, 10, 11, 12, 13]
    assert common_prefix_length(targets[0], targets[1]) == 9
    assert region_targets(key, 0, 3, dice)
