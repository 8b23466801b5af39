"""A simulated network in virtual time: latency, loss, partitions, crashes, clock skew, from one seed.

Hosts are IP addresses; each gives a `Transport` of scheme ``tcp``, so that a node cannot tell the
simulator from the real thing.  A simulated TCP link is an ordered stream: whatever is written in one
instant is one segment; a lost segment costs one retransmission timeout (200 ms, or the round trip
where that is longer) and holds up all behind it; the third loss in a row resets the link.  There is
no congestion control.  Datagrams are lost, doubled and reordered.

Every packet that arrives enters a running hash (`trace_hash`): same seed, same hash.

    async def main():
        net = SimNetwork(seed=7, latency=Coordinates(7), loss=0.05)
        a, b = net.transport("10.0.1.1"), net.transport("10.0.2.1")
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections import deque
from collections.abc import Callable, Iterable
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from ..errors import Closed, ListenError
from ..wire.address import Address
from .latency import Constant, Latency
from .simlink import TICK, Host, Kind, SimLink, Traffic
from .simtransport import DatagramPort, SimTransport

__all__ = ["DatagramPort", "Host", "Kind", "Packet", "SimLink", "SimNetwork", "SimTransport", "Traffic"]

EPOCH_MS = 1_767_225_600_000
"""Wall clock at virtual time 0: 2026-01-01T00:00:00Z."""
_LOOPBACK = 25e-6  # one way within one host, seconds
_MAX_CUTS = 5
_HEADER = Struct("<QBI")


class Packet(NamedTuple):
    """One delivered packet, as kept for debugging."""

    time_us: int
    kind: Kind
    source: str
    destination: str
    length: int
    digest: str


class SimNetwork:
    """The network.  Everything random in it comes from `seed`.

    loop: usually a `VirtualLoop`; default the running one.  latency: see `latency`.  loss: share of
    packets lost, 0..1.  bandwidth: bytes per second of each host's uplink (None: unlimited).  split:
    deliver each segment in random pieces, to test parsers.  send_buffer: bytes on the way or unread
    at which a writer is paused.  duplicate, reorder: share of datagrams sent twice, or delayed up to
    twice as long.  epoch_ms: wall clock at the start.  keep: how many of the last packets `recent`
    holds.  loss, split, duplicate and reorder may be changed at any time.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        seed: int = 0,
        *,
        latency: Latency | None = None,
        loss: float = 0.0,
        bandwidth: float | None = None,
        split: bool = False,
        send_buffer: int = 262_144,
        duplicate: float = 0.0,
        reorder: float = 0.0,
        epoch_ms: int = EPOCH_MS,
        keep: int = 0,
    ) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self.dice = random.Random(seed)
        self.loss = loss
        self.duplicate = duplicate
        self.reorder = reorder
        self.split = split
        self.bandwidth = bandwidth
        self.send_buffer = send_buffer
        self.recent: deque[Packet] = deque(maxlen=keep)
        self._latency = latency or Constant()
        self._epoch_ms = epoch_ms
        self._hosts: dict[str, Host] = {}
        self._trace = blake2b(digest_size=32)
        self._divided = 0  # counts partitions, so that a late heal does not end a newer one

    # --- hosts ---------------------------------------------------------------------------------

    def host(self, ip: str) -> Host:
        """The machine at an IP address, made when first asked for. Raises ValueError."""
        host = self._hosts.get(ip)
        if host is None:
            canonical = str(ipaddress.ip_address(ip))
            host = self._hosts.setdefault(canonical, Host(canonical))
        return host

    def transport(self, ip: str) -> SimTransport:
        """A transport of the host `ip`. It dies with the host: after `restart`, ask for a new one."""
        host = self.host(ip)
        host.known = True
        return SimTransport(self, host)

    def datagram(self, ip: str, port: int, receive: Callable[[bytes, Address], None]) -> DatagramPort:
        """Open udp/ip:port; `receive(data, source)` is called per datagram. Raises ListenError."""
        host = self.host(ip)
        host.known = True
        if port in host.ports:
            raise ListenError(f"udp/{ip}:{port} is in use", address=f"udp/{ip}:{port}")
        return DatagramPort(self, host, port, receive)

    def clock(self, ip: str) -> Callable[[], int]:
        """The wall clock of a host, ms since the epoch."""
        host, loop, epoch = self.host(ip), self.loop, self._epoch_ms
        return lambda: epoch + round(loop.time() / TICK) // 1000 + host.skew_ms

    def set_skew(self, ip: str, ms: int) -> None:
        """Set a host's clock ahead by `ms` (behind where negative)."""
        self.host(ip).skew_ms = ms

    def traffic(self, ip: str) -> Traffic:
        """The counters of one host; they go on counting."""
        return self.host(ip).traffic

    # --- faults --------------------------------------------------------------------------------

    def crash(self, ip: str, *, silent: bool = False) -> None:
        """Kill the host's process: its listeners and links are gone, its transports are dead.

        Its own link handlers hear nothing, they are dead too; stopping that node's tasks is the
        caller's part.  Peers' links are reset and dials refused; with `silent` (power loss) peers
        hear nothing and dials time out.
        """
        host = self.host(ip)
        host.up, host.silent, host.life = False, silent, host.life + 1
        host.listeners.clear()
        host.ports.clear()
        for link in tuple(host.links):
            link.vanish(reset=not silent)
        for dial in tuple(host.dials):
            dial.abandon(Closed(f"{ip} crashed"))

    def restart(self, ip: str) -> None:
        """Bring a crashed host back, with no listener and no link. Old links are reset when used."""
        host = self.host(ip)
        host.up, host.silent = True, False

    def unreachable(self, ip: str, on: bool = True, *, inbound_only: bool = False) -> None:
        """Swallow all packets to and from a host; `inbound_only`: only dials to it (as a NAT does)."""
        host = self.host(ip)
        if inbound_only:
            host.firewalled = on
        else:
            host.cut = on

    def partition(self, groups: Iterable[Iterable[str]], heal_at: float | None = None) -> None:
        """Divide the network; hosts in no group form one more. A new partition replaces the old.

        heal_at: virtual time in seconds at which it ends (None: at `heal()`).
        """
        self.heal()
        for side, group in enumerate(groups, 1):
            for ip in group:
                self.host(ip).side = side
        if heal_at is not None:
            self.loop.call_at(heal_at, self._heal_if, self._divided)

    def heal(self) -> None:
        """End the partition."""
        self._divided += 1
        for host in self._hosts.values():
            host.side = 0

    def _heal_if(self, divided: int) -> None:
        if divided == self._divided:
            self.heal()

    # --- packets -------------------------------------------------------------------------------

    def trace_hash(self) -> str:
        """Hex BLAKE2b of every packet delivered so far: time, kind, length, hosts, content."""
        return self._trace.hexdigest()

    def blocked(self, source: Host, target: Host) -> bool:
        """True where packets from one host to another vanish."""
        dark = source.cut or source.silent or target.cut or target.silent or not target.known
        return dark or source.side != target.side

    def lost(self, sender: Host) -> bool:
        """Throw the dice for one packet."""
        if self.loss and self.dice.random() < self.loss:
            sender.traffic.losses += 1
            return True
        return False

    def arrival(self, sender: Host, receiver: Host, size: int) -> float:
        """When a packet sent now arrives, were it not lost: virtual seconds, in whole microseconds."""
        delay = sender.delays.get(receiver.ip)
        if delay is None:
            delay = self._latency.one_way(sender.ip, receiver.ip) if sender is not receiver else _LOOPBACK
            sender.delays[receiver.ip] = delay
        if self._latency.jitter:
            delay *= 1 + self._latency.jitter * self.dice.random()
        start = self.loop.time()
        if self.bandwidth is not None:
            start = sender.uplink_free_at = max(start, sender.uplink_free_at) + size / self.bandwidth
        return round((start + delay) / TICK) * TICK

    def deliver(self, kind: Kind, sender: Host, receiver: Host, data: bytes) -> None:
        """Count and hash a packet that has arrived."""
        time_us = round(self.loop.time() / TICK)
        size = len(data)
        sent, received = sender.traffic, receiver.traffic
        sent.bytes_sent += size
        sent.packets_sent += 1
        received.bytes_received += size
        received.packets_received += 1
        self._trace.update(_HEADER.pack(time_us, kind, size) + sender.tag + receiver.tag)
        if size:
            self._trace.update(data)
        if self.recent.maxlen:
            digest = blake2b(data, digest_size=8).hexdigest()
            self.recent.append(Packet(time_us, kind, sender.ip, receiver.ip, size, digest))

    def cut_up(self, data: bytes) -> list[bytes]:
        """Random pieces of at least two bytes of `data`, at least one byte each."""
        cuts = sorted({self.dice.randrange(1, len(data)) for _ in range(self.dice.randint(0, _MAX_CUTS))})
        return [data[i:j] for i, j in zip([0, *cuts], [*cuts, len(data)], strict=True)]
