"""TCP over asyncio (uvloop where the caller runs one): bytes in, bytes out, no task per message.

Nagle's algorithm is off: both event loops set TCP_NODELAY on every TCP socket (a test pins it).
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
from collections.abc import Coroutine
from typing import Any, TypeVar, cast

from ..errors import Closed, ListenError, PeerTimeout, PeerUnreachable
from ..wire.address import Address, canonical_ip
from .accepting import Listener
from .base import Accept, Admit, LinkHandler

_T = TypeVar("_T")

_MAX_RESOLVED = 4
"""How many addresses of one host name are tried."""

_LISTEN_REMEDY = {
    errno.EADDRINUSE: "another program listens there: stop it, or listen on another port",
    errno.EADDRNOTAVAIL: "this machine has no such address: use one of its own, or 0.0.0.0 or [::] for all",
    errno.EACCES: "not permitted: ports below 1024 need privileges, choose a higher one",
}

_OUR_FAULT = frozenset(
    (
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EADDRNOTAVAIL,
        errno.ENETUNREACH,
        errno.ENETDOWN,
    )
)
"""Failures of a dial that say nothing about the peer."""


class TcpLink(asyncio.Protocol):
    """One TCP connection; made by `TcpTransport` only."""

    def __init__(self, owner: TcpTransport, accept: Accept, outbound: bool, dialled: Address | None) -> None:
        self._owner = owner
        self._accept = accept
        self._outbound = outbound
        self._remote = dialled
        self._handler: LinkHandler | None = None
        self._error: Exception | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._paused = False

    @property
    def remote(self) -> Address:
        """Where the peer really is: an IP address and port, never a name."""
        assert self._remote is not None, "set before the handler exists"
        return self._remote

    @property
    def outbound(self) -> bool:
        return self._outbound

    def write(self, data: bytes) -> None:
        """Queue bytes; dropped after close. A queue over the owner's `write_limit` ends the link."""
        transport = self._transport
        if transport.is_closing():
            return
        transport.write(data)
        # Below the high-water mark there is nothing to measure.
        if self._paused and transport.get_write_buffer_size() > self._owner.write_limit:
            self._fail("the peer does not read: too much waits to be sent", "write limit")

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """Send what is queued within `close_timeout_s`, then end."""
        transport = self._transport
        if transport.is_closing():
            return
        if transport.get_write_buffer_size():
            self._arm(self._owner.close_timeout_s, "the peer did not take what was left", "close timeout")
        transport.close()

    def abort(self) -> None:
        self._transport.abort()

    # --- asyncio.Protocol ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._owner._link_up(self)
        peername = transport.get_extra_info("peername")
        if peername is not None:
            self._remote = remote_address(peername)
        # No peername: the peer was gone before we looked.
        if self._remote is None or self._owner.closed:
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=self._owner.write_high_water)
        try:
            self._handler = self._accept(self)
        except BaseException:
            self._transport.abort()
            raise

    def data_received(self, data: bytes) -> None:
        if self._handler is not None:
            self._handler.data_received(data)

    def eof_received(self) -> None:
        # A peer that half-closes is done with us: send what is queued, then end too.
        self.close()

    def pause_writing(self) -> None:
        self._paused = True
        self._arm(self._owner.write_stall_s, "the peer stopped reading", "write stalled")
        if self._handler is not None:
            self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        if self._transport.is_closing():
            return  # the bound set by close() stays
        self._disarm()
        if self._handler is not None:
            self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._owner._link_down(self)
        if self._handler is not None:
            error = self._error
            if error is None and exc is not None:
                error = _unreachable(self.remote, f"the link to {self.remote} broke", exc)
            self._handler.connection_lost(error)

    # --- bounds --------------------------------------------------------------------------------

    def _arm(self, seconds: float, what: str, reason: str) -> None:
        self._disarm()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fail, what, reason)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fail(self, what: str, reason: str) -> None:
        self._error = PeerUnreachable(f"{what} ({self.remote})", address=str(self.remote), reason=reason)
        self._transport.abort()


