"""Those who ask over the wide area network: fresh and warm nodes without an address, in this process.

`python -m benchmarks.wan_askers` reads one JSON line, the job, measures, prints the figures as one line, and
so on until its input ends.  Figures are in units of the round trip.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass, field
from statistics import median, quantiles
from time import perf_counter
from typing import Any

from benchmarks.figures import progress
from benchmarks.network import VALUE_BYTES
from benchmarks.provider import loop_factory
from benchmarks.wan_link import host, put_first
from benchmarks.wan_nodes import parameters
from pqdht.config import Config, Consistency
from pqdht.constants import ParameterSet
from pqdht.daemon.service import tune_interpreter
from pqdht.errors import PqdhtError
from pqdht.ids import parse_owner_id
from pqdht.node.dht import SecureDHT
from pqdht.node.environment import Parts
from pqdht.records import Named
from pqdht.transport.tcp import TcpTransport

WARM_UP = 8
"""GETs of other keys before a node counts as warm."""
SETTLE_S = 3.0
"""After joining, and after the warming up: questions that nobody waited for come to their end."""
PAUSE_S = 0.15
"""Between two GETs."""


@dataclass(slots=True)
class Job:
    """What to measure."""

    rtt_s: float
    k: int
    entries: list[str]
    """Bootstrap entries; a fresh node gets one of them."""
    keys: list[list[str]]
    fresh: int
    warm: int
    puts: int


@dataclass(slots=True)
class Askers:
    """Makes nodes, one address after the other."""

    job: Job
    used: int = 0
    warm: list[SecureDHT] = field(default_factory=list)
    failed: int = 0
    """GETs that raised; they are in no figure."""

    @property
    def params(self) -> ParameterSet:
        return parameters(self.job.k)

    def make(self) -> SecureDHT:
        """A node nobody has met, with one bootstrap entry, another each time."""
        index, self.used = self.used, self.used + 1
        entry = self.job.entries[index * 7 % len(self.job.entries)]
        config = Config(network=self.params, listen=(), bootstrap=(entry,))
        return SecureDHT(config, Parts(transports=(TcpTransport(bind_host=host(index, asker=True)),)))

    def key(self, i: int) -> Named:
        owner, name = self.job.keys[i % len(self.job.keys)]
        return Named(parse_owner_id(owner), name)

    async def fresh(self, consistency: Consistency) -> tuple[list[float], list[float]]:
        """(join, first GET) of one fresh node after the other, in round trips."""
        joins: list[float] = []
        gets: list[float] = []
        for i in range(self.job.fresh):
            node = self.make()
            await node.start()  # keys are made before; the puzzle is not part of joining
            began = perf_counter()
            await node.bootstrapped(60)
            joined = perf_counter()
            if await self.check(node, self.key(i), consistency):
                gets.append((perf_counter() - joined) / self.job.rtt_s)
                joins.append((joined - began) / self.job.rtt_s)
            await asyncio.sleep(1.0)
            await node.close()
        return joins, gets

    async def check(self, node: SecureDHT, key: Named, consistency: Consistency) -> bool:
        """GET the value; whether it came.  Raises RuntimeError where it is another."""
        try:
            result = await node.get(key, consistency=consistency, ignore_local=True)
        except PqdhtError as e:
            progress(f"  a GET failed: {e}")
            self.failed += 1
            return False
        if len(result.value or b"") != VALUE_BYTES:
            raise RuntimeError(f"a GET returned {result.value!r}")
        return True

    async def warm_up(self) -> SecureDHT:
        """A node that has joined and read a few other keys."""
        node = self.make()
        await node.start()
        self.warm.append(node)
        await node.bootstrapped(60)
        await node.find_node(node.node_id)
        await asyncio.sleep(SETTLE_S)
        for i in range(WARM_UP):
            await self.check(node, self.key(-1 - i), "majority")
        await asyncio.sleep(SETTLE_S)
        return node

    async def read(self, node: SecureDHT, consistency: Consistency) -> list[float]:
        """One key after the other, none twice."""
        trips: list[float] = []
        for i in range(self.job.warm):
            began = perf_counter()
            if await self.check(node, self.key(i), consistency):
                trips.append((perf_counter() - began) / self.job.rtt_s)
            await asyncio.sleep(PAUSE_S)
        return trips

    async def write(self, node: SecureDHT) -> list[float]:
        """One new value after the other."""
        trips: list[float] = []
        for i in range(self.job.puts):
            began = perf_counter()
            await node.put(f"written {i}", bytes(VALUE_BYTES))
            trips.append((perf_counter() - began) / self.job.rtt_s)
            await asyncio.sleep(PAUSE_S)
        return trips

    async def measure(self) -> dict[str, Any]:
        """Every figure of README.md."""
        figures: dict[str, Any] = {}
        self.failed = 0
        if self.warm:  # these were warm before the job changed: what a change costs who is under way
            survivor = self.warm[0]
            figures["survivor_majority_rtts"] = percentiles(await self.read(survivor, "majority"))
        progress("  fresh nodes")
        joins, gets = await self.fresh("majority")
        figures["join_rtts"] = middle(joins)
        figures["cold_get_rtts"] = middle(gets)
        figures["start_to_value_rtts"] = middle([a + b for a, b in zip(joins, gets, strict=True)])
        joins, gets = await self.fresh("first")
        figures["cold_get_first_rtts"] = middle(gets)
        figures["start_to_value_first_rtts"] = middle([a + b for a, b in zip(joins, gets, strict=True)])
        progress("  warm nodes")
        node = await self.warm_up()
        figures["warm_first_rtts"] = percentiles(await self.read(node, "first"))
        node = await self.warm_up()
        figures["warm_majority_rtts"] = percentiles(await self.read(node, "majority"))
        figures["put_rtts"] = middle(await self.write(node))
        figures["failed_gets"] = self.failed
        return figures

    async def close(self) -> None:
        for node in self.warm:
            await node.close()


def middle(trips: list[float]) -> float:
    """The median."""
    return round(median(trips), 2)


def percentiles(trips: list[float]) -> dict[str, float]:
    """p50, p95, p99, interpolated."""
    cuts = quantiles(trips, n=100, method="inclusive")
    return {f"p{p}": round(cuts[p - 1], 2) for p in (50, 95, 99)}


async def serve() -> None:
    """Jobs from standard input, one after the other."""
    loop = asyncio.get_running_loop()
    askers: Askers | None = None
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        job = Job(**json.loads(line))
        if askers is None:
            askers = Askers(job)
        askers.job = job
        print(json.dumps(await askers.measure()), flush=True)
    if askers is not None:
        await askers.close()


def main() -> int:
    put_first()
    tune_interpreter()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(serve())
    return 0


if __name__ == "__main__":
    sys.exit(main())
