"""How many nodes the network has, from how densely ids lie around random keys (section 6).

The i-th closest of N uniform ids lies at normalised distance i / (N + 1) on average.  A line through the
origin is fitted to the mean distances d_i over 5 to 150 lookups of random keys, each rank weighted by its
spread, as in go-libp2p-kad-dht's `netsize`:

    slope = sum(std_i i d_i) / sum(std_i i^2),    N = 1 / slope - 1

A path that an adversary steers sees a sparser network (honest nodes hidden) or a denser one (ids ground
for the place), so the i-th distance of a lookup is the median over its paths, whichever of them lies.
Only targets that nobody chose (random walks, refreshes) may be observed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, sqrt
from statistics import fmean, median_low, pstdev, stdev

from ..ids import ID_BITS, distance

SAMPLES_MIN = 5
"""Fewer lookups say too little."""
SAMPLES_MAX = 150
"""More cost memory and gain nothing."""
WINDOW_S = 7200.0
"""Older samples describe another network."""
SUSPECTS = 4
"""For so many samples one may be left out because of a Sybil alarm.  Honest keys raise few; where many do, it
is the estimate that is wrong (the network grew, or was young), and an estimate that refuses whatever
contradicts it would never get well."""


@dataclass(frozen=True, slots=True)
class SizeEstimate:
    """Nodes in the network, and where the truth lies with about 95 % confidence (honest answers)."""

    nodes: float
    low: float
    high: float
    """inf where the samples do not bound it."""
    samples: int


class SizeEstimator:
    """Holds the samples of one node; `k` is how many closest nodes a full lookup returns."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._samples: deque[tuple[float, tuple[int, ...]]] = deque(maxlen=SAMPLES_MAX)
        """(when, ascending distances)"""
        self._left_out: deque[float] = deque(maxlen=SAMPLES_MAX)
        """When samples were left out."""
        self._fitted: tuple[list[tuple[int, ...]], SizeEstimate] | None = None
        """The last estimate and its samples: it takes milliseconds, and is asked for far more often than a
        sample comes."""

    def observe(self, target: bytes, closest: Iterable[bytes], now: float) -> None:
        """The closest nodes found around a random key, all paths united."""
        self.observe_paths(target, [closest], now)

    def observe_paths(
        self, target: bytes, closest: Iterable[Iterable[bytes]], now: float, *, is_suspect: bool = False
    ) -> bool:
        """The closest nodes as each path saw them (`Lookup.closest_seen_by`).  A sample that fails the
        Sybil test is left out (False) as long as those left out are at most a fifth of all."""
        taken = len(self._recent(now))
        if is_suspect and SUSPECTS * (len(self._left_out) + 1) <= taken:
            self._left_out.append(now)
            return False
        views = [sorted(distance(node, target) for node in path)[: self._k] for path in closest]
        deepest = max(map(len, views), default=0)
        medians = (median_low(v[i] for v in views if len(v) > i) for i in range(deepest))
        if deepest:
            self._samples.append((now, tuple(sorted(medians))))
        return True

    def estimate(self, now: float) -> SizeEstimate | None:
        """The size, None while there are fewer than 5 samples of the last two hours."""
        samples = self._recent(now)
        if len(samples) < SAMPLES_MIN:
            return None
        if self._fitted is None or self._fitted[0] != samples:
            nodes, low, high = _fit(samples)
            self._fitted = samples, SizeEstimate(nodes, low, high, len(samples))
        return self._fitted[1]

    def region(self, now: float) -> int | None:
        """W, the mean distance of the k-th closest: records are also stored at every peer met within.

        None until the first estimate.  Lookups that found fewer than k nodes saw the whole network,
        so all of it is within W.
        """
        samples = self._recent(now)
        if len(samples) < SAMPLES_MIN:
            return None
        everything = (1 << ID_BITS) - 1
        kth = [sample[-1] if len(sample) == self._k else everything for sample in samples]
        return sum(kth) // len(kth)

    def _recent(self, now: float) -> list[tuple[int, ...]]:
        while self._samples and self._samples[0][0] < now - WINDOW_S:
            self._samples.popleft()
        while self._left_out and self._left_out[0] < now - WINDOW_S:
            self._left_out.popleft()
        return [distances for _, distances in self._samples]


def _fit(views: Sequence[tuple[int, ...]]) -> tuple[float, float, float]:
    """(N, low, high) of the samples.  The slope is linear in the distances: its error is theirs."""
    scale = float(1 << ID_BITS)
    ranks = range(1, max(map(len, views)) + 1)
    columns = {i: [v[i - 1] / scale for v in views if len(v) >= i] for i in ranks}
    spread = {i: pstdev(columns[i]) if len(columns[i]) > 1 else 0.0 for i in ranks}
    weights = spread if any(spread.values()) else dict.fromkeys(ranks, 1.0)
    slope = _slope({i: fmean(columns[i]) for i in ranks}, weights)
    single = [_slope({i: d / scale for i, d in enumerate(view, 1)}, weights) for view in views]
    error = _t95(len(single) - 1) * stdev(single) / sqrt(len(single))
    return _size(slope), _size(slope + error), _size(slope - error)


def _slope(distances: dict[int, float], weights: dict[int, float]) -> float:
    norm = sum(weights[i] * i * i for i in distances)
    return sum(weights[i] * i * d for i, d in distances.items()) / norm if norm else 0.0


def _size(slope: float) -> float:
    return max(1.0, 1 / slope - 1) if slope > 0 else inf


def _t95(freedom: int) -> float:
    """Student's t at 97.5 %, within 2 % from 4 degrees of freedom on."""
    return 1.96 * (1 + 1.6 / freedom) if freedom > 0 else inf
