"""A network of tables in which a share of the nodes collude, others have died unnoticed, and tables may be
poisoned: routing code alone (`kad.table`), no clocks, no bytes on a wire.

Churn is as measured (Stutzbach and Rejaie, IMC 2006): sessions are Weibull of shape 0.5, median 40 minutes;
who comes next has a new id.  The network is looked at in its steady state, at one moment: whoever is up has
the age that a stationary process gives it, and those who died lately are still in tables.  Colluders never
leave.  *Poisoned*: the half of each far bucket that goes by tenure is theirs, as it is after a week; the half
that is drawn, and the neighbourhood that is kept whole, hold them by their share.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pqdht.constants import MAX_KNOWN
from pqdht.ids import ID_BITS
from pqdht.kad.table import Entry, Table
from tests.unit.kad.network import StaticNetwork, Table_, random_id, true_closest

K = 20
SHAPE, MEDIAN_S = 0.5, 2400.0
SCALE_S = MEDIAN_S / math.log(2) ** (1 / SHAPE)
MEAN_S = SCALE_S * math.gamma(1 + 1 / SHAPE)
UNNOTICED_S = 720.0
"""A peer is probed after 9 minutes of silence and out after 3 failures, a minute apart."""


@dataclass(frozen=True, slots=True)
class Life:
    """From when to when a node is up, in seconds from now."""

    born: float
    dies: float

    @property
    def is_up(self) -> bool:
        return self.dies > 0

    def was_up(self, at: float) -> bool:
        return self.born <= at < self.dies


FOREVER = Life(-math.inf, math.inf)


def steady(nodes: int, dice: random.Random) -> list[Life]:
    """`nodes` that are up now, and those who died in the last `UNNOTICED_S`."""
    lives = []
    for _ in range(nodes):  # a moment finds long sessions more often than short ones
        length = SCALE_S * dice.gammavariate(1 + 1 / SHAPE, 1.0) ** (1 / SHAPE)
        age = length * dice.random()
        lives.append(Life(-age, length - age))
    for _ in range(round(nodes * UNNOTICED_S / MEAN_S)):
        died = -UNNOTICED_S * dice.random()
        lives.append(Life(died - dice.weibullvariate(SCALE_S, SHAPE), died))
    return lives


class Crowd(StaticNetwork):
    """`ids` of whom the first are `colluders`; `lives` of those who do not live for ever."""

    def __init__(
        self,
        ids: Sequence[bytes],
        colluders: Collection[bytes],
        lives: dict[bytes, Life],
        seed: int,
        *,
        poisoned: bool,
    ) -> None:
        super().__init__(ids, K, seed)
        self.colluders = dict.fromkeys(colluders)
        self._squatters = sorted(self.colluders) if poisoned else []
        self._lives = lives
        self._named: dict[bytes, list[bytes]] = {}

    def life(self, node: bytes) -> Life:
        return self._lives.get(node, FOREVER)

    @property
    def honest_up(self) -> list[bytes]:
        """In order of id."""
        return [n for n in self.nodes if n not in self.colluders and self.life(n).is_up]

    def named(self, target: bytes) -> list[bytes]:
        """The colluders closest to a target, as many as anybody may have heard of and k more."""
        if target not in self._named:
            self._named[target] = true_closest(list(self.colluders), target, K + MAX_KNOWN)
        return self._named[target]

    def contacts(self, node: bytes, target: bytes, known: Collection[bytes], asker: bytes) -> list[bytes]:
        """What an honest node answers to one who says what it `known` already."""
        found = self.table(node).closest(target, self.k + 1, exclude=known)
        return [e.node_id for e in found if e.node_id != asker][: self.k]

    def _fill(self, own: bytes) -> Table_:
        """What the rules of the table come to once it met everybody, put in place at once: the far buckets
        hold k of those it met, the 2k closest are all there.  (`Table.add` one by one takes twice as
        long, and ten times where tables are poisoned.)"""
        dice = random.Random(self._seed ^ int.from_bytes(own[:8], "big"))
        table: Table_ = Table(
            own, self.k, per_bucket=2, per_table=10, per_wide=20, group_limits=False, dice=dice
        )
        number = int.from_bytes(own, "big")
        for cpl in range(ID_BITS):
            sibling = number >> (ID_BITS - 1 - cpl) ^ 1
            first, end = self._range(sibling, cpl + 1)
            low, high = self._range(sibling ^ 1, cpl + 1)
            deeper = max(0, high - low - 1)
            close = max(0, 2 * self.k - deeper)
            met: list[bytes] = []
            if close:
                met = sorted(self.nodes[first:end], key=lambda n: int.from_bytes(n, "big") ^ number)[:close]
            else:
                met = self._tenants(sibling, cpl + 1, dice)
            drawn = dice.sample(range(first, end), min(end - first, 3 * self.k))
            self._enter(table, met, [self.nodes[i] for i in drawn], dice)
            if deeper == 0:
                break
        return table

    def _tenants(self, prefix: int, bits: int, dice: random.Random) -> list[bytes]:
        """Squatters who hold the places by tenure."""
        low = (prefix << (ID_BITS - bits)).to_bytes(ID_BITS // 8, "big")
        first = bisect_left(self._squatters, low)
        over = (prefix + 1) << (ID_BITS - bits)
        high = over.to_bytes(ID_BITS // 8 + 1, "big")
        end = len(self._squatters) if high[0] else bisect_left(self._squatters, high[1:])
        return [self._squatters[i] for i in dice.sample(range(first, end), min(self.k // 2, end - first))]

    def _enter(self, table: Table_, met: list[bytes], drawn: list[bytes], dice: random.Random) -> None:
        """All `met`, and of the `drawn` as many as leave k in the bucket: of both, those who were up when
        they would have been heard last."""
        entered: dict[bytes, float] = {}
        for ids, most in ((met, len(met)), (drawn, self.k)):
            for node in ids:
                heard = -UNNOTICED_S * dice.random()
                if len(entered) < most and node not in entered and self.life(node).was_up(heard):
                    entered[node] = heard
        for node, heard in entered.items():
            table._insert(Entry(node, 0, "", "", heard, heard))


def crowd(nodes: int, share: float, seed: int, *, churn: bool = False, poisoned: bool = False) -> Crowd:
    """`nodes` up, a `share` of them colluders.  The same seed gives the same ids whatever else is asked,
    and of a larger share the colluders are more, not others."""
    dice = random.Random(f"crowd {nodes} {seed}")
    ids = [random_id(dice) for _ in range(nodes)]
    colluders = ids[: round(nodes * share)]
    lives: dict[bytes, Life] = {}
    if churn:
        spans = steady(nodes - len(colluders), dice)
        ids += [random_id(dice) for _ in range(len(spans) + len(colluders) - nodes)]
        lives = dict(zip(ids[len(colluders) :], spans, strict=True))
    return Crowd(ids, colluders, lives, dice.getrandbits(32), poisoned=poisoned)
