"""Security events: what the defences found and did, as typed values to subscribe to (section 7).

Whoever attacks us also decides what we log.  So events of one kind about one node are bounded in rate, and
those of one kind in all; what is suppressed is counted.  Pure: where events go
(a file, a screen) is up to the subscribers.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from ..constants import MS
from .admission import CostLimiter

NODE_BURST = 5
"""Events of one kind about one node at once, ..."""
NODE_PER_MINUTE = 1.0
"""... and a minute after that.  More: a fuller record of one attacker, and more of the log for it."""
KIND_BURST = 500
"""Events of one kind at once, whoever they are about, ..."""
KIND_PER_MINUTE = 300.0
"""... and a minute after that: what many nodes together may make us write."""
RECENT = 1000
"""Events kept in memory."""
MAX_DETAILS = 16
"""Facts of one event."""
MAX_TEXT = 256
"""Characters of each text: it may come from a peer."""

Detail = str | int | float


class EventKind(StrEnum):
    """What happened.  Names are frozen: programs and log files hold them."""

    PROVEN_FAULT = "proven_fault"
    """A fault was proven from evidence, recomputed here."""
    INVALID_DATA = "invalid_data"
    QUARANTINED = "quarantined"
    QUARANTINE_CAPPED = "quarantine_capped"
    """A node was not held, as too many are: ranking only."""
    RELEASED = "released"
    """A node left quarantine: by its probe, its time, the caps or the operator."""
    SYBIL_ALARM = "sybil_alarm"
    ECLIPSE_ALARM = "eclipse_alarm"
    ROLLBACK = "rollback"
    """A storer gave an older version than one that it had signed for."""
    EQUIVOCATION = "equivocation"
    """An owner signed two records with one timestamp."""
    CONTESTED = "contested"
    """A GET saw valid records that contradict each other."""
    REPORT_RECEIVED = "report_received"
    REPORT_REFUSED = "report_refused"
    REPORT_SENT = "report_sent"
    ANOMALY = "anomaly"
    """A detector that does not quarantine found something."""
    RATE_LIMITED = "rate_limited"
    DIAL_CAPPED = "dial_capped"


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """One finding or act of a defence."""

    kind: EventKind
    at_ms: int
    """Wall clock, ms since the epoch."""
    node: bytes | None = None
    """Whom it is about, if one node."""
    group: str = ""
    """Address group it is about, if known."""
    detector: str = ""
    """Name of the defence."""
    mode: str = ""
    """Mode of the defence: `enforce` or `observe`."""
    detail: Mapping[str, Detail] = field(default_factory=dict)
    """The facts: at most `MAX_DETAILS`, texts cut to `MAX_TEXT` when shown."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-friendly, of bounded size; node ids as hex, numbers that are not finite as text."""
        return {
            "kind": self.kind.value,
            "at_ms": self.at_ms,
            "node": None if self.node is None else self.node.hex(),
            "group": self.group[:MAX_TEXT],
            "detector": self.detector[:MAX_TEXT],
            "mode": self.mode[:MAX_TEXT],
            "detail": {
                name[:MAX_TEXT]: _plain(value)
                for name, value in sorted(self.detail.items())[:MAX_DETAILS]
            },
        }  # fmt: skip

    @classmethod
    def from_dict(cls, facts: Mapping[str, Any]) -> SecurityEvent:
        """What `as_dict` gave; unknown entries are left.  Raises ValueError for anything else."""
        try:
            event = cls(
                kind=EventKind(facts["kind"]),
                at_ms=_typed(facts["at_ms"], int),
                node=None if facts["node"] is None else bytes.fromhex(facts["node"]),
                group=_typed(facts["group"], str),
                detector=_typed(facts["detector"], str),
                mode=_typed(facts["mode"], str),
                detail={n: _typed(v, str, int, float) for n, v in _typed(facts["detail"], dict).items()},
            )
        except (KeyError, TypeError, ValueError) as e:
            raise ValueError(f"not a security event: {e!r}") from None
        return event


Subscriber = Callable[[SecurityEvent], None]


class EventLog:
    """Counters, the latest events, and whom to tell.

    `recent`: events kept.  A subscriber that raises is counted and called again next time; the others
    are told all the same.
    """

    def __init__(self, recent: int = RECENT) -> None:
        self.counts: Counter[EventKind] = Counter()
        """Events by kind, the suppressed ones among them."""
        self.suppressed: Counter[EventKind] = Counter()
        """Of these, those that were counted only."""
        self.failures = 0
        """Calls of a subscriber that raised."""
        self._recent: deque[SecurityEvent] = deque(maxlen=recent)
        self._subscribers: dict[int, Subscriber] = {}
        self._next = 0
        self._clock_ms = 0
        self._latest_ms: int | None = None
        self._by_node = CostLimiter(NODE_PER_MINUTE / 60, NODE_BURST)
        self._by_kind = CostLimiter(KIND_PER_MINUTE / 60, KIND_BURST)

    def emit(self, event: SecurityEvent) -> bool:
        """Count, keep and tell an event; False if it was counted only, as there are too many."""
        self.counts[event.kind] += 1
        # The limiters want a clock that never goes back.
        self._clock_ms += max(0, event.at_ms - (self._latest_ms or event.at_ms))
        self._latest_ms = event.at_ms
        now = self._clock_ms / MS
        about = event.group.encode() if event.node is None else event.node
        if self._by_node.spend(event.kind.encode() + b"/" + about, 1.0, now) or self._by_kind.spend(
            event.kind, 1.0, now
        ):
            self.suppressed[event.kind] += 1
            return False
        self._recent.append(event)
        for subscriber in list(self._subscribers.values()):
            try:
                subscriber(event)
            except Exception:
                self.failures += 1
        return True

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Call `callback` with each event from now on; returns what ends it (any number of calls)."""
        number = self._next
        self._next += 1
        self._subscribers[number] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(number, None)

        return unsubscribe

    def recent(self, limit: int | None = None, kind: EventKind | None = None) -> list[SecurityEvent]:
        """The latest events (of one kind), oldest first."""
        found = [e for e in self._recent if kind is None or e.kind is kind]
        return found if limit is None else found[max(0, len(found) - limit) :]

    def status(self) -> dict[str, Any]:
        """Figures for people and metrics, JSON-friendly."""
        return {
            "counts": {kind.value: self.counts[kind] for kind in EventKind if self.counts[kind]},
            "suppressed": {kind.value: self.suppressed[kind] for kind in EventKind if self.suppressed[kind]},
            "subscriber_failures": self.failures,
        }


def _plain(value: Detail) -> Detail:
    if isinstance(value, str):
        return value[:MAX_TEXT]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _typed(value: Any, *kinds: type) -> Any:
    if not isinstance(value, kinds) or isinstance(value, bool):
        raise TypeError(f"{type(value).__name__} where {kinds[0].__name__} is due")
    return value
