"""What a transport is: it moves bytes between addresses and knows nothing else.

TCP, the simulator and (later) UDP, relays and pluggable transports look the same to `node`.  The
shape is asyncio's Protocol, so that no task is spent per message.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ..wire.address import Address


class LinkHandler(Protocol):
    """Who listens to a link.  Calls come from the event loop and must not block."""

    def data_received(self, data: bytes) -> None:
        """Bytes in order, cut anywhere."""
        ...

    def connection_lost(self, error: Exception | None) -> None:
        """Once, last. `error` is None after an orderly end."""
        ...

    def pause_writing(self) -> None:
        """The peer reads too slowly: stop writing."""
        ...

    def resume_writing(self) -> None: ...


class Link(Protocol):
    """An ordered, reliable, unauthenticated byte pipe."""

    @property
    def remote(self) -> Address: ...
    @property
    def outbound(self) -> bool: ...
    def write(self, data: bytes) -> None:
        """Queue bytes; silently dropped after close."""
        ...

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def close(self) -> None:
        """Send what is queued, then end."""
        ...

    def abort(self) -> None:
        """End now, dropping what is queued."""
        ...


Accept = Callable[[Link], LinkHandler]
"""Called when a link is up, before any byte; returns who handles it."""


Admit = Callable[[Address, float], bool]
"""Asked before a link is made, with the caller's address and for how many seconds callers have been
waiting without a break: False turns it away."""


class Transport(Protocol):
    """One way to reach others."""

    @property
    def scheme(self) -> str:
        """`tcp`, `mem`, ...: the first word of the addresses it dials."""
        ...

    async def listen(self, address: Address, accept: Accept, admit: Admit | None = None) -> Address:
        """Accept links; returns the bound address (port 0 resolved). Raises ListenError."""
        ...

    async def dial(self, address: Address, handler: Accept, timeout: float) -> Link:
        """Connect. Raises PeerUnreachable or PeerTimeout."""
        ...

    async def close(self) -> None:
        """Stop listening and close every link."""
        ...
