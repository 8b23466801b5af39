"""Whether somebody placed ids around a key: the test of Sridhar et al. ("Content Censorship in the
InterPlanetary File System", NDSS 2024) and three smaller signs (section 7).

Honest ids are uniform, so how many leading bits the k closest to a key share with it follows from the
size N of the network alone.  The i-th closest of N shares at most x bits with probability
F_i(x) = P[Bin(N, 2^-(x+1)) <= i - 1]; the mean over i = 1..k is the model

    q_x = (1/k) sum_i (F_i(x) - F_i(x - 1)),    F_i(-1) = 0

and the test is the Kullback-Leibler divergence of what was found, c_x of the k with x bits, from it:
D = sum over c_x > 0 of (c_x/k) ln((c_x/k) / q_x).  An alarm proves nothing and accuses nobody: it is
answered by asking more nodes (`region_cpl`).
"""

from __future__ import annotations

import itertools
import random
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, exp, log, log1p, log2

from ..ids import ID_BITS, id_in_bucket

REGION_NODES = 20
"""On alarm the prefix is taken within which at least so many honest nodes are expected."""
IDS_MIN = 4
"""Of fewer ids nothing can be said."""
MODELS_KEPT = 64
SIZE_STEPS = 16
"""Models are shared by sizes within 2^(1/16), 4 %: a sixteenth of a bit moves D by less than 0.01."""
RARE = 1e-12
"""No q_x is taken to be smaller, so that one id more than could ever be shifts D by a bounded amount."""

_THRESHOLDS = (
    *(2.74, 2.40, 2.18, 1.99, 1.80, 1.64, 1.55, 1.46),  # k = 4..11
    *(1.35, 1.28, 1.23, 1.15, 1.12, 1.06, 1.03, 0.96, 0.94),  # k = 12..20
)
"""threshold(k).  0.94 for k = 20 is the published one; of honest keys 0.37 % lie above it where N is known
(0.74 % where it is 10 % off).  The others are where the same share of 30,000 simulated keys of networks of
256 to 4,096 lies above: the fewer the ids, the wider D is spread."""

ALPHA = 1e-4
"""How rarely one of the smaller signs may be seen by chance."""
FRESH_DAYS = 2
"""An id born so lately is fresh: an attack on a key is made after the key is known."""


def threshold(k: int) -> float:
    """Alarm above this D of `k` ids.  Raises ValueError for fewer than 4."""
    if k < IDS_MIN:
        raise ValueError(f"no Sybil test for {k} ids, at least {IDS_MIN}")
    return _THRESHOLDS[min(k - IDS_MIN, len(_THRESHOLDS) - 1)]


def model(n: int, k: int) -> list[float]:
    """q_x for x = 0..256: the share of the `k` closest of `n` uniform ids that has x bits in common.

    k q_x is E[min(X_x, k)] - E[min(X_x+1, k)] with X_x ~ Bin(n, 2^-x), which is the sum above with its
    terms taken together.  Raises ValueError unless 1 <= k <= n.
    """
    if not 1 <= k <= n:
        raise ValueError(f"no {k} closest of {n}")
    found = [_expected(n, 2.0**-x, k) for x in range(ID_BITS + 1)]
    q = []
    for (here, lacking), (deeper, lacking_deeper) in itertools.pairwise(found):
        # Both are the same number; the smaller operands lose fewer digits.
        q.append((lacking_deeper - lacking if here > k / 2 else here - deeper) / k)
    return [*q, found[-1][0] / k]


def _expected(n: int, p: float, k: int) -> tuple[float, float]:
    """(E[min(X, k)], k - E[min(X, k)]) of X ~ Bin(n, p), each summed by itself."""
    if p == 1.0:
        return float(k), 0.0
    if n * p < 1e-9:
        return n * p, k - n * p
    chance = exp(n * log1p(-p))  # of exactly j; 0.0 where a smaller number than floats have
    held, lacking = 0.0, 0.0
    for j in range(k):
        held += j * chance
        lacking += (k - j) * chance
        chance *= (n - j) / (j + 1) * p / (1 - p)
    for j in range(k, 4 * k):  # k or more; all of it where few are expected
        if chance < 1e-18 or n * p > k / 2:
            break
        held += k * chance
        chance *= (n - j) / (j + 1) * p / (1 - p)
    return (held if n * p <= k / 2 else k - lacking), lacking


def divergence(counts: Mapping[int, int], n: int, k: int) -> float:
    """D of c_x = counts[x], whose sum is `k`, in a network of `n`."""
    return _divergence(counts, model(n, k), k)


def _divergence(counts: Mapping[int, int], q: Sequence[float], k: int) -> float:
    return sum(c / k * log(c / k / max(q[x], RARE)) for x, c in counts.items() if c)


def region_cpl(n: float) -> int:
    """minCPL: how many leading bits the nodes share with a key that are asked on alarm.

    max(0, ceil(log2(n / 20)) - 1): 20 to 40 honest nodes are expected there.
    """
    return max(0, ceil(log2(max(1.0, n) / REGION_NODES)) - 1)


