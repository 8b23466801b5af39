"""Are we being shown another network?  Two lookups of one target, begun in different places (section 7).

An eclipsed node's table holds the attacker's nodes, so its lookups find what the attacker names.  Lookups
begun from nodes outside the table end at the same nodes as ours, but for churn, if the table is sound; if
they differ again and again, one of the two views is made up.  Which of them cannot be told from this alone,
so what follows is doubt (more is asked, from both sides), not blame.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from statistics import median

from .anomaly import Figures

OVERLAP = 0.5
"""Least share of the nodes found that both lookups should have in common.  Churn between two lookups takes a
few per cent."""
LATEST = 5
"""Comparisons that count: ..."""
ENOUGH = 3
"""... one alone says little."""
FOUND_LEAST = 4
"""Nodes that the smaller view must have: less is no view."""


class WalkCheck:
    """`walk_check`: overlaps of the latest comparisons."""

    def __init__(self, overlap: float = OVERLAP) -> None:
        self._least = overlap
        self._overlaps: deque[float] = deque(maxlen=LATEST)

    def observe(self, ours: Collection[bytes], theirs: Collection[bytes]) -> Figures | None:
        """The closest nodes of both lookups; figures where they differ systematically."""
        smaller = min(len(ours), len(theirs))
        if smaller < FOUND_LEAST:
            return None
        common = len(dict.fromkeys(ours).keys() & dict.fromkeys(theirs).keys())
        self._overlaps.append(common / smaller)
        middle = median(self._overlaps)
        if len(self._overlaps) < ENOUGH or middle >= self._least:
            return None
        return {"overlap": round(middle, 2), "lookups": len(self._overlaps), "found": smaller}


def disagreement(views: Mapping[str, Collection[bytes]]) -> Figures | None:
    """Of what several bootstrap entries name near us: how many have nobody in common with any other.

    Honest ones name the same neighbours, but for churn.  One that differs from all others shows another
    network, or the others do.
    """
    usable = [frozenset(view) for view in views.values() if len(view) >= FOUND_LEAST]
    apart = sum(all(not view & other for other in usable if other is not view) for view in usable)
    return {"entries": len(usable), "apart": apart} if len(usable) > 1 and apart else None
