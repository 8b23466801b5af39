"""How long to wait for whom: smoothed round trips per peer (RFC 6298), so that dead peers cost little."""

from __future__ import annotations

from collections import OrderedDict

FLOOR_S = 0.25
"""Never less: a busy peer on a fast network is slow to compute, not dead."""
KEPT = 8192


class RoundTrips:
    """Smoothed RTT and variance per peer; bounded, least recently measured goes first."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._known: OrderedDict[bytes, tuple[float, float]] = OrderedDict()

    def measured(self, node_id: bytes, rtt_s: float) -> None:
        """A request took this long (seconds)."""
        known = self._known.pop(node_id, None)
        if known is None:
            smooth, spread = rtt_s, rtt_s / 2
        else:
            smooth, spread = known
            spread = 0.75 * spread + 0.25 * abs(smooth - rtt_s)
            smooth = 0.875 * smooth + 0.125 * rtt_s
        self._known[node_id] = (smooth, spread)
        if len(self._known) > KEPT:
            self._known.popitem(last=False)

    def rtt(self, node_id: bytes) -> float | None:
        """Smoothed round trip in seconds, None where never measured."""
        known = self._known.get(node_id)
        return known[0] if known else None

    def timeout(self, node_id: bytes) -> float:
        """When to give up on an answer: twice what RFC 6298 asks, since an answer is also computed."""
        known = self._known.get(node_id)
        if known is None:
            return self._most_s
        smooth, spread = known
        return min(self._most_s, max(4 * FLOOR_S, 2 * (smooth + 4 * spread)))

    def hedge(self, node_id: bytes) -> float:
        """When to ask somebody else in addition."""
        known = self._known.get(node_id)
        if known is None:
            return 2 * FLOOR_S
        smooth, spread = known
        return max(FLOOR_S / 2, smooth + 4 * spread)
