"""What the live tests share: a bounded run, networks, raw sockets, and a forwarder that misbehaves."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature

from pqdht import DEMO, Config, SecureDHT, Verdict
from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.constants import Limits, ParameterSet
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import NodeIdentity
from pqdht.node.environment import Parts, choose_suite, system_clock, tag_of
from pqdht.node.identities import load_or_make_node
from pqdht.testing.testnet import group_address
from pqdht.wire.address import Address, parse_address
from tests.live import evidence

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
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


# --- what a network must do ------------------------------------------------------------------------


async def announce_and_find(nodes: list[SecureDHT], **how: Any) -> None:
    """Everyone announces; everyone finds everyone, confirmed, without its own copies."""
    await asyncio.gather(*(n.announce([f"10.1.0.{i}:51820"]) for i, n in enumerate(nodes)))

    async def find_all(reader: SecureDHT) -> None:
        for i, other in enumerate(nodes):
            found = await reader.find_peer(other.owner_id, ignore_local=True)
            assert found.endpoints == (f"10.1.0.{i}:51820",)
            assert found.node_id == other.node_id
            assert found.result.verdict is Verdict.CONFIRMED
            assert found.result.responders >= 3
            assert reader.node_id not in {e.node for e in found.result.evidence}

    await asyncio.gather(*map(find_all, nodes))


async def check_evidence(reader: SecureDHT, writer: SecureDHT, nodes: list[SecureDHT]) -> None:
    """Anybody can verify what a GET returns, from the bytes alone."""
    value = b"verifiable"
    put = await writer.put("evidence", value)
    got = await reader.get("evidence", owner=writer.owner_id, ignore_local=True)
    assert got.verdict is Verdict.CONFIRMED
    keys = {n.node_id: n.env.identity.signing.public for n in nodes}
    tag = reader.env.network_tag
    records: dict[bytes, bytes] = {}
    holders: dict[bytes, None] = {}
    for e in got.evidence:
        values = evidence.check(tag, e.envelope, e.request, reader.node_id, e.node, keys[e.node])
        for tbs, signature in values[evidence.RECORDS]:
            record_id, found = evidence.check_record(tbs, signature, writer.owner_id)
            records[record_id] = found
            holders[e.node] = None
        if put.record.record_id in values[evidence.SAME]:
            holders[e.node] = None
        assert (e.node in holders) == (e.holds == put.record.record_id)
    assert records == {put.record.record_id: value}
    assert len(holders) >= 3
    first = got.evidence[0]
    flipped = first.envelope[:-1] + bytes([first.envelope[-1] ^ 1])
    with pytest.raises(InvalidSignature):
        evidence.check(tag, flipped, first.request, reader.node_id, first.node, keys[first.node])


def check_security_core(nodes: list[SecureDHT]) -> None:
    """The counters say that nothing of what protects was left out."""
    for node in nodes:
        status = node.status()
        counters = status["counters"]
        assert counters["lookups_over_many_paths"] > 0
        assert counters["records_fetched_from_others"] >= len(nodes) - 1
        assert counters["signatures_of_others_verified"] >= counters["lookup_queries"]
        assert counters["record_signatures_checked"] > 0
        assert counters["argon2_runs"] >= min(len(nodes) - 1, status["table"])
        assert counters["lookup_groups_counted"] >= counters["lookups"]
        assert counters["gets.confirmed"] >= len(nodes)
        assert counters["requests_served"] > 0
        assert counters["lookup_failures"] == 0, "an honest live network has no failed question"
        assert status["table_groups"] == status["table"] > 0
        assert status["bootstrapped"]
    assert sum(counter(n, "early_requests_served") for n in nodes) > 0


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


# --- a caller made by hand ---------------------------------------------------------------------------


async def assert_serves(node: SecureDHT) -> None:
    """A newcomer joins, writes and reads: nothing that happened before hurt the node."""
    async with make(200, bootstrap=(entry(node),), network=node.config.network) as newcomer:
        await newcomer.bootstrapped(10)
        await newcomer.put("after", b"the flood")
        got = await node.get("after", owner=newcomer.owner_id, ignore_local=True)
        assert got.value == b"the flood"
        await newcomer.close()
    await until(lambda: not node._peers._all)


def assert_released(node: SecureDHT) -> None:
    """Nothing of refused or failed links is left."""
    peers = node._peers
    assert (len(peers._all), len(peers._inbound), len(peers._half_open)) == (0, 0, 0)
    assert not peers.sessions


async def first_flight(
    node: SecureDHT,
    *,
    know: bool = True,
    versions: tuple[int, int] = (1, 1),
    identity: NodeIdentity | None = None,
) -> tuple[Handshake, bytes]:
    """A caller's handshake towards `node` and its first frame; pqIK if the caller is to `know` its key."""
    config = node.config
    suite, tag = choose_suite(config, None), tag_of(config)
    identity = identity or await load_or_make_node(config, suite, tag, system_clock())
    params = HandshakeParams(
        suite=suite,
        network_tag=tag,
        identity=identity,
        verifier=ContactVerifier(suite, config.params, tag),
        versions=versions,
        padding_spread=1,
    )
    kem_key = node.env.identity.kem.public if know else None
    handshake = Handshake.initiate(
        params, expected=node.node_id, kem_key=kem_key, observed="tcp/127.0.0.1:1", now=system_clock()
    )
    handshake.prepare()
    return handshake, handshake.finish()


async def shake(raw: Raw, handshake: Handshake, flight: bytes) -> None:
    """Complete the handshake of `first_flight` over a raw socket."""
    await raw.send(flight)
    while not handshake.done:
        data = await raw.reader.read(65_536)
        assert data, "the node hung up"
        if handshake.receive(data, system_clock()) is not None and not handshake.done:
            handshake.prepare()
            await raw.send(handshake.finish())


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
        return [data[a:b] for a, b in itertools.pairwise(cuts)]

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
