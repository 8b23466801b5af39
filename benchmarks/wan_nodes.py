"""The nodes of the wide area network, all in this process.

`python -m benchmarks.wan_nodes NODES KEYS K SETTLE_S` prints one JSON line when all have
joined and the values are put and at rest, then serves until its input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

from benchmarks.figures import progress
from benchmarks.network import VALUE_BYTES
from benchmarks.provider import loop_factory
from benchmarks.wan_link import host, put_first
from pqdht.config import Config
from pqdht.constants import TESTNET, ParameterSet
from pqdht.daemon.service import tune_interpreter
from pqdht.node.dht import SecureDHT
from pqdht.node.environment import Parts
from pqdht.testing.testnet import entry_of
from pqdht.transport.tcp import TcpTransport

AT_ONCE = 8
"""Nodes that join together."""
PORT = 4733


def parameters(k: int) -> ParameterSet:
    """testnet, with another k for a small trial."""
    return replace(TESTNET, k=k)


def make_node(index: int, params: ParameterSet, bootstrap: tuple[str, ...]) -> SecureDHT:
    """A node at its own address."""
    address = host(index)
    config = Config(network=params, listen=(f"tcp/{address}:{PORT}",), bootstrap=bootstrap)
    return SecureDHT(config, Parts(transports=(TcpTransport(bind_host=address),)))


async def serve(count: int, keys: int, k: int, settle_s: float) -> None:
    """Grow the network, put the values, say so, wait."""
    params = parameters(k)
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(make_node(0, params, ()))
        nodes = [first]
        while len(nodes) < count:
            entry = entry_of(nodes[len(nodes) // 2])
            indices = range(len(nodes), min(count, len(nodes) + AT_ONCE))
            batch = [make_node(i, params, (entry,)) for i in indices]
            for node in batch:
                await stack.enter_async_context(node)
            await asyncio.gather(*(node.bootstrapped(60) for node in batch))
            nodes += batch
        progress(f"  {count} nodes joined; each looks around once more")
        for begin in range(0, count, AT_ONCE):
            await asyncio.gather(*(node.find_node(node.node_id) for node in nodes[begin : begin + AT_ONCE]))
        said = await put(nodes, keys)
        progress("  values put; waiting until they are placed a second time, as young nodes do")
        await asyncio.sleep(settle_s)
        put_first()
        print(json.dumps(said), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def put(nodes: list[SecureDHT], count: int) -> dict[str, Any]:
    """One value each by the nodes in turn.  Says who is where, and (owner, name) of each value."""

    async def one(i: int) -> list[str]:
        writer = nodes[i % len(nodes)]
        await writer.put(f"value {i}", i.to_bytes(4, "big").ljust(VALUE_BYTES, b"v"))
        return [writer.owner_id.hex(), f"value {i}"]

    keys: list[list[str]] = []
    for begin in range(0, count, AT_ONCE):
        keys += await asyncio.gather(*(one(i) for i in range(begin, min(count, begin + AT_ONCE))))
    busy = sum(node.env.counters["requests_refused_busy"] for node in nodes)
    if busy:
        raise RuntimeError("a node refused questions as too many: the figures would be of its limiter")
    provider = nodes[0].status()["provider"]
    return {"entries": [entry_of(node) for node in nodes], "keys": keys, "provider": provider}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("nodes", "keys", "k", "settle_s"):
        parser.add_argument(name, type=int)
    arguments = parser.parse_args()
    tune_interpreter()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve(arguments.nodes, arguments.keys, arguments.k, arguments.settle_s))
    return 0


if __name__ == "__main__":
    sys.exit(main())
