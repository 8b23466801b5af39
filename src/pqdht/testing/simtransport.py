"""Dialling and listening in the simulated network, and its datagrams."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..errors import Closed, ListenError, PeerTimeout, PeerUnreachable
from ..transport.base import Accept, Admit, Link
from ..wire.address import Address
from .simlink import Host, Kind, SimLink

if TYPE_CHECKING:
    from .simnet import SimNetwork

_CONNECT_RTO = 1.0  # RFC 6298, 2.1, seconds; doubles with each attempt
_MAX_DATAGRAM = 65507  # 65535 - 8 (UDP) - 20 (IPv4)
_WILDCARDS = ("0.0.0.0", "::")


class Dial:
    """One attempt to connect: SYN, repeated after 1, 2, 4, ... s, until answered or given up."""

    def __init__(self, owner: SimTransport, address: Address, target: Host, accept: Accept) -> None:
        self.owner = owner
        self._net = owner.net
        self._host = owner.host
        self._target = target
        self._address = address
        self._accept = accept
        self._timer: asyncio.TimerHandle | None = None
        self.result: asyncio.Future[SimLink] = self._net.loop.create_future()
        self._attempt(_CONNECT_RTO)

    def fail(self, kind: type[PeerUnreachable], why: str, code: int) -> None:
        """End the dial with a remote fault, as transport.tcp names it."""
        self.abandon(kind(f"{self._address} {why}", address=str(self._address), errno=code, local=False))

    def abandon(self, error: Exception) -> None:
        if not self.result.done():
            self.result.set_exception(error)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _attempt(self, rto: float) -> None:
        if self.result.done():
            return
        net = self._net
        self._timer = net.loop.call_later(rto, self._attempt, 2 * rto)
        if not net.lost(self._host):
            net.loop.call_at(net.arrival(self._host, self._target, 0), self._syn)

    def _syn(self) -> None:
        net, target = self._net, self._target
        if net.blocked(self._host, target):
            self._host.traffic.losses += 1
            return
        net.deliver(Kind.SYN, self._host, target, b"")
        if target.firewalled or net.lost(target):
            return
        kind = Kind.SYN_ACK if self._address.port in target.listeners else Kind.REFUSED
        net.loop.call_at(net.arrival(target, self._host, 0), self._answer, kind)

    def _answer(self, kind: Kind) -> None:
        net = self._net
        if net.blocked(self._target, self._host) or self.result.done():
            return
        net.deliver(kind, self._target, self._host, b"")
        if kind is Kind.REFUSED:
            self.fail(PeerUnreachable, "refused the connection", errno.ECONNREFUSED)
            return
        source = Address("tcp", self._host.ip, self._host.ephemeral(), "", self._host.address)
        near = SimLink(self._host, self.owner, 0, self._address)
        far = SimLink(self._target, None, self._address.port, source)
        try:
            SimLink.connect(net, near, far, self._accept)
        except Exception as e:
            near.vanish(reset=True)
            self.abandon(e)
            return
        if self.result.done():  # `accept` itself may have ended the dial
            near.abort()
        else:
            self.result.set_result(near)


class SimTransport:
    """Dials and listens for one host (transport.base.Transport)."""

    scheme = "tcp"

    def __init__(self, net: SimNetwork, host: Host) -> None:
        self.net = net
        self.host = host
        self._life = host.life
        self._closed = False

    @property
    def alive(self) -> bool:
        """False once closed, or once the host crashed."""
        return not self._closed and self.host.up and self._life == self.host.life

    def _check_alive(self) -> None:
        if not self.alive:
            raise _closed()

    async def listen(self, address: Address, accept: Accept, admit: Admit | None = None) -> Address:
        """Accept links; returns the bound address (port 0 resolved). Raises ListenError, Closed.

        Nobody ever waits to be accepted here.
        """
        host = self.host
        self._check_alive()
        if address.scheme != self.scheme or address.host not in (host.ip, *_WILDCARDS):
            raise ListenError(f"{address} is not an address of {host.ip}", address=str(address))
        if address.port in host.listeners:
            raise ListenError(f"{address} is in use", address=str(address))
        port = address.port or host.ephemeral()
        host.listeners[port] = (self, accept)
        return address.with_port(port)

    async def dial(self, address: Address, handler: Accept, timeout: float) -> Link:
        """Connect: one round trip, more with losses.

        Raises PeerUnreachable where the host refuses, PeerTimeout where it does not answer, Closed
        where this transport is closed or its host crashes.
        """
        self._check_alive()
        if address.scheme != self.scheme or address.ip is None:
            raise PeerUnreachable(f"no host {address} in the simulated network", address=str(address))
        dial = Dial(self, address, self.net.host(address.host), handler)
        timer = self.net.loop.call_later(
            timeout, dial.fail, PeerTimeout, "did not answer in time", errno.ETIMEDOUT
        )
        self.host.dials[dial] = None
        try:
            return await dial.result
        except asyncio.CancelledError:
            if dial.result.done() and not dial.result.cancelled() and dial.result.exception() is None:
                dial.result.result().abort()
            raise
        finally:
            timer.cancel()
            dial.stop()
            del self.host.dials[dial]

    async def close(self) -> None:
        """Stop listening and close every link; ends when their handlers have heard."""
        if not self.alive:
            return
        self._closed = True
        host = self.host
        host.listeners = {port: entry for port, entry in host.listeners.items() if entry[0] is not self}
        for dial in tuple(host.dials):
            if dial.owner is self:
                dial.abandon(_closed())
        for link in tuple(host.links):
            if link.owner is self:
                link.close()
        await asyncio.sleep(0)


def _closed() -> Closed:
    return Closed("this transport was closed, or its host crashed: make a new one")


class DatagramPort:
    """An open simulated UDP port: datagrams are lost, doubled, reordered, never repeated."""

    def __init__(
        self, net: SimNetwork, host: Host, port: int, receive: Callable[[bytes, Address], None]
    ) -> None:
        self.address = Address("udp", host.ip, port, "", host.address)
        self._net = net
        self._host = host
        self._receive = receive
        host.ports[port] = self

    def send(self, data: bytes, address: Address) -> None:
        """Send one datagram of at most 65,507 bytes (ValueError); dropped once closed."""
        if len(data) > _MAX_DATAGRAM:
            raise ValueError(f"datagram of {len(data)} bytes, at most {_MAX_DATAGRAM}")
        net, target = self._net, self._net.host(address.host)
        if self._host.ports.get(self.address.port) is not self:
            return
        copies = 2 if net.duplicate and net.dice.random() < net.duplicate else 1
        for _ in range(copies):
            if net.lost(self._host):
                continue
            arrival = net.arrival(self._host, target, len(data))
            if net.reorder and net.dice.random() < net.reorder:
                arrival += (arrival - net.loop.time()) * net.dice.random()
            net.loop.call_at(arrival, self._arrive, target, address.port, bytes(data))

    def _arrive(self, target: Host, port: int, data: bytes) -> None:
        if self._net.blocked(self._host, target):
            self._host.traffic.losses += 1
            return
        self._net.deliver(Kind.DATAGRAM, self._host, target, data)
        receiver = target.ports.get(port)
        if receiver is not None:
            receiver._receive(data, self.address)

    def close(self) -> None:
        """Free the port; what is on its way to it is dropped."""
        if self._host.ports.get(self.address.port) is self:
            del self._host.ports[self.address.port]
