"""Quarantine: for a time a node is not asked, not stored on and not named (section 7).

10 minutes, doubling with every repeat up to 24 hours, and then probation: the node stays out until a
probe shows that it behaves.  What was done is forgotten step by step while nothing is done.

Quarantine is itself a weapon: who can make us put honest nodes away empties our table.  So at most a
tenth of the table and a quarter of a bucket are held, and never so many that fewer than 8 live nodes of a
bucket are left; past that only ranking acts.  Nodes outside the table count against no cap, as holding
them costs the table nothing.  They should not enter it while held; for one that does all the same
(drawn from the candidate pool), and for a table that shrank, `settle` frees what is over the caps.

Pure: `now` is seconds of the wall clock, as holds outlive restarts.  A clock that goes back makes nobody
wait for longer than the whole of the present hold.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from .memory import make_room
from .modes import Mode

FIRST_S = 600.0
"""The first hold.  Longer: an honest node put away by mistake is missed for longer."""
LONGEST_S = 86_400.0
"""The longest.  Longer: a mended node is missed for longer; shorter: an attacker tries again more often."""
FORGET_S = 2 * 86_400.0
"""One repeat is forgotten after this long in freedom.  Who strikes once in this time is held as long as the
last time, so that the longer it is the more rarely an old offender can strike."""
PROBATION_S = 86_400.0
"""A node that nobody probed for this long after its time is free: the next finding counts as a repeat."""
TABLE_SHARE = 0.10
"""Most of the table that is held.  Larger: more of a large attack is held, and more of the table is lost to
an attack that makes honest nodes look bad."""
BUCKET_SHARE = 0.25
"""Most of a bucket that is held."""
BUCKET_LIVE = 8
"""Live nodes of a bucket that are always left: lookups need several to choose from."""
MAX_REASON = 256
"""Characters."""
MAX_REPEATS = 64
"""Of a node; the hold is longest from the 9th on."""

Row = tuple[bytes, str, float, float, int, bool]
"""node, reason, since, until (seconds; both the time of release for one that is free), times, is held."""


class TableView(Protocol):
    """What is asked of a routing table."""

    def __len__(self) -> int: ...

    def bucket_of(self, node: bytes) -> int:
        """The bucket that a node is in, or would be in."""

    def members(self, bucket: int) -> Collection[bytes]:
        """The live nodes of a bucket, held ones among them."""

    def __contains__(self, node: object) -> bool: ...


class Outcome(Enum):
    """What became of a finding."""

    HELD = "held"
    ALREADY = "already"
    """It was held before; nothing changed."""
    CAPPED = "capped"
    """Passed over: cap.  Ranking only."""
    OBSERVED = "observed"
    """The mode only observes: it would have been held."""
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Held:
    """One node in quarantine, for people and programs.  Seconds."""

    node: bytes
    reason: str
    since: float
    until: float
    times: int
    is_on_probation: bool


@dataclass(slots=True)
class _Case:
    """One node, held or free with repeats to its name."""

    reason: str
    since: float
    until: float
    times: int
    is_held: bool

    def settle_clock(self, now: float) -> None:
        """The clock went back: what began in the future began now."""
        if now < self.since:
            self.until += now - self.since
            self.since = now

    def hold(self, reason: str, now: float) -> None:
        self.times = min(self.repeats(now) + 1, MAX_REPEATS)
        self.reason, self.since, self.is_held = reason[:MAX_REASON], now, True
        self.until = now + length_s(self.times)

    def free(self, now: float) -> None:
        self.is_held = False
        self.since = self.until = now

    def repeats(self, now: float) -> int:
        """Holds that are not forgotten."""
        if self.is_held:
            return self.times
        return max(0, self.times - int(max(0.0, now - self.since) / FORGET_S))


def length_s(times: int) -> float:
    """How long the hold lasts of a node that is held for the `times`-th time (from 1), in seconds."""
    return float(min(FIRST_S * 2 ** (min(times, MAX_REPEATS) - 1), LONGEST_S))


class Quarantine:
    """Who is held.  `capacity`: nodes remembered, held or not; the table holds far fewer.

    When it is full, those with fewest repeats are forgotten first, and last those of the table that are
    held: a crowd of first offenders frees no old one.
    """

    def __init__(
        self,
        mode: Mode = Mode.ENFORCE,
        capacity: int = 4096,
        *,
        table_share: float = TABLE_SHARE,
        bucket_share: float = BUCKET_SHARE,
    ) -> None:
        self._table_share = table_share
        self._bucket_share = bucket_share
        self.mode = mode
        self.outcomes: Counter[Outcome] = Counter()
        self._capacity = capacity
        self._cases: dict[bytes, _Case] = {}

    def __len__(self) -> int:
        """Nodes remembered, held or not."""
        return len(self._cases)

    def hold(self, node: bytes, reason: str, now: float, table: TableView) -> Outcome:
        """Put a node away, if the caps allow it.  An offence on probation is a failed probe."""
        outcome = self._hold(node, reason, now, table)
        self.outcomes[outcome] += 1
        return outcome

    def is_held(self, node: bytes, now: float) -> bool:
        """Whether a node is held or on probation."""
        case = self._case(node, now)
        return case is not None and case.is_held

    def on_probation(self, now: float) -> list[bytes]:
        """Whose time is over, so that they are to be probed now; in order of node id."""
        return [h.node for h in self.held(now) if h.is_on_probation]

    def probed(self, node: bytes, now: float, *, ok: bool) -> None:
        """The outcome of a probe: free, or held again for twice as long.  Ignored unless on probation."""
        case = self._case(node, now)
        if case is None or not case.is_held or now < case.until:
            return
        if ok:
            case.free(now)
        else:
            case.hold(case.reason, now)

    def lift(self, node: bytes) -> bool:
        """The operator frees a node; False if it was not held.  Its repeats stay until they are forgotten."""
        case = self._cases.get(node)
        if case is None or not case.is_held or self.mode is not Mode.ENFORCE:
            return False
        case.free(case.since)
        return True

    def held(self, now: float) -> list[Held]:
        """Who is held or on probation, in order of node id."""
        found = []
        for node in sorted(self._cases):
            case = self._case(node, now)
            if case is not None and case.is_held:
                is_over = case.until <= now
                found.append(Held(node, case.reason, case.since, case.until, case.times, is_over))
        return found

    def settle(self, now: float, table: TableView) -> list[bytes]:
        """Free whom the caps no longer allow, fewest repeats first.  To be called when the table changed.

        They keep their repeats.  Returns them in the order of release.
        """
        freed: list[bytes] = []
        held = sorted(
            self._held_in(table, now), key=lambda n: (self._cases[n].times, self._cases[n].until, n)
        )
        buckets: dict[int, list[bytes]] = {}
        for node in held:
            buckets.setdefault(table.bucket_of(node), []).append(node)
        for bucket, nodes in sorted(buckets.items()):
            live = set(table.members(bucket))
            while nodes and not self._bucket_allows(live, nodes):
                freed.append(nodes.pop(0))
        gone = set(freed)
        left = [node for node in held if node not in gone]
        over = len(left) - int(self._table_share * len(table))
        freed += left[: max(0, over)]
        for node in freed:
            self._cases[node].free(now)
        return freed

    def dump(self, now: float) -> list[Row]:
        """All that is remembered, in order of node id."""
        return [
            (node, c.reason, c.since, c.until, c.times, c.is_held)
            for node, c in sorted(self._cases.items())
            if c.repeats(now)
        ]

    def load(self, rows: Iterable[Row], now: float) -> None:
        """Take what `dump` gave in place of all that is remembered.

        Call `settle` once the table is known.  No loaded hold is longer than its repeats allow.
        """
        cases: dict[bytes, _Case] = {}
        for node, reason, since, until, times, is_held in rows:
            times = max(1, min(times, MAX_REPEATS))
            until = min(until, since + length_s(times)) if is_held else since
            case = _Case(reason, since, until, times, is_held)
            case.settle_clock(now)
            make_room(cases, self._capacity, _worth)
            cases[node] = case
        self._cases = cases

    def _hold(self, node: bytes, reason: str, now: float, table: TableView) -> Outcome:
        if self.mode is Mode.OFF:
            return Outcome.OFF
        case = self._case(node, now)
        if case is not None and case.is_held:
            if now < case.until:
                return Outcome.ALREADY
            case.hold(reason, now)
            return Outcome.HELD
        if node in table and not self._allows(node, now, table):
            return Outcome.CAPPED
        if self.mode is Mode.OBSERVE:
            return Outcome.OBSERVED
        if case is None:
            self._make_room(table, now)
            case = self._cases[node] = _Case(reason, now, now, 0, False)
        case.hold(reason, now)
        return Outcome.HELD

    def _allows(self, node: bytes, now: float, table: TableView) -> bool:
        """Whether one more node of the table may be held."""
        held = self._held_in(table, now)
        if len(held) + 1 > int(self._table_share * len(table)):
            return False
        bucket = table.bucket_of(node)
        return self._bucket_allows(
            set(table.members(bucket)), [node, *(n for n in held if table.bucket_of(n) == bucket)]
        )

    def _bucket_allows(self, live: set[bytes], held: list[bytes]) -> bool:
        """Whether these nodes of a bucket may all be held."""
        most = int(self._bucket_share * len(live))
        return len(held) <= most and len(live - set(held)) >= BUCKET_LIVE

    def _held_in(self, table: TableView, now: float) -> list[bytes]:
        return [n for n, c in self._cases.items() if c.is_held and n in table and self.is_held(n, now)]

    def _make_room(self, table: TableView, now: float) -> None:
        if len(self._cases) >= self._capacity:
            last = set(self._held_in(table, now))
            make_room(self._cases, self._capacity, lambda node, case: (node in last, _worth(node, case)))

    def _case(self, node: bytes, now: float) -> _Case | None:
        """A node's case as of now.  None where nobody is held."""
        case = self._cases.get(node)
        if case is None or self.mode is not Mode.ENFORCE:
            return None
        case.settle_clock(now)
        if case.is_held and now >= case.until + PROBATION_S:
            case.free(case.until + PROBATION_S)
        return case


def _worth(_: bytes, case: _Case) -> tuple[int, bool, float]:
    return case.times, case.is_held, case.until
