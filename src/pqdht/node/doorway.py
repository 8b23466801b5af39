"""Inbound links before anybody is believed: how many, how long, and whose turn it is to be computed for.

What strangers cost is bounded three times (section 3): by places and buffered bytes per address group
and in all (`HalfOpen`); by turns, one handshake message in each turn of the event loop, so that open
sessions are served in between, and round robin over the address groups (`FairQueue`); by a share of the
time and a number of Argon2id runs a second (`ShareLimiter`).  Where they ask for more than that share,
those without a cookie are answered with one and nothing else (`LoadGauge`).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING

from ..channel.cookie import CookieJar, Gate
from ..transport.base import Link
from ..trust.admission import CostLimiter, LoadGauge, ShareLimiter
from ..trust.halfopen import HalfOpen
from ..trust.modes import Mode
from ..trust.turns import FairQueue
from ..wire.address import Address
from .environment import Environment

if TYPE_CHECKING:
    from .connection import Connection

HANDSHAKE_SHARE = 0.75
"""Of the time of this process, what reading the handshakes of callers may take."""
HANDSHAKE_BURST_S = 0.1
"""Seconds of it at once."""
PUZZLES_PER_S = 1000.0
"""Argon2id runs a second on behalf of callers: about a fifth of a core."""
PUZZLES_BURST = 200.0
TURN_S = 0.004
"""Messages of callers are read for so long in one turn of the event loop, and one at least."""
LOADED_LINKS_PER_S = 4.0
"""While loaded, new links a second from one address group, ..."""
LOADED_LINKS_BURST = 8.0
"""... and at once; known peers are not counted."""
KNOWN_HOSTS = 4096
"""Addresses of peers from the table remembered as known: their callers come first, without a cookie."""


class Doorway:
    """One per node; told of every inbound link until the caller has shown the session's keys."""

    def __init__(self, env: Environment) -> None:
        limits, groups = env.params.limits, env.params.address_groups
        self.half_open: HalfOpen[Connection] = HalfOpen(
            per_group=limits.half_open_per_group if groups else limits.half_open_total,
            total=limits.half_open_total,
            bytes_per_group=limits.half_open_bytes_per_group if groups else limits.half_open_bytes_total,
            bytes_total=limits.half_open_bytes_total,
        )
        self.load = LoadGauge()
        self._time = ShareLimiter(HANDSHAKE_SHARE, HANDSHAKE_BURST_S)
        self._puzzles = ShareLimiter(PUZZLES_PER_S, PUZZLES_BURST)
        mode = Mode.ENFORCE if groups else Mode.OFF
        self._links = CostLimiter(LOADED_LINKS_PER_S, LOADED_LINKS_BURST, mode=mode)
        self._env = env
        self._cookies = CookieJar(env.suite.random_bytes)
        self._queue: FairQueue[Connection] = FairQueue()
        self._known: OrderedDict[str, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None

    def admits(self, address: Address, standing_s: float) -> bool:
        """Whether a caller gets a link at all; `standing_s`: callers have been waiting that long."""
        now = asyncio.get_running_loop().time()
        self.load.waited(standing_s, now)
        if not self.load.is_loaded(now) or address.host in self._known:
            return True
        if not self._links.spend(address.group, 1.0, now):
            return True
        limit = "load"
        self._env.counters[f"links_refused.{limit}"] += 1
        return False

    def gate(self, link: Link) -> Gate:
        """What a caller's first message has to pass before anything is computed for it."""
        host = link.remote.host
        return Gate(self._cookies, host, lambda: self._asks_cookie(host))

    def _asks_cookie(self, host: str) -> bool:
        now = asyncio.get_running_loop().time()
        if host in self._known or not self.load.is_loaded(now):
            return False
        self._env.counters["cookies_sent"] += 1
        return True

    # --- places --------------------------------------------------------------------------------

    def enter(self, conn: Connection) -> None:
        """A link came in."""
        self._evict(self.half_open.enter(conn, conn.group))

    def buffered(self, conn: Connection, size: int) -> None:
        """So much of what a caller sent is held now."""
        self._evict(self.half_open.hold(conn, size))

    def opened(self, conn: Connection) -> None:
        """The caller has the session's keys."""
        self.half_open.leave(conn)

    def failed(self, conn: Connection) -> None:
        """The connection ended; its link may take a moment more."""
        self._leave_queue(conn)
        self.half_open.doom(conn)

    def gone(self, conn: Connection) -> None:
        """The link is gone."""
        self.half_open.leave(conn)

    def remember(self, host: str) -> None:
        """A peer of the table lives at this address."""
        self._known[host] = None
        self._known.move_to_end(host)
        if len(self._known) > KNOWN_HOSTS:
            self._known.popitem(last=False)

    def _evict(self, conns: list[Connection]) -> None:
        for conn in conns:
            self._env.counters["half_open_evicted"] += 1
            conn.evict()

    # --- turns ---------------------------------------------------------------------------------

    def wait(self, conn: Connection) -> None:
        """A message of a caller waits to be read; `conn.proceed` is called when it is its turn."""
        conn.waiting_since = asyncio.get_running_loop().time()
        self._queue.put(conn, conn.group, known=conn.link.remote.host in self._known)
        if self._timer is None:
            self._serve()

    def _serve(self) -> None:
        """Read what waits, for a while; the rest in the next turn of the loop or when the share allows."""
        self._timer = None
        loop = asyncio.get_running_loop()
        begun = now = loop.time()
        while len(self._queue) and now - begun < TURN_S:
            if wait := max(self._time.wait(now), self._puzzles.wait(now)):
                self._timer = loop.call_later(wait, self._serve)
                return
            now = self._read_one(now)
        # Also with nothing left: what comes in this turn yet waits for the next.
        if now > begun:
            self._timer = loop.call_soon(self._serve)

    def _read_one(self, begun: float) -> float:
        """Read the next message; the time when that was done."""
        conn, runs = self._queue.take(), self._env.contacts.argon2_runs
        self._waited(conn, begun)
        conn.proceed()
        now = asyncio.get_running_loop().time()
        self._time.charge(now - begun, now)
        self._puzzles.charge(self._env.contacts.argon2_runs - runs, now)
        return now

    def _waited(self, conn: Connection, now: float) -> None:
        """A message leaves the queue, read or not."""
        assert conn.waiting_since is not None
        self.load.waited(now - conn.waiting_since, now)
        conn.waiting_since = None

    def _leave_queue(self, conn: Connection) -> None:
        if conn.waiting_since is not None:
            self._queue.remove(conn, conn.group)
            self._waited(conn, asyncio.get_running_loop().time())

    def close(self) -> None:
        """No more turns."""
        if self._timer is not None:
            self._timer.cancel()
