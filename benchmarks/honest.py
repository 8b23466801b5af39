"""The honest network of `benchmarks.flood`: a few nodes that go on reading while somebody is attacked.

    python -m benchmarks.honest ENTRY NODES        then one line {"name": ..., "seconds": ...} per phase

A process of its own.  Every value is read from others (`ignore_local`), over lookups that ask the
victim too; beside that, newcomers join through the victim alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from statistics import median
from time import monotonic
from typing import Any

from pqdht.config import Config
from pqdht.errors import PqdhtError
from pqdht.node.dht import SecureDHT
from pqdht.records import Named
from pqdht.testing.testnet import group_address

KEYS = 16
GETS_PER_S = 10.0
NEWCOMERS_PER_S = 1.0
FIRST = 10
"""Index of the first node's address; the victim has a smaller one."""


@dataclass
class Tally:
    """How one kind of work went."""

    seconds: list[float] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)
    with_victim: int = 0
    """GETs in whose evidence the victim stands."""

    def failed(self, error: Exception) -> None:
        name = type(error).__name__
        self.errors[name] = self.errors.get(name, 0) + 1

    def report(self) -> dict[str, Any]:
        ok, bad = len(self.seconds), sum(self.errors.values())
        ordered = sorted(self.seconds)
        return {
            "asked": ok + bad,
            "succeeded": ok,
            "success": round(ok / (ok + bad), 4) if ok + bad else None,
            "p50_ms": round(1000 * median(ordered), 1) if ordered else None,
            "p99_ms": round(1000 * ordered[int(0.99 * (ok - 1))], 1) if ordered else None,
            "with_victim": self.with_victim,
            "errors": self.errors,
        }


class Network:
    """The nodes of this process."""

    def __init__(self, entry: str, provider: str) -> None:
        self._entry = entry
        self._provider = provider
        self._victim = bytes.fromhex(entry.partition("@")[0])
        self._nodes: list[SecureDHT] = []
        self._keys: list[tuple[Named, bytes]] = []
        self._made = 0

    def _make(self) -> SecureDHT:
        host = group_address(FIRST + self._made)
        self._made += 1
        config = Config(
            network="testnet",
            provider=self._provider,  # type: ignore[arg-type]
            listen=(f"tcp/{host}:0",),
            bootstrap=(self._entry,),
        )
        return SecureDHT(config)

    async def start(self, count: int) -> None:
        """All join through the victim; each puts some values."""
        for _ in range(count):
            node = self._make()
            await node.start()
            await node.bootstrapped(60.0)
            self._nodes.append(node)
        await asyncio.gather(*(node.find_node(node.node_id) for node in self._nodes))
        for i in range(KEYS):
            writer = self._nodes[i % count]
            value = b"value %d" % i
            await writer.put(f"key {i}", value)
            self._keys.append((writer.named(f"key {i}"), value))

    async def phase(self, seconds: float) -> dict[str, Any]:
        """GETs and newcomers at a steady pace; what is still under way at the end is awaited."""
        gets, joins = Tally(), Tally()
        tasks: set[asyncio.Task[None]] = set()
        end = monotonic() + seconds

        async def pace(per_s: float, work: Any, tally: Tally) -> None:
            n = 0
            while monotonic() < end:
                task = asyncio.create_task(work(n, tally))
                tasks.add(task)
                n += 1
                await asyncio.sleep(1 / per_s)

        await asyncio.gather(pace(GETS_PER_S, self._get, gets), pace(NEWCOMERS_PER_S, self._join, joins))
        await asyncio.gather(*tasks)
        return {"gets": gets.report(), "newcomers": joins.report()}

    async def _get(self, n: int, tally: Tally) -> None:
        await self._read(self._nodes[n % len(self._nodes)], n, tally)

    async def _read(self, node: SecureDHT, n: int, tally: Tally) -> None:
        key, value = self._keys[n % len(self._keys)]
        began = monotonic()
        try:
            result = await node.get(key, ignore_local=True)
        except PqdhtError as e:
            tally.failed(e)
            return
        if result.value != value:
            raise AssertionError("a GET returned another value")
        tally.seconds.append(monotonic() - began)
        tally.with_victim += self._victim in {e.node for e in result.evidence}

    async def _join(self, n: int, tally: Tally) -> None:
        """A node nobody knows joins through the victim and reads a value; one success or one failure."""
        began, part = monotonic(), Tally()
        node = self._make()
        try:
            await node.start()
            await node.bootstrapped(20.0)
            await self._read(node, n, part)
        except PqdhtError as e:
            part.failed(e)
        finally:
            await node.close()
        for name, count in part.errors.items():
            tally.errors[name] = tally.errors.get(name, 0) + count
        if part.seconds:
            tally.seconds.append(monotonic() - began)

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self._nodes))


async def main(entry: str, count: int, provider: str) -> None:
    network = Network(entry, provider)
    try:
        await network.start(count)
        print(json.dumps({"ready": count}), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = json.loads(line)
            print(json.dumps(await network.phase(order["seconds"])), flush=True)
    finally:
        await network.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
