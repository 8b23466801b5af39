"""The TCP transport over real sockets, on asyncio's loop and on uvloop."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from pqdht.errors import Closed, ListenError, PeerTimeout, PeerUnreachable
from pqdht.transport.accepting import PER_TURN
from pqdht.transport.base import Link
from pqdht.transport.tcp import TcpTransport, remote_address
from pqdht.wire.address import Address, parse_address

try:
    import uvloop
except ImportError:
    LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
else:
    LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

Run = Callable[[Coroutine[Any, Any, None]], None]
ANY4 = parse_address("tcp/127.0.0.1:0")


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Run:
    def run(main: Coroutine[Any, Any, None]) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(20):  # a hang is a failure, not a hang
                await main

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(bounded())

    return run


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


class Recorder:
    """A handler that records what happened to one link."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.data = b""
        self.events: list[str] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._changed = asyncio.Event()

    def data_received(self, data: bytes) -> None:
        self.data += data
        self._changed.set()

    def connection_lost(self, error: Exception | None) -> None:
        assert not self.lost.done(), "connection_lost came twice"
        self.lost.set_result(error)
        self._changed.set()

    def pause_writing(self) -> None:
        self.events.append("pause")
        self._changed.set()

    def resume_writing(self) -> None:
        self.events.append("resume")
        self._changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._changed.clear()
            await self._changed.wait()


class Side:
    """Accepts links and hands out their recorders."""

    def __init__(self) -> None:
        self.links: asyncio.Queue[Recorder] = asyncio.Queue()

    def __call__(self, link: Link) -> Recorder:
        recorder = Recorder(link)
        self.links.put_nowait(recorder)
        return recorder


async def pair(
    server: TcpTransport, client: TcpTransport, at: str = "tcp/127.0.0.1:0"
) -> tuple[Recorder, Recorder]:
    """A link between two transports: (client end, server end)."""
    accepted, dialled = Side(), Side()
    bound = await server.listen(parse_address(at), accepted)
    await client.dial(bound, dialled, 5)
    return await dialled.links.get(), await accepted.links.get()


async def raw_pair(server: TcpTransport) -> tuple[socket.socket, Recorder]:
    """A plain socket, small receive buffer, connected to a transport."""
    side = Side()
    bound = await server.listen(ANY4, side)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (bound.host, bound.port))
    return raw, await side.links.get()


@contextlib.contextmanager
def blackhole() -> Iterator[str]:
    """An address whose accept queue is full: further connection attempts get no answer (Linux)."""
    with socket.socket() as listener, contextlib.ExitStack() as fillers:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(2):
            filler = fillers.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"tcp/127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "at",
    [
        "tcp/127.0.0.1:0",
        pytest.param(
            "tcp/[::1]:0", marks=pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
        ),
        "tcp/localhost:0",
    ],
)
def test_bytes_both_ways(run: Run, at: str) -> None:
    async def main() -> None:
        server, client = TcpTransport(), TcpTransport()
        near, far = await pair(server, client, at)
        near.link.write(b"ping")
        await far.until(lambda: far.data == b"ping")
        far.link.write(b"po")
        far.link.write(b"ng")
        await near.until(lambda: near.data == b"pong")
        assert near.link.outbound
        assert not far.link.outbound
        assert near.link.remote.ip is not None
        assert near.link.remote.scheme == server.scheme == "tcp"
        assert far.link.remote.host == near.link.remote.host
        for end in (near, far):
            sock = end.link._transport.get_extra_info("socket")  # type: ignore[attr-defined]
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await client.close()
        assert await near.lost is None
        assert await far.lost is None
        await server.close()

    run(main())


def test_a_host_name_is_dialled_at_its_addresses(run: Run) -> None:
    async def main() -> None:
        server, client, side = TcpTransport(), TcpTransport(), Side()
        bound = await server.listen(ANY4, Side())
        link = await client.dial(parse_address(f"tcp/localhost:{bound.port}"), side, 5)
        assert str(link.remote) == str(bound)
        await client.close()
        await server.close()

    run(main())