class TcpTransport:
    """Dials and accepts `tcp/` addresses.  Makes no use of the event loop before `listen` or `dial`.

    `bind_host`: source IP address of dials (of the same family), None or unspecified lets the system
    choose.  `write_high_water`: bytes queued on a link before its handler is told to pause.
    `write_limit`: bytes queued on a link that end it, so that a peer that never reads cannot fill our
    memory.  `write_stall_s`: seconds a link may stay paused.  `close_timeout_s`: seconds that queued
    bytes get on close.
    """

    def __init__(
        self,
        *,
        bind_host: str | None = None,
        write_high_water: int = 256 * 1024,
        write_limit: int = 4 * 1024 * 1024,
        write_stall_s: float = 30.0,
        close_timeout_s: float = 2.0,
    ) -> None:
        source = ipaddress.ip_address(bind_host) if bind_host is not None else None
        self._source = source if source is not None and not source.is_unspecified else None
        self.write_high_water = write_high_water
        self.write_limit = write_limit
        self.write_stall_s = write_stall_s
        self.close_timeout_s = close_timeout_s
        self.closed = False
        self._listeners: list[Listener] = []
        self._adopting: set[asyncio.Task[None]] = set()
        # Dicts, not sets: closed in the order they were made.
        self._links: dict[TcpLink, None] = {}
        self._dials: dict[asyncio.Timeout, None] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def scheme(self) -> str:
        return "tcp"

    async def listen(self, address: Address, accept: Accept, admit: Admit | None = None) -> Address:
        """Accept links; returns the bound address (port 0 resolved). Raises ListenError, Closed."""
        self._check_open()

        def take(sock: socket.socket, sockaddr: Any, standing_s: float) -> None:
            if admit is not None and not admit(remote_address(sockaddr), standing_s):
                sock.close()
                return
            task = asyncio.get_running_loop().create_task(self._adopt(sock, accept))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

        try:
            host = (await self._resolve(address, socket.AI_PASSIVE))[0]
            self._check_open()
            listener = Listener(host, address.port, take)
        except OSError as e:
            code = e.errno or 0
            why = _LISTEN_REMEDY.get(code, os.strerror(code) if code > 0 else str(e))
            raise ListenError(f"cannot listen on {address}: {why}", address=str(address), errno=code) from e
        self._listeners.append(listener)
        return remote_address(listener.address)

    async def _adopt(self, sock: socket.socket, accept: Accept) -> None:
        """Make a link of an accepted connection."""
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(lambda: TcpLink(self, accept, False, None), sock)
        except OSError:
            sock.close()  # the caller is gone already

    async def dial(self, address: Address, handler: Accept, timeout: float) -> TcpLink:
        """Connect within `timeout` seconds.

        Raises PeerTimeout, PeerUnreachable (fields `address`, `errno`, and `local`: True where the
        failure is ours and must not be held against the peer), Closed. A host name's addresses are
        tried one after the other, each with an equal share of the time left.
        """
        self._check_open()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        error: PeerUnreachable | None = None
        hosts = await self._within(deadline, address, self._resolve(address))
        for i, host in enumerate(hosts):
            share = (deadline - loop.time()) / (len(hosts) - i)
            try:
                return await self._within(loop.time() + share, address, self._connect(host, address, handler))
            except PeerUnreachable as e:
                error = e
        assert error is not None, "_resolve returns at least one host"
        raise error

    async def close(self) -> None:
        """Stop listening, end pending dials (they raise Closed), close every link; bounded."""
        self.closed = True
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()
        for dial in list(self._dials):
            if not dial.expired():
                dial.reschedule(asyncio.get_running_loop().time())
        for link in list(self._links):
            link.close()
        try:
            async with asyncio.timeout(self.close_timeout_s):
                await self._idle.wait()
        except TimeoutError:
            for link in list(self._links):
                link.abort()
            await self._idle.wait()

    # --- inside --------------------------------------------------------------------------------

    async def _within(self, deadline: float, address: Address, work: Coroutine[Any, Any, _T]) -> _T:
        """Await one step of a dial until `deadline`; maps every failure to the documented errors."""
        limit = asyncio.timeout_at(deadline)
        try:
            async with limit:
                self._dials[limit] = None
                self._idle.clear()
                result = await work
        except TimeoutError as e:
            if self.closed:
                raise _closed() from None
            if not limit.expired():  # ETIMEDOUT from the kernel is an OSError, and a TimeoutError
                raise _unreachable(address, f"cannot reach {address}", e, PeerTimeout) from e
            raise PeerTimeout(
                f"{address} did not answer in time", address=str(address), errno=errno.ETIMEDOUT
            ) from None
        except OSError as e:
            raise _unreachable(address, f"cannot reach {address}", e) from e
        finally:
            self._dials.pop(limit, None)
            self._settle()
        if self.closed:
            if isinstance(result, TcpLink):
                result.abort()
            raise _closed()
        return result

    async def _connect(self, host: str, address: Address, accept: Accept) -> TcpLink:
        source = self._source
        same_family = source is not None and source.version == ipaddress.ip_address(host).version
        remote = remote_address((host, address.port))
        _, link = await asyncio.get_running_loop().create_connection(
            lambda: TcpLink(self, accept, True, remote),
            host,
            address.port,
            local_addr=(str(source), 0) if same_family else None,
        )
        return link

    async def _resolve(self, address: Address, flags: int = 0) -> list[str]:
        """IP addresses of an address's host, at least one. Raises OSError (gaierror)."""
        if address.ip is not None:
            return [str(address.ip)]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                address.host, address.port, type=socket.SOCK_STREAM, flags=flags
            )
        except UnicodeError as e:  # "a..b"
            raise OSError(0, f"{address.host} is not a host name") from e
        hosts = list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))
        if not hosts:
            raise OSError(errno.EADDRNOTAVAIL, f"{address.host} has no address")
        return hosts[:_MAX_RESOLVED]

    def _check_open(self) -> None:
        if self.closed:
            raise _closed()

    def _link_up(self, link: TcpLink) -> None:
        self._links[link] = None
        self._idle.clear()

    def _link_down(self, link: TcpLink) -> None:
        self._links.pop(link, None)
        self._settle()

    def _settle(self) -> None:
        if not self._links and not self._dials:
            self._idle.set()


def remote_address(sockaddr: Any) -> Address:
    """A socket address (host, port, ...) as Address; IPv4-mapped becomes IPv4, scope ids are dropped."""
    ip = canonical_ip(str(sockaddr[0]).partition("%")[0])
    return Address("tcp", str(ip), int(sockaddr[1]), "", ip)


def _closed() -> Closed:
    return Closed("this transport was closed: make a new one")


def _unreachable(
    address: Address, what: str, cause: Exception, kind: type[PeerUnreachable] = PeerUnreachable
) -> PeerUnreachable:
    code = getattr(cause, "errno", None) or 0
    why = os.strerror(code) if code > 0 else str(cause) or type(cause).__name__
    return kind(f"{what}: {why}", address=str(address), errno=code, local=code in _OUR_FAULT)
