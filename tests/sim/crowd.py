"""Fifty nodes for half an hour of virtual time, with losses and crashes, and a book of what is true.

python -m tests.sim.crowd SEED      prints the report as JSON
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from dataclasses import dataclass, field, replace

from pqdht.constants import TESTNET
from pqdht.errors import NotConfirmed, NotFound, PqdhtError, QuorumNotReached
from pqdht.ids import OwnerId
from pqdht.kad.quorum import Verdict
from pqdht.testing.latency import Coordinates
from pqdht.testing.loop import run
from tests.sim.harness import Net

NODES = 50
MINUTE = 60.0
LENGTH = 30 * MINUTE
WRITERS = range(0, NODES, 4)
PUT_EVERY = 80.0
GET_EVERY = 3.0
CRASHES = {4: (7, True), 9: (20, False), 13: (0, True), 18: (33, True), 23: (48, False)}
"""minute -> (node, comes back after four minutes): writers (20, 0, 48), the bootstrap node (0)."""


@dataclass
class Line:
    """One owner's value under one name: the versions begun, and the newest that reached quorum."""

    owner: OwnerId
    begun: int = 0
    reached: int = 0


@dataclass
class Report:
    """What came of it."""

    puts: Counter[str] = field(default_factory=Counter)
    gets: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    """A GET that returned what it must not, or failed where a live record was."""
    trace: str = ""
    virtual_s: float = 0.0


class Crowd:
    """The network, its writers and readers, and the book."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(f"crowd {seed}")
        self.net = Net(
            seed,
            params=replace(TESTNET, k=8),
            simulator={"latency": Coordinates(seed), "loss": 0.05},
        )
        self.lines: dict[int, Line] = {}
        self.report = Report()

    async def run(self) -> Report:
        """The whole scenario."""
        loop = asyncio.get_running_loop()
        await self.net.grow(NODES)
        self.lines = {i: Line(self.net.seats[i].owner.owner_id) for i in WRITERS}
        await asyncio.gather(*(self._put(i) for i in WRITERS))
        start = loop.time()
        self._end = start + LENGTH
        async with asyncio.TaskGroup() as group:
            for i in WRITERS:
                group.create_task(self._write(i))
            for minute, (node, returns) in CRASHES.items():
                group.create_task(self._crash(start + minute * MINUTE, node, returns))
            while loop.time() < self._end:
                await asyncio.sleep(GET_EVERY)
                reader = self.dice.choice([i for i in range(NODES) if self.net.up[i]])
                group.create_task(self._get(reader, self.dice.choice(list(self.lines))))
        await self.net.close()
        self.report.trace = self.net.sim.trace_hash()
        self.report.virtual_s = loop.time()
        return self.report

    async def _write(self, i: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PUT_EVERY * self.dice.uniform(0.5, 1.5))
            if loop.time() >= self._end:
                return
            if self.net.up[i]:
                await self._put(i)

    async def _put(self, i: int) -> None:
        line, node = self.lines[i], self.net.nodes[i]
        line.begun += 1
        version = line.begun
        try:
            await node.put("state", b"%d %d" % (i, version))
        except QuorumNotReached:
            self.report.puts["short of quorum"] += 1
        except PqdhtError as e:
            if node is self.net.nodes[i] and self.net.up[i]:
                self.report.wrong.append(f"put {i}/{version}: {e!r}")
            self.report.puts["the writer died"] += 1
        else:
            self.report.puts["reached quorum"] += 1
            line.reached = max(line.reached, version)

    async def _get(self, reader: int, i: int) -> None:
        line, node = self.lines[i], self.net.nodes[reader]
        live = line.reached
        at = asyncio.get_running_loop().time()
        what = f"{at:.1f} s: {reader} reads {i} (reached {live}, begun {line.begun})"
        try:
            result = await node.get("state", owner=line.owner, ignore_local=True)
        except PqdhtError as e:
            if not self.net.up[reader] or node is not self.net.nodes[reader]:
                self.report.gets["the reader died"] += 1
                return
            self.report.gets[type(e).__name__] += 1
            detail = e.result if isinstance(e, NotConfirmed | NotFound) else e
            self.report.wrong.append(f"{what}: {type(e).__name__} {detail}")
            return
        writer, _, version = (result.value or b"").partition(b" ")
        right = writer == b"%d" % i and max(live, 1) <= int(version) <= line.begun
        if result.owner != line.owner or result.verdict is not Verdict.CONFIRMED or not right:
            self.report.wrong.append(f"{what}: {result.value!r} {result.verdict}")
        self.report.gets["right" if right else "wrong"] += 1

    async def _crash(self, at: float, node: int, returns: bool) -> None:
        await asyncio.sleep(at - asyncio.get_running_loop().time())
        await self.net.crash(node)
        self.report.gets["crashes"] += 1
        if returns:
            await asyncio.sleep(4 * MINUTE)
            await self.net.restart(node)


def play(seed: int) -> Report:
    """Run the scenario in virtual time."""

    async def main() -> Report:
        return await Crowd(seed).run()

    return run(main)


if __name__ == "__main__":
    print(json.dumps(vars(play(int(sys.argv[1]))), indent=1))
