"""Where the time goes: `python -m benchmarks.profiling rpc|get|handshake [provider]`.

cProfile over the work that the benchmark of the same name times; the profiler itself about doubles
the cost of small Python functions, so read shares, not milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
from collections.abc import Callable, Coroutine
from typing import Any

from benchmarks import handshake, network, rpc
from benchmarks.figures import FULL, Effort
from benchmarks.provider import loop_factory
from benchmarks.run import PROVIDERS
from pqdht.testing.testnet import Testnet

SHOWN = 45
Profiled = Callable[[str, Effort, cProfile.Profile], Coroutine[Any, Any, None]]


async def profile_handshake(provider: str, effort: Effort, profile: cProfile.Profile) -> None:
    alice, bob = await handshake.party(provider, effort), await handshake.party(provider, effort)
    handshake.shake(alice, bob, bob.identity.kem.public)
    with profile:
        handshake.repeat(lambda: handshake.shake(alice, bob, bob.identity.kem.public), effort.handshakes)


async def profile_rpc(provider: str, effort: Effort, profile: cProfile.Profile) -> None:
    params = rpc.without_allowance(effort.params)
    async with Testnet.loopback(0, network=params, provider=provider) as net:
        asked, asker = await net.add(0), await net.add(1)
        await asker.bootstrapped(60)
        await rpc.rate(asker, asked, effort.rpcs // 10, 1)
        with profile:
            await rpc.rate(asker, asked, effort.rpcs, 1)


async def profile_get(provider: str, effort: Effort, profile: cProfile.Profile) -> None:
    async with Testnet.loopback(0, network=effort.params, provider=provider) as net:
        await network.grow(net, effort.nodes)
        keys, _ = await network.put(net, effort.keys)
        async with network.reader(net, provider, 0) as node:
            await node.bootstrapped(60)
            await node.find_node(node.node_id)
            with profile:
                await network.get_each(node, keys, "majority")


WORK: dict[str, Profiled] = {"rpc": profile_rpc, "get": profile_get, "handshake": profile_handshake}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", choices=WORK)
    parser.add_argument("provider", nargs="?", choices=PROVIDERS, default="liboqs")
    arguments = parser.parse_args()
    profile = cProfile.Profile()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(WORK[arguments.work](arguments.provider, FULL, profile))
    stats = pstats.Stats(profile)
    stats.strip_dirs().sort_stats("tottime").print_stats(SHOWN)


if __name__ == "__main__":
    main()