@pytest.mark.parametrize("host", ["a..b", "x" * 64 + ".example"])
def test_an_impossible_host_name_is_unreachable(run: Run, host: str) -> None:
    async def main() -> None:
        client = TcpTransport()
        with pytest.raises(PeerUnreachable):
            await client.dial(Address("tcp", host, 1), Side(), 5)
        with pytest.raises(ListenError):
            await client.listen(Address("tcp", host, 1), Side())

    run(main())


def test_dials_leave_from_the_bind_host(run: Run) -> None:
    async def main() -> None:
        server, client = TcpTransport(), TcpTransport(bind_host="127.5.6.7")
        _, far = await pair(server, client)
        assert far.link.remote.host == "127.5.6.7"
        assert far.link.remote.group == "127.5.6.0/24"
        await client.close()
        await server.close()

    run(main())


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv4_bind_host_does_not_hinder_ipv6(run: Run) -> None:
    async def main() -> None:
        server, client = TcpTransport(), TcpTransport(bind_host="127.5.6.7")
        _, far = await pair(server, client, "tcp/[::1]:0")
        assert far.link.remote.host == "::1"
        await client.close()
        await server.close()

    run(main())


def test_an_ipv4_mapped_remote_is_ipv4() -> None:
    address = remote_address(("::ffff:203.0.113.5", 4733, 0, 0))
    assert str(address) == "tcp/203.0.113.5:4733"
    assert address.group == "203.0.113.0/24"
    assert str(remote_address(("fe80::1%eth0", 1, 0, 2))) == "tcp/[fe80::1]:1"


def test_an_occupied_port_says_so(run: Run) -> None:
    async def main() -> None:
        first, second = TcpTransport(), TcpTransport()
        bound = await first.listen(ANY4, Side())
        with pytest.raises(ListenError, match="another program listens") as caught:
            await second.listen(bound, Side())
        assert caught.value.fields == {"address": str(bound), "errno": errno.EADDRINUSE}
        await first.close()
        assert await second.listen(bound, Side()) == bound
        await second.close()

    run(main())


def test_a_foreign_listening_address_says_so(run: Run) -> None:
    async def main() -> None:
        with pytest.raises(ListenError, match="no such address") as caught:
            await TcpTransport().listen(parse_address("tcp/203.0.113.9:0"), Side())
        assert caught.value.fields["errno"] == errno.EADDRNOTAVAIL

    run(main())


def test_connection_refused(run: Run) -> None:
    async def main() -> None:
        server, client = TcpTransport(), TcpTransport()
        bound = await server.listen(ANY4, Side())
        await server.close()
        with pytest.raises(PeerUnreachable, match="refused") as caught:
            await client.dial(bound, Side(), 5)
        assert not isinstance(caught.value, PeerTimeout)
        assert caught.value.fields == {"address": str(bound), "errno": errno.ECONNREFUSED, "local": False}

    run(main())


def test_a_dial_that_cannot_leave_is_our_own_fault(run: Run) -> None:
    async def main() -> None:
        client = TcpTransport(bind_host="203.0.113.9")
        with pytest.raises(PeerUnreachable) as caught:
            await client.dial(parse_address("tcp/127.0.0.1:1"), Side(), 5)
        assert caught.value.fields["local"] is True

    run(main())


def test_a_silent_address_times_out(run: Run) -> None:
    async def main() -> None:
        with blackhole() as address, pytest.raises(PeerTimeout) as caught:
            await TcpTransport().dial(parse_address(address), Side(), 0.1)
        assert caught.value.fields["address"] == address

    run(main())


def test_close_ends_a_pending_dial(run: Run) -> None:
    async def main() -> None:
        client = TcpTransport()
        with blackhole() as address:
            dial = asyncio.ensure_future(client.dial(parse_address(address), Side(), 3600))
            await asyncio.wait([dial], timeout=0)  # let it start
            assert not dial.done()
            await client.close()
            with pytest.raises(Closed):
                await dial

    run(main())


