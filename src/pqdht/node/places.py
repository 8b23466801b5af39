"""The places for inbound sessions: so many per address group, so many in all."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..trust.admission import CountLimiter
from .connection import Connection
from .environment import Environment


class Places:
    """Who holds one, and who gives up its own where all are taken.

    `is_wanted`: whether the table wants the session.  Times are the event loop's seconds.
    """

    def __init__(self, env: Environment, is_wanted: Callable[[Connection], bool]) -> None:
        limits, groups = env.params.limits, env.params.address_groups
        most = limits.sessions_per_group if groups else limits.sessions_total
        self._counts = CountLimiter(most, limits.sessions_total)
        self._held: dict[str, dict[Connection, None]] = {}
        self._idle_s = env.config.session_idle_s
        self._is_wanted = is_wanted

    def __len__(self) -> int:
        """Places taken."""
        return len(self._counts)

    def may_enter(self, group: str, now: float) -> bool:
        """Whether the group has a place left, or one that is idle."""
        return not self._counts.is_group_full(group) or self._idle_of(group, now) is not None

    def take(self, conn: Connection, now: float) -> bool:
        """A place for an inbound session.  Where all are taken, the session that nobody wants and that
        was silent longest gives up its own; where only those of its group are, one that is idle does."""
        guest: Connection | None = None
        if self._counts.is_group_full(conn.group):
            guest = self._idle_of(conn.group, now)
        elif self._counts.is_full:
            guest = self._silent_longest(c for held in self._held.values() for c in held)
        if guest is not None:
            self.leave(guest)
            guest.close()
        if not self._counts.acquire(conn.group):
            return False
        conn.is_admitted = True
        self._held.setdefault(conn.group, {})[conn] = None
        return True

    def leave(self, conn: Connection) -> None:
        """Give its place back, if it holds one."""
        if conn.is_admitted:
            conn.is_admitted = False
            self._counts.release(conn.group)
            held = self._held[conn.group]
            del held[conn]
            if not held:
                del self._held[conn.group]

    def _idle_of(self, group: str, now: float) -> Connection | None:
        guest = self._silent_longest(self._held.get(group, ()))
        return guest if guest is not None and now - guest.last_heard > self._idle_s else None

    def _silent_longest(self, conns: Iterable[Connection]) -> Connection | None:
        """Of those that nobody wants and nothing is under way on."""
        guests = (c for c in conns if not c.exchange.in_use and not self._is_wanted(c))
        return min(guests, key=lambda c: c.last_heard, default=None)
