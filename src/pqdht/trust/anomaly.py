"""What looks odd without being proof: one small detector each, with its threshold (section 7).

A detector takes one observation and gives a finding, the figures that made it one, or None.  It never
blames by itself: by default a finding is logged (`observe`), and enforced it lowers a node's rank and no
more, since each of these can befall an honest node, or be brought about by another.

Response times and clock offsets are held against those of all peers by a robust z-score (Iglewicz and
Hoaglin 1993): 0.6745 (x - median) / MAD, which a minority of liars moves little.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import log
from statistics import median

from ..ids import ID_BITS, distance

Figures = dict[str, float]
"""The facts of a finding, by name."""

SAMPLES = 256
"""Observations that say what is usual."""
SAMPLES_MIN = 32
"""Fewer say nothing."""
REFRESH = 16
"""Observations between two looks at what is usual: the median of 256 costs as much as a signature check."""


class _Usual:
    """Median and MAD of the last observations, over all peers, recomputed now and then."""

    def __init__(self) -> None:
        self._kept: deque[float] = deque(maxlen=SAMPLES)
        self._since = 0
        self.middle = 0.0
        self.spread = 0.0

    @property
    def is_known(self) -> bool:
        return len(self._kept) >= SAMPLES_MIN

    def add(self, x: float) -> None:
        self._kept.append(x)
        self._since += 1
        if self._since >= REFRESH:
            self._since = 0
            self.middle = median(self._kept)
            self.spread = median(abs(k - self.middle) for k in self._kept)

    def z(self, x: float, least_spread: float) -> float:
        """The robust z-score; `least_spread` keeps peers that are all alike from making a trifle odd."""
        return 0.6745 * (x - self.middle) / max(self.spread, least_spread)


class ResponseTimes:
    """`response_time`: an answer far slower than those of others, in the logarithm."""

    Z_MOST = 6.0
    """Lower finds more slow peers and more that are only far away."""
    SLOW_S = 0.25
    """Nobody is slow who answers within this."""

    def __init__(self, z_most: float = Z_MOST) -> None:
        self._usual = _Usual()
        self._z_most = z_most

    def observe(self, rtt_s: float) -> Figures | None:
        """One answer's round trip, seconds."""
        x = log(max(rtt_s, 1e-6))
        found: Figures | None = None
        if rtt_s > self.SLOW_S and self._usual.is_known:
            z = self._usual.z(x, 0.1)
            found = {"rtt_s": round(rtt_s, 3), "z": round(z, 1)} if z > self._z_most else None
        self._usual.add(x)
        return found


class Clocks:
    """`clocks`: a peer whose clock is far from what most peers' say, whoever is right."""

    Z_MOST = 6.0
    OFF_MS = 60_000.0
    """Less than this is nobody's concern: messages and records allow minutes."""

    def __init__(self, z_most: float = Z_MOST) -> None:
        self._usual = _Usual()
        self._z_most = z_most

    def observe(self, offset_ms: float) -> Figures | None:
        """`offset_ms`: the peer's clock less ours."""
        found: Figures | None = None
        if self._usual.is_known and abs(offset_ms - self._usual.middle) > self.OFF_MS:
            z = self._usual.z(offset_ms, 1_000.0)
            if abs(z) > self._z_most:
                found = {"offset_ms": offset_ms, "usual_ms": self._usual.middle, "z": round(z, 1)}
        self._usual.add(offset_ms)
        return found

    @property
    def own_offset_ms(self) -> float:
        """How far most peers' clocks are ahead of ours: if that is minutes, it is ours that is wrong."""
        return self._usual.middle if self._usual.is_known else 0.0


class Referrals:
    """`referrals`: most of what a peer named lately could not be reached."""

    LEAST = 10
    SHARE = 0.5
    """Churn alone makes a fifth or so of honest referrals fail."""
    WINDOW = 20

    def __init__(self, capacity: int = 4096, share: float = SHARE) -> None:
        self._share = share
        self._lately: OrderedDict[bytes, deque[bool]] = OrderedDict()
        self._capacity = capacity

    def observe(self, referrer: bytes, *, ok: bool) -> Figures | None:
        """One contact it named was dialled."""
        lately = self._lately.setdefault(referrer, deque(maxlen=self.WINDOW))
        self._lately.move_to_end(referrer)
        if len(self._lately) > self._capacity:
            self._lately.popitem(last=False)
        lately.append(ok)
        failed = lately.count(False)
        if ok or len(lately) < self.LEAST or failed < self._share * len(lately):
            return None
        lately.clear()  # told once, and then only after as many again
        return {"failed": failed}


class CloserAnswers:
    """`closer_answers`: a contact nearer to the target than chance allows in a network of this size.

    The nearest of N ids is nearer than d (normalised) with probability about N d.
    """

    CHANCE = 1e-4

    def __init__(self, chance: float = CHANCE) -> None:
        self._chance = chance

    def observe(self, target: bytes, named: Iterable[bytes], size: float | None) -> Figures | None:
        """`named`: node ids in one answer; `size`: the network's, as estimated (None: not known)."""
        nearest = min((distance(node, target) for node in named if node != target), default=None)
        if nearest is None or size is None:
            return None
        chance = size * nearest / (1 << ID_BITS)
        return {"chance": chance, "nodes": size} if chance < self._chance else None


@dataclass(slots=True)
class EqualAnswers:
    """`equal_answers`: many nodes give the very same contacts, in one lookup."""

    NODES = 4
    """So many equal answers ..."""
    CONTACTS = 5
    """... of at least so many contacts: short ones are often equal."""

    nodes: float = NODES
    seen: Counter[tuple[bytes, ...]] = field(default_factory=Counter)

    def observe(self, named: Sequence[bytes]) -> Figures | None:
        """`named`: node ids in one answer."""
        if len(named) < self.CONTACTS:
            return None
        answer = tuple(sorted(named))
        self.seen[answer] += 1
        count = self.seen[answer]
        return {"answers": count, "contacts": len(named)} if count >= self.nodes else None
