"""What is believed of one node, and by how much each deed moves it (section 7).

What a node is believed to be is a Beta distribution over its checked answers (Jøsang and Ismail 2002),
with two kinds of forgetting.  Each new answer takes its share from the old ones, so that the weight of
the past is bounded and no history, however long, protects a node that turns; and time takes all of it,
so that the idle go back to neutral.

What costs nothing to give hardly counts: being alive moves only the prior, praise of others adds at most
`PRAISE_LIFT` and only in proportion to what own experience says.  So all that a node and its friends can
do without giving us valid data ends at 0.6.

Pure: `now` is seconds of the wall clock, as scores outlive restarts.  A clock that goes back stops the
forgetting for one call and then goes on from there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

HOUR_S = 3600.0
DAY_S = 24 * HOUR_S

NEUTRAL = 0.5
"""Score of the unknown."""
PRIOR_WEIGHT = 2.0
"""Checked answers that the prior counts as (Beta(1, 1)).  Larger: scores move more slowly at first."""
DATA_WEIGHT = 20.0
"""Most that all checked answers of a node count as together.  Larger: a steadier score, and a sleeper that
falls more slowly; with 20 and `INVALID_COST` 2 it is below 0.2 after 20 bad answers."""
INVALID_COST = 2.0
"""Valid answers that one invalid answer outweighs.  Larger: a node that lies now and then sinks deeper, and
so does an honest one behind a bad disk."""
DATA_HALF_LIFE_S = 3 * DAY_S
"""Half of what checked answers said is forgotten.  Longer: waiting does not clear a bad node; shorter: a node
that changed hands or was mended is seen for what it is now."""
LIVE_WEIGHT = 8.0
"""Most that answered and unanswered questions count as.  Larger: one outage is felt for longer."""
LIVE_HALF_LIFE_S = HOUR_S / 2
"""Half of liveness is forgotten: with it an outage is over an hour after its end, whatever its length.
Longer: flapping nodes stay behind for longer, and so do honest ones after an outage."""
LIVE_LIFT = 0.1
"""Most that liveness adds to the prior: it costs nothing, so it should not look like honesty."""
SILENT_CUT = 0.4
"""Share of the score that a wholly silent node loses.  Not more, as silence is mostly no fault of the node
(a failed network, perhaps ours): the unknown stay above 0.3, and a good node above a bad one."""
PRAISE_LIFT = 0.05
"""Most that the reports of all others add.  More would let friends vote each other up."""
PRAISE_HALF = 3.0
"""Praise that earns half of `PRAISE_LIFT`."""
PRAISE_WEIGHT = 16.0
"""Most that praise counts as."""
FAULT_HALF_LIFE_S = 30 * DAY_S
"""A fault that was proven is forgotten by half in this time (section 7)."""
FAULT_COST = 10.0
"""Invalid weight of one proven fault: beyond doubt, which an invalid answer is not (it may be damage)."""
FAULT_WEIGHT = 4.0
"""Most that proven faults count as: each doubling is 30 days more under `FAULT_CAP`."""
FAULT_LASTS = 0.25
"""A fault lasts while at least this much of it is remembered: 60 days for one.  Smaller: for longer."""
FAULT_CAP = 0.5
"""Score that nobody exceeds while a fault lasts."""
CONFIDENCE = 1.0
"""Standard deviations that the rank lies below the mean.  Larger: more valid answers until a newcomer's rank
is that of an old node."""
REFERRAL_PRIOR = 4.0
"""Reachable referrals assumed at first: churn makes every honest node name a dead one now and then."""
REFERRAL_WEIGHT = 32.0
"""Most that referrals count as; `DATA_WEIGHT` for the quality of what a node names."""
REFERRAL_HALF_LIFE_S = DAY_S
"""Half of what referrals said is forgotten."""
NEWCOMER_RANK = NEUTRAL - CONFIDENCE * math.sqrt(NEUTRAL * (1 - NEUTRAL) / (PRIOR_WEIGHT + 1))
"""Rank of the unknown: below all who gave more good than bad, above all who did not."""


class Deed(Enum):
    """What a node did."""

    ANSWERED = "answered"
    """It is alive: it answered a ping or question."""
    VALID = "valid"
    """It gave data that was checked and is valid (a sign of life too)."""
    FAILED = "failed"
    """It did not answer."""
    INVALID = "invalid"
    """It gave data that was checked and is not valid."""
    PROVEN = "proven"
    """A fault of it was proven from evidence, recomputed here."""
    PRAISED = "praised"
    """Another node reported well of it."""


@dataclass(slots=True)
class Belief:
    """What is remembered of one node: weights as of `at`."""

    valid: float = 0.0
    invalid: float = 0.0
    alive: float = 0.0
    silent: float = 0.0
    praise: float = 0.0
    fault: float = 0.0
    reached: float = 0.0
    missed: float = 0.0
    at: float = 0.0

    def aged(self, now: float) -> Belief:
        """The same as of `now`."""
        if now <= self.at:
            self.at = now  # the clock went back: what comes is forgotten at the usual pace
            return self
        idle = now - self.at
        data, live = 0.5 ** (idle / DATA_HALF_LIFE_S), 0.5 ** (idle / LIVE_HALF_LIFE_S)
        referral = 0.5 ** (idle / REFERRAL_HALF_LIFE_S)
        return Belief(
            valid=self.valid * data,
            invalid=self.invalid * data,
            alive=self.alive * live,
            silent=self.silent * live,
            praise=self.praise * data,
            fault=self.fault * 0.5 ** (idle / FAULT_HALF_LIFE_S) if self.fault else 0.0,
            reached=self.reached * referral,
            missed=self.missed * referral,
            at=now,
        )

    def tell(self, deed: Deed, weight: float) -> None:
        """Count one deed."""
        if deed is Deed.VALID:
            self.valid, self.invalid = share(self.valid, self.invalid, weight, DATA_WEIGHT)
        elif deed is Deed.INVALID:
            cost = weight * INVALID_COST
            self.invalid, self.valid = share(self.invalid, self.valid, cost, DATA_WEIGHT)
        if deed in (Deed.VALID, Deed.ANSWERED):
            self.alive, self.silent = share(self.alive, self.silent, weight, LIVE_WEIGHT)
        elif deed is Deed.FAILED:
            self.silent, self.alive = share(self.silent, self.alive, weight, LIVE_WEIGHT)
        elif deed is Deed.PROVEN:
            self.fault = min(self.fault + weight, FAULT_WEIGHT)
        elif deed is Deed.PRAISED:
            self.praise = min(self.praise + weight, PRAISE_WEIGHT)

    @property
    def is_faulty(self) -> bool:
        """Whether a proven fault lasts."""
        return self.fault >= FAULT_LASTS

    @property
    def is_bad(self) -> bool:
        """Whether there is more against this node than for it."""
        return self.is_faulty or self.invalid > self.valid

    @property
    def told(self) -> float:
        """How much is known: what forgetting it would lose."""
        data = self.valid + self.invalid + FAULT_COST * self.fault
        return data + (self.alive + self.silent + self.reached + self.missed) / 8

    def beta(self) -> tuple[float, float]:
        """(mean, weight) of the belief, before silence, praise and the cap."""
        lift = LIVE_LIFT * self.alive / (self.alive + self.silent + 2.0)
        good = self.valid + PRIOR_WEIGHT * (NEUTRAL + lift)
        weight = self.valid + self.invalid + FAULT_COST * self.fault + PRIOR_WEIGHT
        return good / weight, weight

    def score(self) -> float:
        """The mean, less silence, more praise, under the cap of a fault."""
        mean, weight = self.beta()
        earned = max(0.0, 2 * (self.valid + PRIOR_WEIGHT * NEUTRAL) / weight - 1)
        praise = PRAISE_LIFT * self.praise / (self.praise + PRAISE_HALF)
        score = min(1.0, mean + praise * earned) * self.heard()
        return min(score, FAULT_CAP) if self.is_faulty else score

    def heard(self) -> float:
        """What silence leaves of the score."""
        return 1 - SILENT_CUT * self.silent / (self.alive + self.silent + 2.0)

    def rank(self) -> float:
        """Lower confidence bound; see `Reputation.rank`."""
        mean, weight = self.beta()
        bound = mean - CONFIDENCE * math.sqrt(mean * (1 - mean) / (weight + 1))
        bound = max(0.0, bound) * self.heard()
        score = self.score()
        if score < NEUTRAL or self.is_faulty:
            # Much is known of a bad node, so that its bound alone could lie above a newcomer's.
            bound = min(bound, NEWCOMER_RANK * score / NEUTRAL)
            return bound / (1 + self.fault) if self.is_faulty else bound
        return max(bound, NEWCOMER_RANK)  # by the rules above it is, but for rounding


def share(mine: float, other: float, weight: float, most: float) -> tuple[float, float]:
    """Add `weight` to `mine` of two that forget together: their sum stays at most `most`."""
    kept = (1 - 1 / most) ** weight
    return mine * kept + most * (1 - kept), other * kept


def weights_of(record: Belief) -> tuple[float, float, float, float, float, float, float, float]:
    r = record
    return r.valid, r.invalid, r.alive, r.silent, r.praise, r.fault, r.reached, r.missed


def shrink(record: Belief) -> None:
    """Hold loaded weights to the bounds: a file, or a version with other constants, cannot exceed them."""
    for names, most in (
        (("valid", "invalid"), DATA_WEIGHT),
        (("alive", "silent"), LIVE_WEIGHT),
        (("praise",), PRAISE_WEIGHT),
        (("fault",), FAULT_WEIGHT),
        (("reached", "missed"), REFERRAL_WEIGHT),
    ):
        total = sum(getattr(record, name) for name in names)
        if total > most:
            for name in names:
                setattr(record, name, getattr(record, name) * most / total)
