"""A whole network over loopback TCP in this process, and readers that hold no copy of anything."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks import many
from benchmarks.figures import VALUE_BYTES, Effort, peak_rss, percentiles, progress, quiet, received
from pqdht.config import Config, Consistency
from pqdht.node.dht import SecureDHT
from pqdht.node.environment import Parts
from pqdht.records import Named
from pqdht.testing.testnet import Loopback, Testnet, group_address
from pqdht.transport.tcp import TcpTransport

FIRST_READER = 240
"""Index of the readers' addresses, out of the way of the nodes'."""
READERS = 5
"""One for each way of reading: none may profit by what another way left."""
REFUSED = "requests_refused_busy"


async def measure(provider: str, effort: Effort) -> dict[str, Any]:
    """Everything from join_ms to rss_mb_per_node."""
    empty = peak_rss()
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Testnet.loopback(0, network=effort.params, provider=provider))
        figures: dict[str, Any] = {"join_ms": await grow(net, effort.nodes)}
        progress(f"  joined ({figures['join_ms']} ms); putting {effort.keys} values")
        keys, figures["put_ms"] = await put(net, effort.keys)
        readers = [await stack.enter_async_context(reader(net, provider, i)) for i in range(READERS)]
        for node in readers:
            await node.bootstrapped(60)
            await node.find_node(node.node_id)
        everyone = [*net.nodes, *readers]
        progress("  getting")
        figures |= {"get_first_ms": percentiles(await get_each(readers[0], keys, "first"))}
        figures |= await get_majority(everyone, readers[1], keys)
        figures["gets_per_s_50"] = await get_at_once(readers[2], keys, effort.in_flight)
        figures["rss_mb_per_node"] = round((peak_rss() - empty) / len(everyone) / 2**20, 2)
        progress("  many keys at once")
        figures |= await many.measure(everyone, readers[3], readers[4], keys, effort)
        for node in everyone:
            if node.env.counters[REFUSED]:
                raise RuntimeError("a node refused questions as too many: the figures are of its limiter")
    return figures


async def grow(net: Loopback, nodes: int) -> float:
    """Nodes join one after the other; the median of the last half, ms.

    From the moment a node listens, its keys made, until it has looked up its own neighbourhood.
    """
    seconds: list[float] = []
    for index in range(nodes):
        node = await net.add(index)
        began = perf_counter()
        await node.bootstrapped(60)
        if index > 0:
            await node.find_node(node.node_id)
        seconds.append(perf_counter() - began)
    await asyncio.gather(*(node.find_node(node.node_id) for node in net.nodes))
    await quiet()
    return round(1000 * median(seconds[nodes // 2 :]), 1)


async def put(net: Loopback, count: int) -> tuple[list[Named], dict[str, float]]:
    """One value after the other, by each node in turn: where they are, and how long each took."""
    keys: list[Named] = []
    seconds: list[float] = []
    for i in range(count):
        writer = net.nodes[i % len(net.nodes)]
        value = i.to_bytes(4, "big").ljust(VALUE_BYTES, b"v")
        began = perf_counter()
        await writer.put(f"value {i}", value)
        seconds.append(perf_counter() - began)
        await quiet()
        keys.append(writer.named(f"value {i}"))
    return keys, percentiles(seconds)


def reader(net: Loopback, provider: str, index: int) -> SecureDHT:
    """A node that only asks: it has no address, so it is given no records."""
    config = Config(
        network=net.nodes[0].env.params,
        provider=provider,  # type: ignore[arg-type]
        listen=(),
        bootstrap=net.bootstrap,
    )
    host = group_address(FIRST_READER + index)
    return SecureDHT(config, Parts(transports=(TcpTransport(bind_host=host),)))


async def get_each(node: SecureDHT, keys: list[Named], consistency: Consistency) -> list[float]:
    """One after the other; seconds each.  A GET begins when the network rests from the one before."""
    seconds: list[float] = []
    for key in keys:
        began = perf_counter()
        result = await node.get(key, consistency=consistency, ignore_local=True)
        seconds.append(perf_counter() - began)
        assert len(result.value or b"") == VALUE_BYTES
        await quiet()
    return seconds


async def get_majority(everyone: list[SecureDHT], node: SecureDHT, keys: list[Named]) -> dict[str, Any]:
    """get_majority_ms, get_cpu_ms, get_bytes."""
    sent, cpu = received(everyone), process_time()
    seconds = await get_each(node, keys, "majority")
    return {
        "get_majority_ms": percentiles(seconds),
        "get_cpu_ms": round(1000 * (process_time() - cpu) / len(keys), 2),
        "get_bytes": round((received(everyone) - sent) / len(keys)),
    }


async def get_at_once(node: SecureDHT, keys: list[Named], in_flight: int) -> float:
    """GETs with a majority per second, `in_flight` under way at any time."""
    waiting = iter(keys)

    async def some() -> None:
        for key in waiting:
            await node.get(key, consistency="majority", ignore_local=True)

    began = perf_counter()
    await asyncio.gather(*(some() for _ in range(in_flight)))
    return round(len(keys) / (perf_counter() - began), 2)