def test_closing_again_at_any_moment_is_harmless(run: Run) -> None:
    async def main() -> None:
        client = TcpTransport()

        async def close_after(iterations: int) -> None:
            for _ in range(iterations):
                await asyncio.sleep(0)
            await client.close()

        with blackhole() as address:
            dial = asyncio.ensure_future(client.dial(parse_address(address), Side(), 3600))
            await asyncio.wait([dial], timeout=0)
            await asyncio.gather(*map(close_after, range(8)))
            with pytest.raises(Closed):
                await dial

    run(main())


def test_half_close_gets_what_was_queued(run: Run) -> None:
    async def main() -> None:
        server = TcpTransport(write_limit=8 << 20)
        raw, far = await raw_pair(server)
        payload = bytes(range(256)) * 8192
        far.link.write(payload)
        raw.shutdown(socket.SHUT_WR)
        received = bytearray()
        while data := await asyncio.get_running_loop().sock_recv(raw, 1 << 16):
            received += data
        assert bytes(received) == payload
        assert await far.lost is None
        raw.close()
        await server.close()

    run(main())


def test_a_reset_is_reported(run: Run) -> None:
    async def main() -> None:
        server = TcpTransport()
        raw, far = await raw_pair(server)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()
        error = await far.lost
        assert isinstance(error, PeerUnreachable)
        assert error.fields["errno"] == errno.ECONNRESET
        await server.close()

    run(main())


def test_a_peer_that_never_reads_hits_the_write_limit(run: Run) -> None:
    async def main() -> None:
        server = TcpTransport(write_high_water=1 << 16, write_limit=1 << 20)
        raw, far = await raw_pair(server)
        written = 0
        while not far.link._transport.is_closing():  # type: ignore[attr-defined]
            far.link.write(bytes(1 << 16))
            written += 1 << 16
            assert written < 1 << 26, "no limit"
        error = await far.lost
        assert isinstance(error, PeerUnreachable)
        assert error.fields["reason"] == "write limit"
        assert far.events == ["pause"]
        far.link.write(b"dropped")
        raw.close()
        await server.close()

    run(main())


def test_a_paused_link_is_ended_when_it_stalls(run: Run) -> None:
    async def main() -> None:
        server = TcpTransport(write_high_water=1 << 16, write_limit=1 << 30, write_stall_s=0.05)
        raw, far = await raw_pair(server)
        far.link.write(bytes(1 << 24))
        error = await far.lost
        assert isinstance(error, PeerUnreachable)
        assert error.fields["reason"] == "write stalled"
        raw.close()
        await server.close()

    run(main())


def test_writing_resumes_when_the_peer_reads(run: Run) -> None:
    async def main() -> None:
        server, client = TcpTransport(write_high_water=1 << 16, write_limit=1 << 26), TcpTransport()
        near, far = await pair(server, client)
        near.link.pause_reading()
        payload = bytes(range(256)) * (1 << 16)
        far.link.write(payload)
        await far.until(lambda: far.events == ["pause"])
        assert near.data == b""
        near.link.resume_reading()
        await far.until(lambda: far.events == ["pause", "resume"])
        await near.until(lambda: len(near.data) == len(payload))
        assert near.data == payload
        await client.close()
        await server.close()

    run(main())


def test_a_refused_link_carries_nothing(run: Run) -> None:
    async def main() -> None:
        server, client, dialled = TcpTransport(), TcpTransport(), Side()
        refused: list[Recorder] = []

        def refuse(link: Link) -> Recorder:
            refused.append(Recorder(link))
            link.abort()
            return refused[0]

        bound = await server.listen(ANY4, refuse)
        link = await client.dial(bound, dialled, 5)
        link.write(b"hello?")
        await (await dialled.links.get()).lost
        assert await refused[0].lost is None
        assert refused[0].data == b""
        await client.close()
        await server.close()

    run(main())


def test_a_failing_handler_ends_its_link_only(run: Run) -> None:
    async def main() -> None:
        reports: list[BaseException | None] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, c: reports.append(c.get("exception")))
        server, client, dialled = TcpTransport(), TcpTransport(), Side()
        broken = True

        def accept(link: Link) -> Recorder:
            if broken:
                raise ZeroDivisionError
            return Recorder(link)

        bound = await server.listen(ANY4, accept)
        await client.dial(bound, dialled, 5)
        await (await dialled.links.get()).lost
        assert [type(e) for e in reports] == [ZeroDivisionError]
        broken = False
        await client.dial(bound, dialled, 5)
        assert not (await dialled.links.get()).lost.done()
        await client.close()
        await server.close()

    run(main())


