"""What the defences cost where nobody attacks: the same GETs with all of them on, and with all of them off.

Two networks in this process take turns of `TURN` GETs, so that the machine is the same to both.  Off is what
`Config(defences="off")` is: also Kademlia's one path, which ends when the k closest of all have answered,
instead of four of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from statistics import median
from time import perf_counter, process_time
from typing import Any

from benchmarks.figures import Effort, progress, quiet
from benchmarks.network import grow, put
from pqdht.config import Config
from pqdht.node.dht import SecureDHT
from pqdht.node.environment import Parts
from pqdht.records import Named
from pqdht.testing.testnet import Testnet, group_address
from pqdht.transport.tcp import TcpTransport

TURN = 5
WARMING = 20
"""GETs before those that count, so that sessions are open and keys known."""
READERS = {"enforce": 250, "off": 251}
"""The readers' addresses.  Nodes of both networks share theirs, at ports of their own."""


class _Side:
    """One of the two networks, its reader, and what its GETs took."""

    def __init__(self, node: SecureDHT, keys: list[Named]) -> None:
        self.node = node
        self.keys = keys
        self.seconds: list[float] = []
        self.cpu: list[float] = []

    async def read(self, keys: list[Named], *, counts: bool) -> None:
        for key in keys:
            began, cpu = perf_counter(), process_time()
            await self.node.get(key, consistency="majority", ignore_local=True)
            took = perf_counter() - began
            await quiet()
            if counts:
                self.seconds.append(took)
                self.cpu.append(process_time() - cpu)


async def measure(provider: str, effort: Effort) -> dict[str, Any]:
    """defences_latency_ratio and defences_cpu_ratio: enforce / off, medians of majority GETs."""
    async with AsyncExitStack() as stack:
        sides = [await _side(stack, provider, effort, mode) for mode in READERS]
        warming = min(WARMING, effort.keys // 2)
        for side in sides:
            await side.read(side.keys[:warming], counts=False)
        for first in range(warming, effort.keys, TURN):
            for side in sides:
                await side.read(side.keys[first : first + TURN], counts=True)
    on, off = sides

    def ratio(figure: Callable[[_Side], list[float]]) -> float:
        return round(median(figure(on)) / median(figure(off)), 3)

    for name, side in zip(READERS, sides, strict=True):
        took, cpu = 1000 * median(side.seconds), 1000 * median(side.cpu)
        progress(f"  defences {name}: {took:.2f} ms, {cpu:.2f} ms of CPU per GET")
    return {
        "defences_latency_ratio": ratio(lambda s: s.seconds),
        "defences_cpu_ratio": ratio(lambda s: s.cpu),
    }


async def _side(stack: AsyncExitStack, provider: str, effort: Effort, mode: str) -> _Side:
    net = Testnet.loopback(0, network=effort.params, provider=provider, defences=mode)
    await stack.enter_async_context(net)
    await grow(net, effort.nodes)
    keys, _ = await put(net, effort.keys)
    config = Config(
        network=effort.params,
        provider=provider,  # type: ignore[arg-type]
        listen=(),
        bootstrap=net.bootstrap,
        defences=mode,  # type: ignore[arg-type]
    )
    host = group_address(READERS[mode])
    node = SecureDHT(config, Parts(transports=(TcpTransport(bind_host=host),)))
    await stack.enter_async_context(node)
    await node.bootstrapped(60)
    await node.find_node(node.node_id)
    await quiet()
    return _Side(node, keys)