def region_targets(key: bytes, cpl: int, n: float, dice: random.Random) -> list[bytes]:
    """Where to look for the nodes that share `cpl` bits with a key in a network of `n`: about 7 ids.

    Its closest nodes name the Sybils when they are asked about the key itself.  Asked about an id in the
    half of the region that the key does not lie in, they name that half, and so on inwards until one expects
    nobody but those placed there.  The outermost half has 10 to 20 honest nodes: two ids.
    """
    targets = [id_in_bucket(key, cpl, dice.randbytes(32))]
    other_half = int.from_bytes(targets[0], "big") ^ 1 << (ID_BITS - 2 - cpl)
    targets.append(other_half.to_bytes(len(key), "big"))
    while n / 2 ** (cpl + 2) >= 0.5:
        cpl += 1
        targets.append(id_in_bucket(key, cpl, dice.randbytes(32)))
    return targets


@dataclass(frozen=True, slots=True)
class SybilFinding:
    """The ids around a key do not look like chance."""

    divergence: float
    """D"""
    threshold: float
    network_size: float
    """N, as estimated when the test was made."""
    counts: dict[int, int]
    """Common prefix length -> how many of the ids tested."""
    cpls: tuple[int, ...]
    """The same one by one, in the order of the ids tested."""
    ids: tuple[bytes, ...] = field(repr=False)
    region_cpl: int
    """What to ask now: every node that shares at least so many bits with the key."""


class SybilTest:
    """The test with its models kept.  `k` ids are tested at most, fewer where fewer are known; `at`
    overrides `threshold(k)`."""

    def __init__(self, k: int, at: float | None = None) -> None:
        self.k = k
        self._at = at
        self._models: OrderedDict[tuple[int, int], list[float]] = OrderedDict()

    def check(self, target: bytes, ids: Iterable[bytes], n: float) -> SybilFinding | None:
        """Test the closest ids known to be live (closest first) against a network of `n` nodes."""
        tested = tuple(ids)[: self.k]
        k = len(tested)
        if k < IDS_MIN:
            return None
        goal = int.from_bytes(target, "big")
        cpls = tuple([ID_BITS - (int.from_bytes(i, "big") ^ goal).bit_length() for i in tested])
        counts = Counter(cpls)
        limit = threshold(k) if self._at is None else self._at
        found = _divergence(counts, self._model(n, k), k)
        if found <= limit:
            return None
        return SybilFinding(found, limit, n, dict(sorted(counts.items())), cpls, tested, region_cpl(n))

    def _model(self, n: float, k: int) -> list[float]:
        size = round(SIZE_STEPS * log2(max(n, k)))
        kept = self._models.get((size, k))
        if kept is None:
            kept = self._models[size, k] = model(max(k, round(2 ** (size / SIZE_STEPS))), k)
            if len(self._models) > MODELS_KEPT:
                self._models.popitem(last=False)
        return kept


# --- smaller signs: each counts who is conspicuous and compares with what was seen elsewhere -----


@dataclass(frozen=True, slots=True)
class Excess:
    """More of the k closest to a key are alike than chance gives."""

    name: str
    count: int
    of: int
    expected_share: float
    chance: float
    """Of so many or more, if each is so with `expected_share`."""
    alpha: float


def tail(of: int, share: float, count: int) -> float:
    """P[Bin(of, share) >= count]."""
    if count <= 0:
        return 1.0
    if share >= 1.0:
        return 1.0 if count <= of else 0.0
    chance, total = (1 - share) ** of, 0.0
    for j in range(of + 1):
        if j >= count:
            total += chance
        chance *= (of - j) / (j + 1) * share / (1 - share)
    return min(1.0, total)


def _excess(name: str, count: int, of: int, share: float, alpha: float) -> Excess | None:
    chance = tail(of, share, count)
    return Excess(name, count, of, share, chance, alpha) if chance < alpha else None


def crowded_prefix(
    labels: Sequence[str], elsewhere: Mapping[str, int], alpha: float = ALPHA
) -> Excess | None:
    """One address group (or wide group) among the closest against its share of our table.

    `elsewhere`: label -> peers of the table.  Unseen labels count as one peer; labels "" (no address
    known) are left out.  `alpha` is shared by the labels tried.
    """
    known = Counter(label for label in labels if label)
    if not known:
        return None
    label, count = known.most_common(1)[0]
    seen = sum(elsewhere.values())
    share = (elsewhere.get(label, 0) + 1) / (seen + 2)
    of = known.total()
    return _excess("crowded_prefix", count, of, share, alpha / len(known)) if count > 1 else None


def fresh_ids(born: Sequence[int], today: int, elsewhere: float, alpha: float = ALPHA) -> Excess | None:
    """Ids born within 2 days among the closest (day numbers) against their share elsewhere (0..1)."""
    fresh = sum(day > today - FRESH_DAYS for day in born)
    return _excess("fresh_ids", fresh, len(born), elsewhere, alpha)


def low_stake(bits: Sequence[int], asked: int, elsewhere: float, alpha: float = ALPHA) -> Excess | None:
    """Ids whose puzzle is no harder than `asked` bits against their share elsewhere (0..1): an honest
    node that searches on has bits to spare, ids ground for a place are made as cheaply as can be."""
    least = sum(b <= asked for b in bits)
    return _excess("low_stake", least, len(bits), elsewhere, alpha)
