"""Table squatters for a week, with the table's code alone: what share of one node's table they come to hold.

Kademlia keeps whoever answers, so who never leaves wins every place that an honest node leaves.  Honest
sessions last as measured (Stutzbach and Rejaie, IMC 2006): Weibull of shape 0.5, median 40 minutes; who comes
next has a new id.  A share of the candidates are squatters, who never leave.  Honest candidates are met when
their session begins: newcomers make themselves known, who has been there for long is in the table already.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from ...constants import DAY_S
from ...ids import id_in_bucket
from ...kad.table import Table

SHAPE = 0.5
MEDIAN_S = 40 * 60.0
HOUR_S = 3600
FAILURES = 3
"""Questions unanswered in a row, after which a node is out."""


@dataclass(frozen=True, slots=True)
class Week:
    """One run: sizes in nodes, times in seconds."""

    share: float = 0.1
    """Squatters among the candidates."""
    redraw: Literal["enforce", "observe", "off"] = "enforce"
    nodes: int = 10_000
    """Up at any time: how many squatters there are, and how many buckets can be full."""
    k: int = 20
    days: int = 7
    step_s: int = 600
    met: int = 2
    """Candidates met in each bucket in one step."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Outcome:
    """`share` of the table outside the own neighbourhood, where tenure and draw decide, at the end of each
    day; `would_redraw` places that draws would have given away where they are only observed."""

    share: tuple[float, ...]
    would_redraw: int


def squat(week: Week) -> Outcome:
    """The squatters' part in the table of one node."""
    dice = random.Random(f"squat {week.seed} {week.share}")
    own = dice.randbytes(32)
    scale = MEDIAN_S / math.log(2) ** (1 / SHAPE)
    depth = int(math.log2(week.nodes / week.k))  # deeper buckets hold fewer than k nodes
    squatters = [
        [id_in_bucket(own, cpl, dice.randbytes(32)) for _ in range(round(week.nodes * week.share) >> cpl + 1)]
        for cpl in range(depth)
    ]
    until: dict[bytes, float] = {node_id: math.inf for bucket in squatters for node_id in bucket}
    table: Table[None] = Table(
        own,
        week.k,
        per_bucket=2,
        per_table=10,
        per_wide=20,
        group_limits=False,  # each has a group of its own: what is looked at is time, not addresses
        dice=dice,
        candidate_age_s=2 * HOUR_S,
    )
    share: list[float] = []
    would = 0
    for now in range(week.step_s, week.days * DAY_S + 1, week.step_s):
        for cpl, bucket in enumerate(squatters):
            for _ in range(week.met):
                if bucket and dice.random() < week.share:
                    node_id = dice.choice(bucket)
                else:
                    node_id = id_in_bucket(own, cpl, dice.randbytes(32))
                    until[node_id] = now + dice.weibullvariate(scale, SHAPE)
                table.add(node_id, None, "", "", now)
        for entry in list(table):
            if until[entry.node_id] > now:
                table.heard(entry.node_id, now)
            else:
                for _ in range(FAILURES):
                    table.failed(entry.node_id, now)
        if now % HOUR_S == 0:
            if week.redraw == "enforce":
                table.redraw(now)
            elif week.redraw == "observe":
                would += table.drawn_anew(now)
        if now % DAY_S == 0:
            far = [e.node_id for e in table if not table.is_neighbour(e.node_id)]
            share.append(sum(until[n] == math.inf for n in far) / max(1, len(far)))
    return Outcome(tuple(share), would)
