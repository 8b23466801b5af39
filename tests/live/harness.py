"""What the live tests share: a bounded run, networks, raw sockets, and a forwarder that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

from pqdht import DEMO, Config, SecureDHT
from pqdht.constants import Limits, ParameterSet
from pqdht.node.environment import Parts
from pqdht.testing.testnet import group_address
from pqdht.wire.address import Address, parse_address

TIMEOUT_S = 60.0


def run(main: Coroutine[Any, Any, None], timeout_s: float = TIMEOUT_S) -> None:
    """Run on asyncio's own loop; a hang fails, and so does any error that only the loop got to see."""
    unseen: list[dict[str, Any]] = []

    async def bounded() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unseen.append(context))
        async with asyncio.timeout(timeout_s):
            await main

    asyncio.run(bounded())
    assert not unseen, unseen


def strict(**limits: Any) -> ParameterSet:
    """The demo network with other limits."""
    return replace(DEMO, limits=replace(Limits(), **limits))


def make(
    index: int, *, bootstrap: tuple[str, ...] = (), parts: Parts | None = None, **settings: Any
) -> SecureDHT:
    """Node `index` on its own 127.a.b.1, not yet started."""
    config: dict[str, Any] = {
        "network": "demo",
        "listen": (f"tcp/{group_address(index)}:0",),
        "bootstrap": bootstrap,
    }
    return SecureDHT(Config(**(config | settings)), parts)


def entry(node: SecureDHT) -> str:
    """How others bootstrap from a node."""
    return f"{node.node_id.hex()}@{node.env.addresses[0]}"


def address(node: SecureDHT) -> Address:
    """Where a node listens."""
    return parse_address(node.env.addresses[0])


def counter(node: SecureDHT, name: str) -> int:
    """One counter of `status()`."""
    return int(node.status()["counters"].get(name, 0))


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for something that no event tells of."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


# --- raw sockets ---------------------------------------------------------------------------------


class Raw:
    """A TCP connection that speaks no protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def connect(cls, to: Address, source: str | None = None) -> Raw:
        local = (source, 0) if source is not None else None
        return cls(*await asyncio.open_connection(to.host, to.port, local_addr=local))

    async def send(self, data: bytes) -> None:
        """Send as much as the other side takes; its hanging up is not our failure."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def drained(self) -> bytes:
        """All that comes until the other side hangs up."""
        received = bytearray()
        with contextlib.suppress(ConnectionError):
            while data := await self.reader.read(65_536):
                received += data
        return bytes(received)

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


# --- a bad network -------------------------------------------------------------------------------

Mangle = Callable[[bytes], list[bytes]]
"""One chunk as it came from a sender -> the chunks to pass on."""


def whole(data: bytes) -> list[bytes]:
    """Pass on what came."""
    return [data]


def bytewise(data: bytes) -> list[bytes]:
    """One byte at a time."""
    return [data[i : i + 1] for i in range(len(data))]


def splitter(dice: random.Random) -> Mangle:
    """Cut anywhere."""

    def split(data: bytes) -> list[bytes]:
        cuts = sorted({0, len(data), *(dice.randrange(len(data)) for _ in range(8))})
        return [data[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]

    return split


def at_offset(offset: int, change: Mangle) -> Mangle:
    """Change the one chunk in which byte `offset` of the stream lies (chunks end before it)."""
    seen = 0

    def mangle(data: bytes) -> list[bytes]:
        nonlocal seen
        start, seen = seen, seen + len(data)
        if not start <= offset < seen:
            return [data]
        cut = offset - start
        return [data[:cut], *change(data[cut:])]

    return mangle


class Forwarder:
    """Passes bytes between whoever connects and `target`, mangled on the way to and from it.

    `to_target` and `from_target` make a fresh mangler for each connection.
    """

    def __init__(
        self,
        target: Address,
        to_target: Callable[[], Mangle],
        from_target: Callable[[], Mangle],
        delay_s: float,
    ) -> None:
        self._target = target
        self._delay_s = delay_s
        self._to_target = to_target
        self._from_target = from_target
        self._tasks: dict[asyncio.Task[None], None] = {}
        self.connections = 0
        self.address = Address("tcp", "127.0.0.1", 0)

    @classmethod
    @contextlib.asynccontextmanager
    async def before(
        cls,
        target: Address,
        to_target: Callable[[], Mangle] = lambda: whole,
        from_target: Callable[[], Mangle] = lambda: whole,
        delay_s: float = 0.0,
        host: str = "127.77.7.1",
    ) -> AsyncIterator[Forwarder]:
        """A forwarder on its own address in front of `target`; each chunk comes `delay_s` late."""
        self = cls(target, to_target, from_target, delay_s)
        server = await asyncio.start_server(self._accept, host, 0)
        port = server.sockets[0].getsockname()[1]
        self.address = parse_address(f"tcp/{host}:{port}")
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = None
        self.connections += 1
        try:
            far_reader, far_writer = await asyncio.open_connection(self._target.host, self._target.port)
            await asyncio.gather(
                self._pump(reader, far_writer, self._to_target()),
                self._pump(far_reader, writer, self._from_target()),
            )
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            del self._tasks[task]
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mangle: Mangle) -> None:
        try:
            while data := await reader.read(65_536):
                await asyncio.sleep(self._delay_s)
                for piece in mangle(data):
                    writer.write(piece)
                    await writer.drain()
                    await asyncio.sleep(0)  # lets the receiver see the cut
        finally:
            writer.close()
