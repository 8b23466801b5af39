"""TCP gives an ordered stream cut anywhere: whatever the cuts, the same bytes and the same frames arrive."""

from __future__ import annotations

import asyncio
import itertools
import socket

from hypothesis import given, settings
from hypothesis import strategies as st

from pqdht.channel.session import Frame, FrameKind, Session
from pqdht.errors import SessionFailed
from pqdht.transport.base import Link
from pqdht.transport.tcp import TcpTransport
from pqdht.wire.address import parse_address
from tests.unit.channel.peers import sessions

ANY = parse_address("tcp/127.0.0.1:0")
chunks = st.lists(st.binary(min_size=1, max_size=3_000), max_size=12)


class Sink:
    """Keeps what comes; `done` when the link is over."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.data = b""
        self.done: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, error: Exception | None) -> None:
        self.done.set_result(error)

    def pause_writing(self) -> None:
        self.link.pause_reading()

    def resume_writing(self) -> None:
        self.link.resume_reading()


class Frames(Sink):
    """Opens what comes with a session."""

    def __init__(self, link: Link, session: Session) -> None:
        super().__init__(link)
        self.session = session
        self.frames: list[Frame] = []
        self.error: SessionFailed | None = None

    def data_received(self, data: bytes) -> None:
        try:
            self.frames += self.session.receive(data)
        except SessionFailed as e:
            self.error = e
            self.link.abort()


async def serve(server: TcpTransport, pieces: list[bytes], sinks: list[Sink]) -> None:
    """Send `pieces` one by one from a plain socket and wait until the other end is over."""
    loop = asyncio.get_running_loop()
    bound = server_address(server)
    with socket.socket() as raw:
        raw.setblocking(False)
        await loop.sock_connect(raw, bound)
        for piece in pieces:
            try:
                await loop.sock_sendall(raw, piece)
            except ConnectionError:
                break  # it hung up
            await asyncio.sleep(0)
    async with asyncio.timeout(10):
        while not sinks:  # noqa: ASYNC110
            await asyncio.sleep(0)
        await sinks[0].done


def server_address(server: TcpTransport) -> tuple[str, int]:
    host, port = server._listeners[0].address
    return str(host), int(port)


@settings(max_examples=60)
@given(pieces=chunks)
def test_what_is_written_in_pieces_arrives_whole(pieces: list[bytes]) -> None:
    async def main() -> None:
        server, sinks = TcpTransport(), list[Sink]()

        def accept(link: Link) -> Sink:
            sinks.append(Sink(link))
            return sinks[-1]

        await server.listen(ANY, accept)
        await serve(server, pieces, sinks)
        assert sinks[0].data == b"".join(pieces)
        await server.close()

    asyncio.run(main())


@settings(max_examples=60)
@given(
    contents=st.lists(st.binary(max_size=2_000), min_size=1, max_size=6),
    cuts=st.lists(st.floats(0, 1), max_size=20),
    damage=st.none() | st.tuples(st.floats(0, 0.999), st.integers(1, 255)),
)
def test_frames_survive_any_cut_and_no_damage(
    contents: list[bytes], cuts: list[float], damage: tuple[float, int] | None
) -> None:
    """Every frame before the damaged byte arrives, none after it."""

    async def main() -> None:
        near, far = sessions()
        sealed = [near.send(FrameKind.ENVELOPE, content) for content in contents]
        stream = bytearray(b"".join(sealed))
        damaged = int(damage[0] * len(stream)) if damage else None
        if damage is not None and damaged is not None:
            stream[damaged] ^= damage[1]
        at = sorted({0, len(stream), *(int(c * len(stream)) for c in cuts)})
        pieces = [bytes(stream[a:b]) for a, b in itertools.pairwise(at)]
        server, sinks = TcpTransport(), list[Sink]()

        def accept(link: Link) -> Sink:
            sinks.append(Frames(link, far))
            return sinks[-1]

        await server.listen(ANY, accept)
        await serve(server, pieces, sinks)
        received = sinks[0]
        assert isinstance(received, Frames)
        whole, end = 0, 0
        for frame in sealed:
            end += len(frame)
            whole += damaged is None or end <= damaged
        assert [f.content for f in received.frames] == contents[:whole][: len(received.frames)]
        # A frame that came together with the damaged one may be lost with it; nothing false ever arrives.
        if damaged is None:
            assert len(received.frames) == len(contents)
            assert received.error is None
        await server.close()

    asyncio.run(main())
