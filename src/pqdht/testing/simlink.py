"""Hosts and links of the simulated network (the model is told in `simnet`)."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from ..errors import PeerUnreachable
from ..transport.base import Accept, LinkHandler
from ..wire.address import Address

if TYPE_CHECKING:
    from .simnet import SimNetwork
    from .simtransport import DatagramPort, Dial, SimTransport

TICK = 1e-6
"""Packets arrive at whole microseconds."""
_LOSSES_TO_RESET = 3
_RTO = 0.2  # Linux TCP_RTO_MIN, seconds
_MAX_SEGMENT = 65536
_FIRST_EPHEMERAL = 49152  # RFC 6335, 6


class Kind(IntEnum):
    """What a packet is; part of the trace."""

    SYN = 1
    SYN_ACK = 2
    REFUSED = 3
    OPEN = 4
    DATA = 5
    FIN = 6
    RST = 7
    DATAGRAM = 8


@dataclass(slots=True)
class Traffic:
    """What has arrived from one host and at it: payload bytes, and packets (control packets too)."""

    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    losses: int = 0
    """Packets it sent that were lost on the way, retransmitted or not."""


class Host:
    """One simulated machine."""

    def __init__(self, ip: str) -> None:
        self.ip = ip
        self.address = ipaddress.ip_address(ip)
        self.tag = ip.encode() + b"\0"
        self.traffic = Traffic()
        self.known = False  # somebody lives here; nobody answers for an unknown host
        self.cut = False
        self.firewalled = False
        self.up = True
        self.silent = False  # crashed without a word
        self.life = 0  # counts crashes: what belongs to an earlier life is dead
        self.side = 0
        self.skew_ms = 0
        self.uplink_free_at = 0.0
        self.delays: dict[str, float] = {}
        self.listeners: dict[int, tuple[SimTransport, Accept]] = {}
        self.links: dict[SimLink, None] = {}
        self.dials: dict[Dial, None] = {}
        self.ports: dict[int, DatagramPort] = {}
        self._next_port = _FIRST_EPHEMERAL

    def ephemeral(self) -> int:
        """The next free port for a dial or for `listen` on port 0."""
        while True:
            port = self._next_port
            self._next_port = port + 1 if port < 0xFFFF else _FIRST_EPHEMERAL
            if port not in self.listeners:
                return port


class _Segment:
    """One segment on its way."""

    __slots__ = ("arrival", "kind", "losses", "parts", "sent", "size", "whole")

    def __init__(self, kind: Kind, sent: float, arrival: float, data: bytes, losses: int = 0) -> None:
        self.kind = kind
        self.sent = sent
        self.arrival = arrival
        self.losses = losses
        self.size = len(data)
        self.parts = [data]
        self.whole = True  # False for a piece of a split segment


class SimLink:
    """One end of a simulated TCP link (transport.base.Link).

    `_queue` holds what travels *to* this end, in order; one timer waits for its head.
    """

    _net: SimNetwork
    _peer: SimLink
    __slots__ = (
        "_closing",
        "_done",
        "_handler",
        "_held_up",
        "_host",
        "_last_arrival",
        "_net",
        "_owner",
        "_peer",
        "_port",
        "_queue",
        "_reading",
        "_remote",
        "_stuck",
        "_timer",
        "_unread",
    )

    def __init__(self, host: Host, owner: SimTransport | None, port: int, remote: Address) -> None:
        """One end at `host`; `port`: the listening port of an inbound link, 0 for an outbound one."""
        self._host = host
        self._owner = owner
        self._port = port
        self._remote = remote
        self._handler: LinkHandler | None = None
        self._queue: deque[_Segment] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._last_arrival = 0.0
        self._unread = 0  # bytes this end wrote that the other has not read
        self._held_up = False  # our handler was asked to pause writing
        self._reading = True
        self._stuck = False  # a segment of ours was lost for good
        self._closing = False  # nothing more is said or heard
        self._done = False  # connection_lost was called, or never will be

    @staticmethod
    def connect(net: SimNetwork, near: SimLink, far: SimLink, accept: Accept) -> None:
        """Bring a link up: the dialling end now, the listening end when OPEN arrives there."""
        near._net = far._net = net
        near._peer, far._peer = far, near
        near._host.links[near] = None
        near._send(Kind.OPEN)
        near._handler = accept(near)

    @property
    def remote(self) -> Address:
        return self._remote

    @property
    def outbound(self) -> bool:
        return self._port == 0

    @property
    def owner(self) -> SimTransport | None:
        """The transport that dialled or accepted; None until accepted."""
        return self._owner

    def write(self, data: bytes) -> None:
        """Queue bytes; silently dropped after close."""
        if self._closing or not data:
            return
        self._unread += len(data)
        self._send(Kind.DATA, bytes(data))
        if self._unread > self._net.send_buffer and not self._held_up and self._handler is not None:
            self._held_up = True
            self._handler.pause_writing()

    def pause_reading(self) -> None:
        if self._done:
            return
        self._reading = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def resume_reading(self) -> None:
        self._reading = True
        self._schedule()

    def close(self) -> None:
        """Send what is queued, then end."""
        self._end(Kind.FIN, None)

    def abort(self) -> None:
        """End now; what already is on its way still arrives."""
        self._end(Kind.RST, None)

    def vanish(self, *, reset: bool) -> None:
        """The host died: its handler hears nothing; the other end hears a reset, or nothing either."""
        self._handler = None
        self._lost(None)
        if reset:
            self._send_reset()

    # --- sending -------------------------------------------------------------------------------

    def _end(self, kind: Kind, error: Exception | None) -> None:
        if self._closing:
            return
        if kind is Kind.RST:
            self._send_reset()
        else:
            self._send(kind)
        self._closing = True
        self._net.loop.call_soon(self._lost, error)

    def _send(self, kind: Kind, data: bytes = b"") -> None:
        """Put a segment on its way to the other end."""
        if self._stuck:
            return
        net, peer = self._net, self._peer
        now = net.loop.time()
        if kind is Kind.DATA and peer._queue and net.bandwidth is None:
            tail = peer._queue[-1]
            if tail.kind is kind and tail.sent == now and tail.size + len(data) <= _MAX_SEGMENT:
                tail.parts.append(data)
                tail.size += len(data)
                return
        losses = 0
        while losses < _LOSSES_TO_RESET and net.lost(self._host):
            losses += 1
        if losses == _LOSSES_TO_RESET:
            self._stuck = True
            net.loop.call_later(losses * self._rto(), self._give_up)
            return
        self._travel(_Segment(kind, now, net.arrival(self._host, peer._host, len(data)), data, losses))

    def _travel(self, segment: _Segment) -> None:
        """Queue a segment at the other end, behind all before it."""
        peer = self._peer
        arrival = segment.arrival + segment.losses * self._rto() if segment.losses else segment.arrival
        peer._last_arrival = segment.arrival = max(arrival, peer._last_arrival)
        peer._queue.append(segment)
        peer._schedule()

    def _rto(self) -> float:
        """Retransmission timeout: 200 ms, or one round trip where that is longer."""
        return max(_RTO, 2 * self._host.delays.get(self._peer._host.ip, 0.0))

    def _give_up(self) -> None:
        """Three losses in a row: the link is reset, and the other end is told if it can be."""
        self._send_reset()
        self._lost(self._broken("three losses in a row", errno.ETIMEDOUT))

    def _send_reset(self) -> None:
        """A reset travels behind what was sent before, and is never repeated."""
        if not self._peer._done:
            net = self._net
            arrival = net.arrival(self._host, self._peer._host, 0)
            self._travel(_Segment(Kind.RST, net.loop.time(), arrival, b""))

    # --- receiving -----------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._queue and self._timer is None and self._reading:
            self._timer = self._net.loop.call_at(self._queue[0].arrival, self._arrive)

    def _arrive(self) -> None:
        """Deliver what is due; called by the timer of the head."""
        self._timer = None
        queue, net, sender = self._queue, self._net, self._peer._host
        due = net.loop.time() + TICK  # the loop may call a timer up to one tick early
        while queue and self._reading and queue[0].arrival <= due:
            head = queue[0]
            if net.blocked(sender, self._host):
                self._lost_on_the_way(head)
                break
            queue.popleft()
            data = head.parts[0] if len(head.parts) == 1 else b"".join(head.parts)
            if net.split and head.whole and head.size > 1:
                self._split(head, data)
                continue
            net.deliver(head.kind, sender, self._host, data)
            try:
                self._receive(head.kind, data)
            except Exception as e:  # as asyncio does: report, and end the link
                net.loop.call_exception_handler({"message": "link handler failed", "exception": e})
                self._end(Kind.RST, e)
        self._schedule()

    def _split(self, head: _Segment, data: bytes) -> None:
        """Put a segment back in random pieces."""
        for piece in reversed(self._net.cut_up(data)):
            part = _Segment(head.kind, head.sent, head.arrival, piece)
            part.whole = False
            self._queue.appendleft(part)

    def _lost_on_the_way(self, head: _Segment) -> None:
        """The path is cut: another retransmission, or the end. A reset is never repeated."""
        head.losses += 1
        self._peer._host.traffic.losses += 1
        if head.kind is Kind.RST:
            self._queue.popleft()
        elif head.losses < _LOSSES_TO_RESET:
            head.arrival = self._net.loop.time() + self._peer._rto()
        else:
            self._queue.clear()
            self._peer._give_up()

    def _receive(self, kind: Kind, data: bytes) -> None:
        if kind is Kind.DATA:
            self._peer._read(len(data))
            if self._closing:
                self._send_reset()  # nobody is here any more
            elif self._handler is not None:
                self._handler.data_received(data)
        elif kind is Kind.OPEN:
            self._open()
        elif kind is Kind.FIN:
            self._lost(None)
        else:
            self._lost(self._broken("reset by peer", errno.ECONNRESET))

    def _read(self, size: int) -> None:
        """The other end has taken `size` bytes of ours."""
        self._unread -= size
        if self._held_up and self._unread <= self._net.send_buffer // 4:
            self._held_up = False
            self._net.loop.call_soon(self._resume_writing)

    def _resume_writing(self) -> None:
        if self._handler is not None and not self._done:
            self._handler.resume_writing()

    def _open(self) -> None:
        """The first packet of a link reaches the listener, if there still is one."""
        listener = self._host.listeners.get(self._port)
        if listener is None:
            self.vanish(reset=True)
            return
        self._host.links[self] = None
        self._owner, accept = listener
        self._handler = accept(self)

    def _broken(self, why: str, code: int) -> PeerUnreachable:
        what = f"the link to {self._remote} broke: {why}"
        return PeerUnreachable(what, address=str(self._remote), errno=code, local=False)

    def _lost(self, error: Exception | None) -> None:
        """The end of this end; called from the loop only."""
        if self._done:
            return
        self._closing = self._done = True
        self._host.links.pop(self, None)
        if self._handler is not None:
            self._handler.connection_lost(error)
        if not self._reading:
            self.resume_reading()  # what still arrives is answered with a reset
