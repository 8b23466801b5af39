"""A book of what owners wrote, and the judge of what readers got, partitions included.

Pure: times are virtual seconds handed in, wall clocks milliseconds.  A version that reached its quorum
outside of any partition must be seen by everybody from then on; one that reached it during a partition,
or before the two sides have had `grace_s` to find each other again, by readers on the writer's side, and
by the others once that time is over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

EXPIRY_MARGIN_MS = 10_000
"""Around the end of a record's life either answer is right: clocks differ, and a GET takes its time."""


@dataclass(slots=True)
class Version:
    """One version of one value. `side`: of its writer; `divided`: its PUT met a partition."""

    number: int
    is_tombstone: bool
    side: int
    divided: bool
    timestamp: int = 0
    expires: int = 0
    """ms; 0 until known"""
    reached: float | None = None
    """When it had its quorum."""


@dataclass(slots=True)
class Line:
    """One owner's value under one name, version after version."""

    name: str
    versions: list[Version] = field(default_factory=list)

    @property
    def is_begun(self) -> bool:
        """Whether anything was ever written."""
        return bool(self.versions)


@dataclass(slots=True)
class Seen:
    """What a GET came back with. `value`: of a live record; `deleted_at`: of a tombstone; else `error`."""

    value: bytes | None = None
    deleted_at: int | None = None
    error: str = ""


@dataclass(slots=True)
class Book:
    """`grace_s`: how long after a heal the other side's versions may still be unknown."""

    grace_s: float
    divided_from: float | None = None
    healed_at: float | None = None
    is_divided: bool = False

    def divide(self, now: float) -> None:
        """The network falls apart."""
        self.is_divided, self.divided_from = True, now

    def heal(self, now: float) -> None:
        """It is whole again."""
        self.is_divided, self.healed_at = False, now

    # --- writing -------------------------------------------------------------------------------

    def begin(self, line: Line, *, is_tombstone: bool, side: int) -> Version:
        """A PUT begins. Its value is `value(line, version)`."""
        version = Version(len(line.versions) + 1, is_tombstone, side, self.is_divided)
        line.versions.append(version)
        return version

    def reached(self, version: Version, now: float, timestamp: int, expires: int) -> None:
        """Its PUT returned with a quorum."""
        version.reached, version.timestamp, version.expires = now, timestamp, expires
        healing = self.healed_at is not None and now < self.healed_at + self.grace_s
        version.divided |= self.is_divided or healing

    @staticmethod
    def value(line: Line, version: Version) -> bytes:
        """What is written as this version."""
        return f"{line.name} {version.number}".encode()

    # --- judging -------------------------------------------------------------------------------

    def required(self, line: Line, side: int, now: float) -> Version | None:
        """The newest version that a reader on this side must see, or something newer; None: nothing yet."""
        return next((v for v in reversed(line.versions) if self._binds(v, side, now, self.grace_s)), None)

    def _binds(self, v: Version, side: int, now: float, grace_s: float) -> bool:
        if v.reached is None:
            return False
        if not v.divided or v.side == side:
            return True
        return not self.is_divided and self.healed_at is not None and now >= self.healed_at + grace_s

    def is_behind(self, line: Line, seen: Seen, side: int, now: float) -> bool:
        """Whether what was seen, right or not, is older than the newest of either side."""
        newest = next((v for v in reversed(line.versions) if self._binds(v, side, now, 0.0)), None)
        got = self._version_of(line, seen)
        return newest is not None and got is not None and got.number < newest.number

    @staticmethod
    def _version_of(line: Line, seen: Seen) -> Version | None:
        for v in line.versions:
            if seen.value is not None and not v.is_tombstone and Book.value(line, v) == seen.value:
                return v
            if seen.deleted_at is not None and v.is_tombstone and v.timestamp == seen.deleted_at:
                return v
        return None

    def judge(self, line: Line, required: Version | None, seen: Seen, began_ms: int, ended_ms: int) -> str:
        """What a GET that began with `required` was: `right`, `wrong ...`, `failed ...` of a live record,
        or `right (...)` of one that is not live."""
        may_be_deleted = any(
            v.is_tombstone and (required is None or v.number > required.number) for v in line.versions
        )
        got = self._version_of(line, seen)
        if seen.value is not None:
            return self._judge_value(required, got, began_ms)
        if seen.deleted_at is not None:
            if got is None:  # a tombstone whose PUT has not returned has no known timestamp
                return "right (deleted)" if may_be_deleted else "wrong: deleted by nobody"
            if required is not None and got.number < required.number:
                return "wrong: an older tombstone"
            return "right (deleted)"
        if required is None:
            return "right (not written yet)"
        if required.is_tombstone:
            return "right (deleted)"
        if required.expires < ended_ms + EXPIRY_MARGIN_MS:
            return "right (expired)"
        return f"failed: {seen.error}"

    @staticmethod
    def _judge_value(required: Version | None, got: Version | None, began_ms: int) -> str:
        if got is None:
            return "wrong: never written"
        if required is not None and got.number < required.number:
            return "wrong: too old"
        if got.expires and got.expires < began_ms - EXPIRY_MARGIN_MS:
            return "wrong: expired"
        return "right"


@dataclass
class Tally:
    """Counts of verdicts, and the words of those that should not have been."""

    counts: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)

    def note(self, verdict: str, what: Callable[[], str]) -> None:
        """Count one; `what()` describes it."""
        self.counts[" ".join(verdict.split()[:2]) if verdict.startswith("failed") else verdict] += 1
        if verdict.startswith(("wrong", "failed")):
            self.bad.append(f"{verdict}: {what()}")

    @property
    def right(self) -> int:
        """GETs of live records that were right."""
        return self.counts["right"]

    @property
    def failed(self) -> int:
        """GETs of live records that gave nothing, or not for sure."""
        return sum(n for verdict, n in self.counts.items() if verdict.startswith("failed"))

    @property
    def wrong(self) -> int:
        """GETs that gave what they must not."""
        return sum(n for verdict, n in self.counts.items() if verdict.startswith("wrong"))

    @property
    def share(self) -> float:
        """Right ones among the GETs of live records, and the wrong ones."""
        return self.right / max(1, self.right + self.failed + self.wrong)
