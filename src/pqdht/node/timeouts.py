"""How long to wait for whom: smoothed round trips (RFC 6298), so that dead peers cost little.

Three waits, from short to long.  *Hedge*: an answer is later than usual, so somebody else is asked as
well.  *Patience*: a lookup that has heard of k others ends without it, though a late answer still counts.
*Timeout*: the question or the dial itself is given up, which speaks against the peer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

FLOOR_S = 0.25
"""Never give up earlier: a busy peer on a fast network is slow to compute, not dead; and TCP repeats a
lost segment after 0.2 s and a round trip."""
HEDGE_FLOOR_S = 0.025
"""Least slack before somebody else is asked (G of RFC 6298): asking in vain costs one question."""
SYN_AGAIN_S = 1.0
"""A SYN without an answer is repeated after this (RFC 6298, 2.1): a dial outlives one lost packet."""
DIAL_TRIPS = 3
"""Round trips to the answer of a peer without a session: connect, and pqXX with the question in its second
flight (pqIK: one less)."""
KEPT = 8192

DEAD_FIRST_S = 10.0
DEAD_MOST_S = 600.0


class RoundTrips:
    """Smoothed RTT and variance per peer, and over all; bounded, least recently measured goes first."""

    def __init__(self, most_s: float) -> None:
        self._most_s = most_s
        self._known: OrderedDict[bytes, tuple[float, float]] = OrderedDict()
        self._usual: tuple[float, float] | None = None
        """Over all peers: what to expect of one never measured."""

    def measured(self, node_id: bytes, rtt_s: float) -> None:
        """A request took this long (seconds)."""
        self._known[node_id] = _smoothed(self._known.pop(node_id, None), rtt_s)
        self._usual = _smoothed(self._usual, rtt_s)
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

    def hedge(self, node_id: bytes, trips: int = 1) -> float:
        """When to ask somebody else in addition; the answer takes `trips` round trips."""
        known = self._known.get(node_id) or self._usual
        if known is None:
            return 2 * FLOOR_S
        smooth, spread = known
        return min(self._most_s, trips * smooth + max(HEDGE_FLOOR_S, 4 * spread))

    def patience(self, node_id: bytes, trips: int = 1) -> float:
        """When a lookup that has enough answers ends without this one."""
        if node_id not in self._known and self._usual is None:
            return self._most_s
        hedge = self.hedge(node_id, trips)
        return min(self._most_s, max(2 * hedge, hedge + FLOOR_S))

    def dial_timeout(self, most_s: float) -> float:
        """When to give up on connecting to an address: one repeated SYN after the first."""
        if self._usual is None:
            return most_s
        smooth, spread = self._usual
        return min(most_s, SYN_AGAIN_S + 2 * smooth + max(FLOOR_S, 4 * spread))


def _smoothed(before: tuple[float, float] | None, rtt_s: float) -> tuple[float, float]:
    """(smoothed RTT, variation) with one more sample: RFC 6298, 2.2 and 2.3."""
    if before is None:
        return rtt_s, rtt_s / 2
    smooth, spread = before
    return 0.875 * smooth + 0.125 * rtt_s, 0.75 * spread + 0.25 * abs(smooth - rtt_s)


class Silent:
    """Who did not answer a dial, by our own experience: not dialled again for a while, twice as long each
    time.  Bounded; the oldest goes first.  Times are the event loop's seconds."""

    def __init__(self) -> None:
        self._until: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """whom -> (not before, the pause that led there)"""

    def failed(self, whom: Hashable, now: float) -> None:
        """A dial failed."""
        _, pause = self._until.pop(whom, (0.0, DEAD_FIRST_S / 2))
        pause = min(DEAD_MOST_S, 2 * pause)
        self._until[whom] = (now + pause, pause)
        if len(self._until) > KEPT:
            self._until.popitem(last=False)

    def answered(self, whom: Hashable) -> None:
        """It did answer: nothing is held against it."""
        self._until.pop(whom, None)

    def wait(self, whom: Hashable, now: float) -> float:
        """Seconds until it may be dialled; 0.0: now."""
        until, _ = self._until.get(whom, (0.0, 0.0))
        return max(0.0, until - now)
