"""Who may take how much of this node: token buckets, counts per group, dial caps (sections 3, 6, 7).

Each limiter keeps bounded state about subjects that others choose, so forgetting is part of the
defence.  Only a subject about which nothing is left to remember is ever forgotten (its bucket is
full again, its dials are over): crowding others out of the map never resets a bucket.  When the map
is full of subjects still to be remembered, newcomers share one more entry among themselves.  To
bring that about, an attacker must keep every entry busy: `capacity * rate` cost units a second for
a `CostLimiter`, which is far beyond what the node could serve in the first place.

What a request costs, in units of about one signature check, is the caller's table.  Times are
seconds of a clock that does not jump (the event loop's).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from .modes import Mode, Tally

Subject = str | bytes
"""An address group or a node id."""

_PROBES = 4
"""Old entries looked at per newcomer to a full map: constant work, and the map is swept in turn."""
_RETRY_S = 1.0
"""Advice where the wait depends on others."""

_T = TypeVar("_T")


class _Remembered(Generic[_T]):
    """Bounded map of subjects; drops only what `forgettable(entry, now)` allows."""

    def __init__(self, capacity: int, forgettable: Callable[[_T, float], bool]) -> None:
        self._capacity = capacity
        self._forgettable = forgettable
        self._entries: OrderedDict[Subject, _T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, subject: Subject) -> _T | None:
        return self._entries.get(subject)

    def has_room(self, subject: Subject, now: float) -> bool:
        """Whether `subject` can be set, after forgetting what can be forgotten."""
        entries = self._entries
        if subject in entries or len(entries) < self._capacity:
            return True
        # The front was set longest ago, so it is the likeliest to be forgettable; what is not goes
        # to the back, so that the next newcomer looks at others.
        for oldest in [s for s, _ in zip(entries, range(_PROBES), strict=False)]:
            if self._forgettable(entries[oldest], now):
                del entries[oldest]
            else:
                entries.move_to_end(oldest)
        return len(entries) < self._capacity

    def set(self, subject: Subject, entry: _T) -> None:
        self._entries[subject] = entry
        self._entries.move_to_end(subject)


class CostLimiter:
    """A token bucket per subject: `rate` units a second, up to `burst` at once.

    A bucket is one number, the time at which it is full again (the virtual scheduling form of the
    leaky bucket, ITU-T I.371): full now means nothing to remember.
    """

    def __init__(self, rate: float, burst: float, capacity: int = 16_384, mode: Mode = Mode.ENFORCE) -> None:
        self._rate = rate
        self._burst = burst
        self.mode = mode
        self.tally = Tally()
        self._full_at: _Remembered[float] = _Remembered(capacity, lambda full_at, now: full_at <= now)
        self._shared = 0.0

    def __len__(self) -> int:
        return len(self._full_at)

    def spend(self, subject: Subject, cost: float, now: float) -> float:
        """Take `cost` from the subject's bucket: 0.0 when allowed, else seconds until it would be.

        Nothing is taken when refused.  A cost above `burst` counts as `burst`: allowed from a full
        bucket.
        """
        if self.mode is Mode.OFF:
            return 0.0
        room = self._full_at.has_room(subject, now)
        full_at = (self._full_at.get(subject) if room else self._shared) or 0.0
        depth = self._burst / self._rate
        # A clock that went back must not leave anybody waiting longer than an empty bucket does.
        full_at = min(max(full_at, now), now + depth) + min(cost, self._burst) / self._rate
        wait = full_at - (now + depth)
        if wait > 1e-9:
            return wait if self.tally.refuse(self.mode) else 0.0
        self.tally.allowed += 1
        if room:
            self._full_at.set(subject, full_at)
        else:
            self._shared = full_at
        return 0.0


class CountLimiter:
    """How many at once (sessions, half-open handshakes), per address group and in all.

    Its memory is bounded by what is counted: a group is remembered while it holds a place.
    """

    def __init__(self, per_group: int, total: int, mode: Mode = Mode.ENFORCE) -> None:
        self._per_group = per_group
        self._total = total
        self.mode = mode
        self.tally = Tally()
        self._held: dict[str, int] = {}
        self._all = 0

    def __len__(self) -> int:
        """Places taken."""
        return self._all

    def held(self, group: str) -> int:
        """Places taken by one group."""
        return self._held.get(group, 0)

    @property
    def is_full(self) -> bool:
        """Whether all places are taken."""
        return self._all >= self._total

    def is_group_full(self, group: str) -> bool:
        """Whether `group` has all it may have."""
        return self._held.get(group, 0) >= self._per_group

    def acquire(self, group: str) -> bool:
        """Take a place for `group`; False where there is none (nothing taken, nothing to release)."""
        held = self._held.get(group, 0)
        if not self.is_group_full(group) and not self.is_full:
            if self.mode is not Mode.OFF:
                self.tally.allowed += 1
        elif self.tally.refuse(self.mode):
            return False
        self._held[group] = held + 1
        self._all += 1
        return True

    def release(self, group: str) -> None:
        """Give one place of `group` back. Raises KeyError where none was taken."""
        held = self._held[group]
        if held > 1:
            self._held[group] = held - 1
        else:
            del self._held[group]
        self._all -= 1


@dataclass(slots=True)
class _Dials:
    """What is remembered of dials to one group."""

    active: int = 0
    failures: int = 0
    """In a row."""
    keep_until: float = 0.0
    """With nothing active, the whole entry means nothing after this."""
    cool_until: float = 0.0
    started: tuple[float, ...] = ()
    """Starts within the last minute."""

    def is_over(self, now: float) -> bool:
        return not self.active and self.keep_until <= now


class DialLimiter:
    """Caps on dials to unverified address hints per destination group, so that nobody can aim us at
    a victim (section 6): 2 at once (64 over all groups), 8 a minute, 10 minutes of rest after 4
    failures in a row.

    Dials to verified addresses (their owner answered there before) are never refused.
    """

    def __init__(
        self,
        *,
        concurrent: int = 2,
        total: int = 64,
        per_minute: int = 8,
        failures: int = 4,
        cool_down_s: float = 600.0,
        capacity: int = 8_192,
        mode: Mode = Mode.ENFORCE,
    ) -> None:
        self._concurrent = concurrent
        self._total = total
        self._active = 0
        self._shared = _Dials()
        self._per_minute = per_minute
        self._failures = failures
        self._cool_down_s = cool_down_s
        self.mode = mode
        self.tally = Tally()
        self._groups: _Remembered[_Dials] = _Remembered(capacity, _Dials.is_over)

    def __len__(self) -> int:
        return len(self._groups)

    def begin(self, group: str, now: float, *, verified: bool = False) -> float:
        """Start a dial: 0.0 when allowed (call `end` after it), else seconds until it is worth asking.

        A refused dial must not be made and has no `end`.
        """
        room = self._groups.has_room(group, now)
        dials = self._groups.get(group) if room else self._shared
        if dials is None or (room and dials.is_over(now)):
            dials = _Dials()
        if not verified:
            if wait := self._wait(dials, now):
                if refused := self._refuse(wait):
                    return refused
            elif self.mode is not Mode.OFF:
                self.tally.allowed += 1
            dials.started = (*self._recent(dials, now), now)[-self._per_minute :]
            dials.keep_until = max(dials.keep_until, now + 60.0)
        dials.active += 1
        self._active += 1
        if room:
            self._groups.set(group, dials)
        return 0.0

    def end(self, group: str, now: float, *, ok: bool) -> None:
        """The dial is over; `ok`: somebody answered as who they claimed to be."""
        dials = self._groups.get(group)
        if dials is None or not dials.active:
            dials = self._shared  # it began while the map was full
        self._active = max(0, self._active - 1)
        dials.active = max(0, dials.active - 1)
        if dials is self._shared:
            return  # whose fault it was is not remembered, or one liar could rest all newcomers
        if ok:
            dials.failures = 0
            return
        dials.failures += 1
        dials.keep_until = now + self._cool_down_s
        if dials.failures >= self._failures:
            dials.failures = 0
            dials.cool_until = dials.keep_until

    def _wait(self, dials: _Dials, now: float) -> float:
        if dials.cool_until > now:
            return min(dials.cool_until - now, self._cool_down_s)
        if dials.active >= self._concurrent or self._active >= self._total:
            return _RETRY_S
        recent = self._recent(dials, now)
        return recent[0] + 60.0 - now if len(recent) >= self._per_minute else 0.0

    def _recent(self, dials: _Dials, now: float) -> tuple[float, ...]:
        return tuple(t for t in dials.started if now - 60.0 < t <= now)

    def _refuse(self, wait: float) -> float:
        return wait if self.tally.refuse(self.mode) else 0.0


class ShareLimiter:
    """A share of one resource for all strangers together, charged after use: what a job costs is known
    only once it is done.

    `share`: units a second (of CPU: seconds per second).  `burst`: units that may be used at once.
    """

    def __init__(self, share: float, burst: float, mode: Mode = Mode.ENFORCE) -> None:
        self._share = share
        self._burst_s = burst / share
        self.mode = mode
        self.tally = Tally()
        self._paid_until = float("-inf")

    def wait(self, now: float) -> float:
        """Seconds until the next job may begin, 0.0 for now."""
        # A clock that went back must not leave anybody waiting longer than the burst lasts.
        owed = min(self._paid_until - now, 2 * self._burst_s)
        if owed <= 1e-9:
            return 0.0
        return owed if self.tally.refuse(self.mode) else 0.0

    def charge(self, cost: float, now: float) -> None:
        """A job is done, and cost this much."""
        if self.mode is not Mode.OFF:
            self.tally.allowed += 1
        self._paid_until = max(self._paid_until, now - self._burst_s) + cost / self._share


class LoadGauge:
    """Whether callers ask for more than this node can do: "loaded" of section 3, as a measured figure.

    What is measured is how long a caller's message waited for its turn: demand beyond the capacity that
    the node has just now, whatever takes it, shows as waiting and as nothing else (the sojourn time of
    CoDel, RFC 8289).  Loaded from the first wait above `threshold_s` until `hold_s` after the last, as
    cookies themselves make the waiting go away.
    """

    def __init__(self, *, threshold_s: float = 0.05, hold_s: float = 2.0, mode: Mode = Mode.ENFORCE) -> None:
        self._threshold_s = threshold_s
        self._hold_s = hold_s
        self.mode = mode
        self.tally = Tally()
        self._until = 0.0

    def waited(self, seconds: float, now: float) -> None:
        """A message that is read now, or given up, waited this long."""
        if seconds > self._threshold_s:
            self._until = now + self._hold_s

    def is_loaded(self, now: float) -> bool:
        """Whether to ask strangers for a cookie."""
        if self.mode is Mode.OFF:
            return False
        # A clock that went back must not leave us loaded for longer.
        if not now < self._until <= now + self._hold_s:
            self.tally.allowed += 1
            return False
        return self.tally.refuse(self.mode)
