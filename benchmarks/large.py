"""128 nodes over loopback TCP: GETs in one process, and how many at once with the nodes in two.

`python -m benchmarks.large half PROVIDER COUNT FIRST ENTRY` is the other process: nodes that join
through ENTRY, until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks import network
from benchmarks.figures import FULL, QUICK, Effort, percentiles, progress, quiet
from pqdht.daemon.service import tune_interpreter
from pqdht.node.dht import SecureDHT
from pqdht.testing.testnet import Loopback, Testnet

ROOT = Path(__file__).resolve().parent.parent


async def measure(provider: str, effort: Effort) -> dict[str, Any]:
    """`n128`: get_first_ms, get_majority_ms, get_cpu_ms, gets_per_s_50."""
    room_for_links()
    return {"n128": await together(provider, effort) | await divided(provider, effort)}


def room_for_links() -> None:
    """Every node has a link to most others, and both its ends are files of this process."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def together(provider: str, effort: Effort) -> dict[str, Any]:
    """All nodes in this process."""
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Testnet.loopback(0, network=effort.params, provider=provider))
        await join(net, effort.many_nodes, 0)
        keys, _ = await network.put(net, effort.many)
        readers = await readers_of(stack, net, provider, 2)
        first = percentiles(await network.get_each(readers[0], keys, "first"))
        everyone = [*net.nodes, *readers]
        figures = await network.get_majority(everyone, readers[1], keys)
        refuse_busy(everyone)
    return {"get_first_ms": first} | {name: figures[name] for name in ("get_majority_ms", "get_cpu_ms")}


async def divided(provider: str, effort: Effort) -> dict[str, Any]:
    """Half of the nodes here with the reader, half in another process, on the other core if there is one."""
    half = effort.many_nodes // 2
    async with AsyncExitStack() as stack:
        net = await stack.enter_async_context(Testnet.loopback(0, network=effort.params, provider=provider))
        await net.add(0)
        other = other_half(provider, half, effort.many_nodes - half, net.bootstrap[0], effort is QUICK)
        await stack.enter_async_context(other)
        await join(net, half, 1)
        keys, _ = await network.put(net, effort.many)
        (reader,) = await readers_of(stack, net, provider, 1)
        rate = await network.get_at_once(reader, keys, effort.in_flight)
        refuse_busy([*net.nodes, reader])
    return {"gets_per_s_50": rate}


async def join(net: Loopback, nodes: int, first: int) -> None:
    """Nodes `first`.. come one after the other; then each looks itself up once more."""
    for index in range(first, nodes):
        node = await net.add(index)
        await node.bootstrapped(60)
    for node in net.nodes:
        if len(node._routing.table):
            await node.find_node(node.node_id)
    await quiet()


async def readers_of(stack: AsyncExitStack, net: Loopback, provider: str, count: int) -> list[SecureDHT]:
    """Readers with open sessions, which hold nothing."""
    readers = [await stack.enter_async_context(network.reader(net, provider, i)) for i in range(count)]
    for node in readers:
        await node.bootstrapped(60)
        await node.find_node(node.node_id)
    await quiet()
    return readers


def refuse_busy(nodes: list[SecureDHT]) -> None:
    """Figures of nodes that refused questions are figures of their limiter."""
    if any(node.env.counters[network.REFUSED] for node in nodes):
        progress("  note: a node refused questions as too many")


@asynccontextmanager
async def other_half(provider: str, first: int, count: int, entry: str, quick: bool) -> AsyncIterator[None]:
    """Nodes in a process of their own, joined."""
    command = [sys.executable, "-m", "benchmarks.large", "half", provider, str(count), str(first), entry]
    process = await asyncio.create_subprocess_exec(
        *command,
        *(["--quick"] if quick else []),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        if not await process.stdout.readline():
            raise RuntimeError("the other half of the network did not come up")
        yield
    finally:
        process.stdin.close()
        await process.wait()


async def be_half(provider: str, effort: Effort, first: int, count: int, entry: str) -> None:
    """Until standard input ends."""
    room_for_links()
    settings: dict[str, Any] = {"provider": provider, "bootstrap": (entry,)}
    async with Testnet.loopback(0, network=effort.params, **settings) as net:
        await join(net, first + count, first)
        print("joined", flush=True)
        await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=("measure", "half"))
    parser.add_argument("provider", choices=("liboqs", "openssl"), nargs="?", default="liboqs")
    parser.add_argument("count", type=int, nargs="?", default=0)
    parser.add_argument("first", type=int, nargs="?", default=0)
    parser.add_argument("entry", nargs="?", default="")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    tune_interpreter()  # as the daemon does
    effort = QUICK if arguments.quick else FULL
    from benchmarks.provider import loop_factory

    if arguments.work == "half":
        work: Any = be_half(arguments.provider, effort, arguments.first, arguments.count, arguments.entry)
    else:
        work = measure(arguments.provider, effort)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        found = runner.run(work)
    if found is not None:
        print(found)


if __name__ == "__main__":
    main()
