"""128 nodes over loopback TCP: GETs in one process, and how many at once with the nodes in two.

The readers are those of a network in use, as with the peers that the figures are compared with: before
anything is measured they look up random ids until that takes no more dials, so their sessions to most nodes
are open and signing keys known.  They never asked for the keys measured and hold no copy of them.  `_fresh`:
a reader that has joined and looked itself up, and shakes hands with most of those it asks.

`python -m benchmarks.large half PROVIDER COUNT FIRST ENTRY` is the other process: nodes that join
through ENTRY, until its standard input ends.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

from benchmarks import network
from benchmarks.figures import FULL, QUICK, Effort, percentiles, progress, quiet
from pqdht.daemon.service import tune_interpreter
from pqdht.ids import ID_BYTES
from pqdht.node.dht import SecureDHT
from pqdht.testing.testnet import Loopback, Testnet

SETTLED = 10
"""Lookups in a row without a dial after which a reader counts as warm."""
LOOKUPS_MOST = 300
CHORES_S = 3.0
ROOT = Path(__file__).resolve().parent.parent


async def measure(provider: str, effort: Effort) -> dict[str, Any]:
    """`n128`: get_first_ms, get_majority_ms, CPU of both, the same `_fresh`, and gets_per_s_50."""
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
        readers = await readers_of(stack, net, provider, 4)
        everyone = [*net.nodes, *readers]
        figures: dict[str, Any] = {}
        chores = await share_of_chores()
        for suffix in ("_fresh", ""):
            for consistency in ("first", "majority"):
                node = readers.pop()
                if not suffix:
                    await warm(node)
                dials, began, cpu = node.env.counters["dials"], perf_counter(), process_time()
                seconds = await network.get_each(node, keys, consistency)
                figures[f"get_{consistency}_ms{suffix}"] = percentiles(seconds)
                name = "get_cpu_ms" if consistency == "majority" else "get_first_cpu_ms"
                figures[name + suffix] = round(1000 * (process_time() - cpu) / len(keys), 2)
                resting = 1000 * chores * (perf_counter() - began) / len(keys)
                dials = node.env.counters["dials"] - dials
                progress(f"  {consistency}{suffix}: {dials} dials; {resting:.1f} ms of CPU are chores")
        refuse_busy(everyone)
    return figures


async def share_of_chores() -> float:
    """CPU seconds a second that all nodes take for themselves.  Not taken off any figure: said beside it."""
    began, cpu = perf_counter(), process_time()
    await asyncio.sleep(CHORES_S)
    return (process_time() - cpu) / (perf_counter() - began)


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
        await warm(reader)
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


async def warm(node: SecureDHT) -> None:
    """Look up random ids until `SETTLED` in a row took no dial, as a node in use has done over time."""
    dice, begun, quiet_ones, lookups = random.Random(1), node.env.counters["dials"], 0, 0
    while quiet_ones < SETTLED and lookups < LOOKUPS_MOST:
        dials = node.env.counters["dials"]
        await node.find_node(dice.randbytes(ID_BYTES))
        quiet_ones = quiet_ones + 1 if node.env.counters["dials"] == dials else 0
        lookups += 1
    await quiet()
    progress(f"  reader warmed by {lookups} lookups and {node.env.counters['dials'] - begun} dials")


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
