"""What a scanner sees of a node: nothing, and a connection that closes at no telling time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from pqdht.channel.handshake import Handshake, HandshakeParams, StrikeRegister
from pqdht.node.connection import SILENT_DELAY_S
from pqdht.testing.loop import run
from pqdht.transport.base import Link
from pqdht.wire.address import parse_address
from tests.sim.harness import Net, at, counter

SCANS = 12
TIMEOUT_S = 5.0
LATENCY_S = 0.2
"""More than a round trip of these networks."""


class Scanner:
    """A link handler that speaks no protocol: it notes what comes and when the link ends."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.got = b""
        self.ended: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.got += data

    def connection_lost(self, error: Exception | None) -> None:
        self.ended.set_result(asyncio.get_running_loop().time())

    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


def xx_1(net: Net) -> bytes:
    """A right first flight of somebody who knows the network and no key."""
    env = net.nodes[1].env
    handshake = Handshake.initiate(
        HandshakeParams(
            suite=env.suite, network_tag=env.network_tag, identity=env.identity, verifier=env.contacts
        ),
        expected=None,
        kem_key=None,
        observed="",
        now=env.clock(),
    )
    handshake.prepare()
    return handshake.finish()


def ik_1(net: Net) -> bytes:
    """A right first flight of node 1 to node 0, as a listener could record it."""
    env, to = net.nodes[1].env, net.seats[0].identity
    params = replace(net.nodes[1]._peers._params, strikes=StrikeRegister())
    handshake = Handshake.initiate(
        params, expected=to.node_id, kem_key=to.kem.public, observed="", now=env.clock()
    )
    handshake.prepare()
    return handshake.finish()


async def scan(net: Net, index: int, data: bytes, more: bytes = b"") -> tuple[bytes, float]:
    """(what came back, seconds from what was sent last to the end of the link)."""
    made: list[Scanner] = []

    def accept(link: Link) -> Scanner:
        made.append(Scanner(link))
        return made[0]

    await net.sim.transport(f"10.77.{index}.1").dial(parse_address(at(net.seats[0].ip)), accept, 5.0)
    scanner = made[0]
    if data:
        scanner.link.write(data)
    if more:
        await asyncio.sleep(1.0)
        scanner.link.write(more)
    begun = asyncio.get_running_loop().time()
    took = await scanner.ended - begun
    return scanner.got, took


NOISE: dict[str, tuple[Callable[[Net], bytes], float]] = {
    "garbage": (lambda net: bytes(range(256)), 0.0),
    "a request of another protocol": (lambda net: b"GET / HTTP/1.1\r\nHost: example\r\n\r\n", 0.0),
    "nothing": (lambda net: b"", TIMEOUT_S),
    "less than a header": (lambda net: b"\x16\x03\x01", TIMEOUT_S),
    "half a first flight": (lambda net: xx_1(net)[:700], TIMEOUT_S),
    "a first flight with a flipped bit": (lambda net: ik_1(net)[:-1] + b"\0", 0.0),
}


@pytest.mark.parametrize("bridge", [False, True], ids=["a node", "a bridge"])
@pytest.mark.parametrize("name", NOISE)
def test_a_scanner_hears_nothing_and_learns_no_time(name: str, bridge: bool) -> None:
    make, after_s = NOISE[name]
    if bridge and name == "half a first flight":
        after_s = 0.0  # a bridge knows from the header that it is none for it

    async def main() -> None:
        net = Net()
        await net.add(bridge=bridge)
        await net.add()
        data = make(net)
        found = await asyncio.gather(*(scan(net, i, data) for i in range(SCANS)))
        assert {got for got, _ in found} == {b""}
        delays = [took - after_s for _, took in found]
        assert all(-LATENCY_S <= d <= SILENT_DELAY_S + LATENCY_S for d in delays)
        assert max(delays) - min(delays) > SILENT_DELAY_S / 3
        assert len({round(d, 3) for d in delays}) > SCANS / 2
        await net.close()

    run(main)


def test_a_bridge_does_not_answer_who_knows_only_the_network() -> None:
    async def main() -> None:
        net = Net()
        await net.add(bridge=True)
        await net.add()
        found = await asyncio.gather(*(scan(net, i, xx_1(net)) for i in range(SCANS)))
        assert {got for got, _ in found} == {b""}
        assert counter(net.nodes[0], "handshakes") == 0
        assert counter(net.nodes[0], "failed.HandshakeFailed") >= SCANS
        await net.close()

    run(main)


def test_a_bridge_serves_who_holds_its_contact() -> None:
    """It is dialled with its KEM key; it dials as any other node does."""

    async def main() -> None:
        net = Net()
        await net.grow(3)
        bridge = await net.add(bridge=True)
        await bridge.bootstrapped(10.0)
        await net.nodes[1].put("x", b"v")
        assert (await bridge.get("x", owner=net.nodes[1].owner_id)).value == b"v"
        for conn in list(bridge._peers.sessions.values()):
            conn.close()
        await asyncio.sleep(1.0)
        env = net.nodes[1].env
        contact = net.seats[3].identity.contact((at(net.seats[3].ip),), with_key=True)
        to = env.contacts.verify(contact, env.clock())
        assert (await net.nodes[1]._find_contact(to.node_id)).node_id == to.node_id
        assert await net.nodes[1].ping(to.node_id) > 0
        await net.close()

    run(main)


def test_garbage_after_a_recorded_first_flight_closes_as_silently() -> None:
    """It gets the answer to the first flight, which it cannot read, and no frame of its own passes."""

    async def main() -> None:
        net = Net()
        await net.add()
        await net.add()
        found = await asyncio.gather(*(scan(net, i, ik_1(net), bytes(70_000)) for i in range(SCANS)))
        assert all(len(got) > 2000 for got, _ in found)
        delays = [took for _, took in found]
        assert max(delays) - min(delays) > SILENT_DELAY_S / 3
        assert counter(net.nodes[0], "failed.SessionFailed") == SCANS
        await net.close()

    run(main)
