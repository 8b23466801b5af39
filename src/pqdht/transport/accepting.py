"""Accepting TCP connections under pressure, which neither event loop does well by itself.

uvloop takes one connection in each turn of the loop, so that everybody who calls waits in the kernel's
queue behind whatever the turns are spent on; asyncio takes all that wait, before it looks at open
connections again.  This takes some in each turn, and may turn callers away for the price of a close.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from typing import Any

PER_TURN = 16
"""Connections taken in one turn of the loop: open links are served in between."""
BACKLOG = 1024
"""Connections the kernel keeps for us, where its own limit (net.core.somaxconn) allows."""
REST_S = 1.0
"""Without file descriptors or memory, try again after this."""

_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))

Take = Callable[[socket.socket, Any, float], None]
"""Called with a connection, its peer's socket address, and for how many seconds callers have been
waiting without a break."""


class Listener:
    """One listening socket."""

    def __init__(self, host: str, port: int, take: Take) -> None:
        """Raises OSError."""
        self._loop = asyncio.get_running_loop()
        self._take = take
        self._standing_since: float | None = None
        self._resting: asyncio.TimerHandle | None = None
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # By this number asyncio knows that Nagle's algorithm is to be switched off.
        self._sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            self._sock.setblocking(False)
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                self._sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            self._sock.bind((host, port))
            self._sock.listen(BACKLOG)
        except OSError:
            self._sock.close()
            raise
        self.address = self._sock.getsockname()
        self._loop.add_reader(self._sock.fileno(), self._accept)

    def close(self) -> None:
        """Stop; safe to call twice."""
        if self._sock.fileno() < 0:
            return
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()

    def _accept(self) -> None:
        now = self._loop.time()
        if self._standing_since is None:
            self._standing_since = now
        for _ in range(PER_TURN):
            if self._sock.fileno() < 0:
                return  # closed by who took the last one
            try:
                sock, sockaddr = self._sock.accept()
            except (BlockingIOError, InterruptedError):
                self._standing_since = None
                return
            except OSError as e:
                if e.errno in _EXHAUSTED:
                    self._rest(e)
                    return
                continue  # that caller is gone already
            self._take(sock, sockaddr, now - self._standing_since)

    def _rest(self, error: OSError) -> None:
        context = {"message": "no more connections can be accepted for now", "exception": error}
        self._loop.call_exception_handler(context)
        self._loop.remove_reader(self._sock.fileno())
        self._resting = self._loop.call_later(REST_S, self._resume)

    def _resume(self) -> None:
        self._resting = None
        self._loop.add_reader(self._sock.fileno(), self._accept)