def test_close_is_graceful_and_final(run: Run) -> None:
    async def main() -> None:
        server, client = TcpTransport(), TcpTransport()
        near, far = await pair(server, client)
        near.link.write(b"last words")
        await client.close()
        await client.close()
        assert await near.lost is None
        assert await far.lost is None
        assert far.data == b"last words"
        near.link.write(b"too late")
        near.link.pause_reading()
        near.link.resume_reading()
        near.link.close()
        near.link.abort()
        with pytest.raises(Closed):
            await client.dial(ANY4, Side(), 5)
        with pytest.raises(Closed):
            await client.listen(ANY4, Side())
        await server.close()

    run(main())


@pytest.mark.parametrize("first", ["link", "transport"])
def test_close_is_bounded_when_the_peer_never_reads(run: Run, first: str) -> None:
    async def main() -> None:
        server = TcpTransport(write_high_water=1 << 16, write_limit=1 << 30, close_timeout_s=0.05)
        raw, far = await raw_pair(server)
        far.link.write(bytes(1 << 24))
        if first == "link":
            far.link.close()
            error = await far.lost
            assert isinstance(error, PeerUnreachable)
            assert error.fields["reason"] == "close timeout"
        await server.close()
        assert far.lost.done()
        raw.close()

    run(main())


# --- accepting -----------------------------------------------------------------------------------


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that no event tells of."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


def test_many_callers_are_taken_in_few_turns_and_told_how_long_they_wait(run: Run) -> None:
    async def main() -> None:
        transport, links, waits = TcpTransport(), list[Link](), list[float]()

        def accept(link: Link) -> Recorder:
            links.append(link)
            return Recorder(link)

        def admit(_: Address, standing_s: float) -> bool:
            waits.append(standing_s)
            return True

        address = await transport.listen(ANY4, accept, admit)
        callers = [socket.create_connection((address.host, address.port)) for _ in range(3 * PER_TURN)]
        turns = 0
        while len(links) < len(callers):
            turns += 1
            await asyncio.sleep(0)
        assert turns < len(callers)
        assert len(waits) == len(callers)
        assert waits[0] == 0.0
        assert waits == sorted(waits)
        for caller in callers:
            caller.close()
        await transport.close()

    run(main())


def test_who_is_not_admitted_gets_no_link(run: Run) -> None:
    async def main() -> None:
        transport, links = TcpTransport(), list[Link]()

        def accept(link: Link) -> Recorder:
            links.append(link)
            return Recorder(link)

        def admit(caller: Address, _: float) -> bool:
            return caller.host == "127.0.0.2"

        address = await transport.listen(ANY4, accept, admit)
        loop = asyncio.get_running_loop()
        for host in ("127.0.0.3", "127.0.0.2"):
            with socket.create_connection((address.host, address.port), source_address=(host, 0)) as caller:
                caller.setblocking(False)
                if host == "127.0.0.3":
                    with contextlib.suppress(ConnectionError):
                        assert await loop.sock_recv(caller, 1) == b""
                else:
                    await until(lambda: links)
        assert [link.remote.host for link in links] == ["127.0.0.2"]
        await transport.close()

    run(main())


def test_without_file_descriptors_accepting_rests_and_goes_on(run: Run, monkeypatch: Any) -> None:
    monkeypatch.setattr("pqdht.transport.accepting.REST_S", 0.01)

    async def main() -> None:
        seen: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: seen.append(context))
        transport, links = TcpTransport(), list[Link]()

        def accept(link: Link) -> Recorder:
            links.append(link)
            return Recorder(link)

        address = await transport.listen(ANY4, accept)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with socket.create_connection((address.host, address.port)):
            lowest_free = os.dup(0)
            os.close(lowest_free)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, hard))
            try:
                await until(lambda: seen)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert not links
            await until(lambda: links)
        assert seen[0]["exception"].errno == errno.EMFILE
        await transport.close()

    run(main())
