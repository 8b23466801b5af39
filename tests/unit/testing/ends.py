"""Link handlers that record what happens to them."""

from __future__ import annotations

import asyncio

from pqdht.testing.simnet import SimNetwork, SimTransport
from pqdht.transport.base import Link
from pqdht.wire.address import Address, parse_address

PORT = 4733


def at(ip: str, port: int = PORT) -> Address:
    return parse_address(f"tcp/[{ip}]:{port}" if ":" in ip else f"tcp/{ip}:{port}")


class End:
    """Records everything, with the virtual time."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.loop = asyncio.get_running_loop()
        self.opened = self.loop.time()
        self.chunks: list[bytes] = []
        self.times: list[float] = []
        self.lost: list[tuple[float, Exception | None]] = []
        self.paused: list[bool] = []

    @property
    def data(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def error(self) -> Exception | None:
        """Why the link ended; fails unless it ended exactly once."""
        ((_, error),) = self.lost
        return error

    def data_received(self, data: bytes) -> None:
        assert not self.lost, "data after the end"
        self.chunks.append(data)
        self.times.append(self.loop.time())

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.append((self.loop.time(), error))

    def pause_writing(self) -> None:
        self.paused.append(True)

    def resume_writing(self) -> None:
        self.paused.append(False)


class Listener:
    """A listening host that keeps the ends it accepted."""

    def __init__(self, net: SimNetwork, ip: str) -> None:
        self.ip = ip
        self.net = net
        self.transport = net.transport(ip)
        self.ends: list[End] = []

    async def start(self) -> Listener:
        await self.transport.listen(at(self.ip), self.accept)
        return self

    def accept(self, link: Link) -> End:
        self.ends.append(End(link))
        return self.ends[-1]


async def dial(transport: SimTransport, ip: str, timeout: float = 5.0) -> End:
    """Dial and return the near end."""
    ends: list[End] = []

    def accept(link: Link) -> End:
        ends.append(End(link))
        return ends[0]

    link = await transport.dial(at(ip), accept, timeout)
    assert link is ends[0].link
    return ends[0]


async def pair(net: SimNetwork, a: str = "10.0.1.1", b: str = "10.0.2.1") -> tuple[End, End]:
    """Two hosts with one open link between them: the dialling and the listening end."""
    listener = await Listener(net, b).start()
    near = await dial(net.transport(a), b)
    await asyncio.sleep(1)
    return near, listener.ends[0]
