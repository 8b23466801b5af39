"""Inbound links before anybody is believed, on real nodes in a simulated network."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pqdht.constants import TESTNET
from pqdht.node.connection import Phase
from pqdht.node.dht import SecureDHT
from pqdht.node.doorway import LOADED_LINKS_BURST, Doorway
from pqdht.node.peers import Peers
from pqdht.trust.admission import ShareLimiter
from pqdht.wire.address import parse_address
from pqdht.wire.messages import Ping, Pong
from tests.sim.harness import Net, contact, counter, own_group, play, with_limits
from tests.sim.test_hostile_callers import Caller


def doorway(net: Net, index: int = 0) -> Doorway:
    peers: Peers = net.nodes[index]._peers
    return peers._doorway


def load(net: Net, index: int = 0) -> None:
    """As if a caller had waited for a second just now."""
    doorway(net, index).load.waited(1.0, asyncio.get_running_loop().time())


@pytest.mark.parametrize("early", ["reads", "never"])
def test_newcomers_join_a_loaded_node_with_a_cookie_and_lose_no_question(early: str) -> None:
    async def scenario(net: Net) -> None:
        load(net)
        newcomer = await net.add(early=early)
        await newcomer.bootstrapped(1.5)
        assert counter(net.nodes[0], "cookies_sent") >= 1
        assert counter(newcomer, "join_attempts_failed") == 0
        assert counter(newcomer, "failed.HandshakeFailed") == 0
        served = counter(net.nodes[0], "early_requests_served")
        doorway(net).remember = lambda host: None  # type: ignore[method-assign]
        for conn in list(newcomer._peers.sessions.values()):
            conn.close()
        load(net)
        to, sent = contact(net, 1, 0), counter(net.nodes[0], "cookies_sent")
        assert isinstance((await newcomer._peers.request(to, Ping())).body, Pong)
        assert counter(net.nodes[0], "cookies_sent") == sent + 1
        assert counter(newcomer, "early_requests_repeated") == 0
        if early == "reads":
            assert counter(net.nodes[0], "early_requests_served") == served + 1

    play(scenario, 1)


def test_peers_of_the_table_need_no_cookie() -> None:
    async def scenario(net: Net) -> None:
        await asyncio.sleep(5.0)
        newcomer = net.nodes[1]
        for conn in list(newcomer._peers.sessions.values()):
            conn.close()
        await asyncio.sleep(0.5)
        assert own_group(1) in doorway(net)._known
        load(net)
        await newcomer._peers.request(contact(net, 1, 0), Ping())
        assert counter(net.nodes[0], "cookies_sent") == 0

    play(scenario, 2)


def test_while_loaded_a_group_gets_few_links_and_known_peers_any() -> None:
    async def scenario(net: Net) -> None:
        door, known = doorway(net), parse_address("tcp/10.5.5.5:1")
        stranger = parse_address("tcp/10.6.6.6:1")
        assert all(door.admits(stranger, 0.0) for _ in range(100))
        door.remember(known.host)
        assert door.admits(stranger, 1.0), "the first that waited so long"
        taken = sum(door.admits(stranger, 0.0) for _ in range(100)) + 1
        assert taken == LOADED_LINKS_BURST
        assert all(door.admits(known, 0.0) for _ in range(100))
        assert door.admits(parse_address("tcp/10.6.7.6:1"), 0.0), "another group"
        assert counter(net.nodes[0], "links_refused.load") == 101 - LOADED_LINKS_BURST
        await asyncio.sleep(10.0)
        assert all(door.admits(stranger, 0.0) for _ in range(100))

    play(scenario, 1)


def test_messages_wait_for_their_turn_and_go_when_the_caller_does() -> None:
    async def scenario(net: Net) -> None:
        node, door = net.nodes[0], doorway(net)
        door._time = ShareLimiter(1.0, 2.0)
        door._time.charge(5.0, asyncio.get_running_loop().time())  # nothing is read for three seconds
        callers = [Caller(net, i, ip=f"10.9.{i}.1") for i in range(3)]
        for caller in callers:
            await caller.knock(node, await caller.identity())
        await asyncio.sleep(0.5)
        assert len(door._queue) == 3
        assert door.half_open.bytes > 3 * 5000
        callers[1].link.abort()
        await asyncio.sleep(0.5)
        assert len(door._queue) == len(door.half_open) == 2
        await asyncio.sleep(3.0)
        assert (len(door._queue), door.half_open.bytes) == (0, 0)
        assert [len(c.got) > 2000 for c in callers] == [True, False, True]
        assert door.load.is_loaded(asyncio.get_running_loop().time()), "they waited for seconds"
        for caller in callers:
            caller.link.abort()

    play(scenario, 1)


def test_buffered_bytes_of_a_group_are_bounded() -> None:
    """half_open_bytes_per_group, half_open_bytes_total: whoever holds most loses its oldest."""

    async def scenario(net: Net) -> None:
        node, door = net.nodes[0], doorway(net)
        callers = [Caller(net, i) for i in range(4)]
        for caller in callers:
            flight = await _flight(caller, node)
            await _dial(caller, node)
            caller.link.write(flight[:5000])
            await asyncio.sleep(0.1)
        assert [c.lost for c in callers] == [True, True, False, False]
        assert door.half_open.bytes == 10_000
        assert counter(node, "half_open_evicted") == 2
        for caller in callers:
            caller.link.abort()

    play(scenario, 1, params=with_limits(TESTNET, half_open_bytes_per_group=12_000))
    play(scenario, 1, params=with_limits(TESTNET, half_open_bytes_total=12_000))


async def _dial(caller: Caller, node: SecureDHT) -> None:
    transport = caller.net.sim.transport(caller.ip)
    caller.link = await transport.dial(parse_address(node.env.addresses[0]), lambda _: caller, 5.0)


async def _flight(caller: Caller, node: Any) -> bytes:
    """A first flight that was not sent."""

    class Nowhere:
        data = b""

        def write(self, data: bytes) -> None:
            self.data = data

    class Transport:
        async def dial(self, *_: Any) -> Nowhere:
            return nowhere

    nowhere, net = Nowhere(), caller.net

    class Quiet:
        sim = type("S", (), {"transport": staticmethod(lambda _: Transport())})
        tag, params = net.tag, net.params
        clock = staticmethod(net.clock)

    caller.net = Quiet()  # type: ignore[assignment]
    await caller.knock(node, await caller.identity())
    caller.net = net
    return nowhere.data


def test_a_first_flight_that_trickles_in_ends_in_time() -> None:
    async def scenario(net: Net) -> None:
        node, caller = net.nodes[0], Caller(net, 1)
        flight = await _flight(caller, node)
        await _dial(caller, node)
        began = asyncio.get_running_loop().time()
        for byte in flight:
            if caller.lost:
                break
            caller.link.write(bytes([byte]))
            await asyncio.sleep(0.1)
        lasted = asyncio.get_running_loop().time() - began
        assert lasted < net.params.limits.handshake_timeout_s + 1.0
        assert len(doorway(net).half_open) == 0
        assert counter(node, "handshakes_timed_out") == 1

    play(scenario, 1)


def test_the_phase_of_an_evicted_caller_is_closed() -> None:
    async def scenario(net: Net) -> None:
        node, caller = net.nodes[0], Caller(net, 1)
        await caller.knock(node, await caller.identity())
        await asyncio.sleep(0.5)
        (conn,) = node._peers._all
        conn.evict()
        assert conn.phase is Phase.CLOSED
        await asyncio.sleep(0.5)
        assert caller.lost
        assert not node._peers._all

    play(scenario, 1)
