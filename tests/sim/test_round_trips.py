"""How many round trips things take: every link has the same RTT, so virtual time counts them exactly.

64 nodes in address groups of their own with k = 8; computing takes no time here.  The figures over a real
TCP, with 128 nodes and k = 20, are those of `make bench-wan`.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from statistics import median

import pytest

from pqdht.config import Consistency
from pqdht.constants import TESTNET
from pqdht.node.dht import SecureDHT
from pqdht.records import Named
from pqdht.testing.latency import Constant
from pqdht.testing.loop import run
from tests.sim.harness import Net

RTT = 0.05
NODES = 64
KEYS = 15
SECOND = 1.0 / RTT
"""One second in round trips."""


@dataclass
class Trips:
    """What was measured, in round trips."""

    join: list[float]
    first: list[float]
    """From the start of a fresh node to its first value, with `first`."""
    majority: list[float]
    """The same with a majority."""
    warm_first: list[float]
    warm_majority: list[float]
    survivor: list[float]
    """A majority, by a node that was warm before a fifth of the others fell silent."""
    put: list[float]


def trips(since: float) -> float:
    return round((asyncio.get_running_loop().time() - since) / RTT, 3)


@asynccontextmanager
async def asker(net: Net, i: int) -> AsyncIterator[SecureDHT]:
    """A node without an address that gets in through one that is not silent."""
    reachable = [s for s in net.seats[:NODES] if not net.sim.host(s.ip).cut]
    seat = reachable[i * 7 % len(reachable)]
    entry = f"{seat.identity.node_id.hex()}@tcp/{seat.ip}:4733"
    node = await net.add(listen=(), bootstrap=(entry,))
    try:
        yield node
    finally:
        await node.close()
        net.up[-1] = False


async def fresh(net: Net, keys: list[Named], how: Consistency) -> tuple[list[float], list[float]]:
    """(join, start to value) of one fresh node per key."""
    joins, values = [], []
    for i, key in enumerate(keys):
        begun = asyncio.get_running_loop().time()
        async with asker(net, i) as node:
            await node.bootstrapped(60.0)
            joins.append(trips(begun))
            assert (await node.get(key, consistency=how)).value == b"v"
            values.append(trips(begun))
    return joins, values


async def read(node: SecureDHT, keys: list[Named], how: Consistency) -> list[float]:
    """One GET after the other."""
    taken = []
    for key in keys:
        begun = asyncio.get_running_loop().time()
        assert (await node.get(key, consistency=how, ignore_local=True)).value == b"v"
        taken.append(trips(begun))
        await asyncio.sleep(1.0)
    return taken


async def write(node: SecureDHT, name: str) -> list[float]:
    taken = []
    for i in range(KEYS):
        begun = asyncio.get_running_loop().time()
        await node.put(f"{name} {i}", b"v")
        taken.append(trips(begun))
        await asyncio.sleep(1.0)
    return taken


async def warm_up(node: SecureDHT, keys: list[Named]) -> None:
    await node.bootstrapped(60.0)
    await asyncio.sleep(5.0)
    await read(node, keys, "majority")


async def measure(net: Net, keys: list[Named], survivor: list[float]) -> Trips:
    joins, first = await fresh(net, keys[:8], "first")
    more, majority = await fresh(net, keys[:8], "majority")
    async with asker(net, 9) as node:
        await warm_up(node, keys[:3])
        return Trips(
            join=joins + more,
            first=first,
            majority=majority,
            warm_first=await read(node, keys[3:], "first"),
            warm_majority=await read(node, keys[3:], "majority"),
            survivor=survivor,
            put=await write(node, f"by one that knows {sum(net.up)}"),
        )


async def both() -> tuple[Trips, Trips]:
    """With everybody reachable, and with a fifth silent."""
    net = Net(seed=1, params=replace(TESTNET, k=8), simulator={"latency": Constant(RTT)})
    await net.grow(NODES)
    keys = []
    for i in range(KEYS):
        writer = net.nodes[i * 7 % NODES]
        await writer.put(f"value {i}", b"v")
        keys.append(writer.named(f"value {i}"))
    well = await measure(net, keys, [])
    async with asker(net, 4) as survivor:
        await warm_up(survivor, keys[:3])
        for i in random.Random(1).sample(range(NODES), NODES // 5):
            net.sim.unreachable(net.seats[i].ip)
        hurt = await measure(net, keys, await read(survivor, keys, "majority"))
    for seat in net.seats:
        net.sim.unreachable(seat.ip, False)
    await net.close()
    return well, hurt


@pytest.fixture(scope="module")
def measured() -> tuple[Trips, Trips]:
    return run(both)


def test_joining_takes_a_connection_and_a_handshake_with_the_question_in_it(
    measured: tuple[Trips, Trips],
) -> None:
    for case in measured:
        assert set(case.join) == {3.0}


def test_a_warm_get_takes_one_round_trip_or_two(measured: tuple[Trips, Trips]) -> None:
    well, _ = measured
    assert median(well.warm_first) == 1.0
    assert median(well.warm_majority) <= 2.0


def test_join_and_first_get_take_at_most_seven(measured: tuple[Trips, Trips]) -> None:
    well, _ = measured
    assert median(well.first) <= 6.0
    assert median(well.majority) <= 7.5


def test_a_fifth_of_silent_nodes_costs_at_most_one_more(measured: tuple[Trips, Trips]) -> None:
    well, hurt = measured
    for name in ("warm_first", "warm_majority", "first", "majority"):
        assert median(getattr(hurt, name)) <= median(getattr(well, name)) + 1, name


def test_nobody_waits_for_a_second(measured: tuple[Trips, Trips]) -> None:
    for case in measured:
        for name, taken in vars(case).items():
            assert max(taken, default=0) < SECOND, name
