"""Two hundred nodes that come and go, an hour, 10 % loss, a partition that heals: is every GET right?

python -m tests.sim.churn --seed 1      prints the report as JSON; `make churn` runs several seeds

Sessions last as measured in real networks (Stutzbach and Rejaie, IMC 2006): Weibull, shape 0.5, median 40
minutes, all begun at once at the start, which is harder than a network in its steady state.  A node ends
by crash, power cut or in order; it comes back with its disk, or another one comes in its place.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import logging
import math
import random
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pqdht.constants import DAY_S, TESTNET
from pqdht.errors import NotFound, PqdhtError, QuorumNotReached
from pqdht.node.dht import SecureDHT
from pqdht.testing.latency import Coordinates
from pqdht.testing.loop import run
from tests.sim.book import Book, Line, Seen, Tally
from tests.sim.harness import Net

log = logging.getLogger(__name__)

MINUTE = 60.0
SHAPE = 0.5
ANCHORS = 4
"""Nodes that stay: the bootstrap entries, half of them on each side of the partition."""
NEITHER = -1
RETURNS = 0.6
AWAY_S = 8 * MINUTE
"""Mean time until a node that returns does."""
SUCCESSION_S = 60.0
"""Mean time until a new node comes in the place of one that does not return."""
SHORT_TTL_S = 600


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. Times in seconds of virtual time from when the network stands."""

    seed: int = 1
    nodes: int = 200
    k: int = 20
    loss: float = 0.1
    median_s: float = 40 * MINUTE
    """Of the sessions."""
    length_s: float = 60 * MINUTE
    divided_at: float = 15 * MINUTE
    divided_s: float = 10 * MINUTE
    get_every_s: float = 1.0
    put_every_s: float = 4 * MINUTE
    lines: int = 60
    """Values: half are updated, a quarter deleted and written again in turn, an eighth have a short life,
    and the owners of an eighth go away for ever."""
    grace_s: float = 10 * MINUTE
    """After the heal everybody must see what either side wrote; one republish interval would be allowed."""


@dataclass
class Report:
    """What came of it."""

    gets: dict[str, int] = field(default_factory=dict)
    puts: Counter[str] = field(default_factory=Counter)
    lives: Counter[str] = field(default_factory=Counter)
    share_right: float = 0.0
    right: int = 0
    failed: int = 0
    wrong: int = 0
    behind_after_heal: list[float] = field(default_factory=list)
    """Seconds after the heal at which a GET gave one side's version though the other had a newer one."""
    bad: list[str] = field(default_factory=list)
    up_mean: float = 0.0
    counters: dict[str, int] = field(default_factory=dict)
    trace: str = ""
    virtual_s: float = 0.0


def weibull(dice: random.Random, median_s: float) -> float:
    """One session in seconds."""
    scale: float = median_s / math.log(2) ** (1 / SHAPE)
    return dice.weibullvariate(scale, SHAPE)


class Churn:
    """The network, its writers and readers, and what happens to them."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.dice = random.Random(f"churn {scenario.seed}")
        self.net = Net(
            scenario.seed,
            params=replace(TESTNET, k=scenario.k),
            simulator={"latency": Coordinates(scenario.seed), "loss": scenario.loss},
        )
        self.book = Book(scenario.grace_s)
        self.tally = Tally()
        self.report = Report()
        self.lines: list[tuple[Line, int, str]] = []
        """(line, its writer's seat, kind)"""
        self._adding = asyncio.Lock()
        self._up_since: dict[int, float] = {}
        self._leavers: dict[int, float] = {}
        self._sides: dict[int, int] = {}
        self._up_seen: list[int] = []

    # --- the whole -----------------------------------------------------------------------------

    async def run(self) -> Report:
        """The whole scenario."""
        s, loop = self.scenario, asyncio.get_running_loop()
        await self._build()
        self._start = loop.time()
        self._end = self._start + s.length_s
        self._choose_writers()
        work: list[Coroutine[Any, Any, None]] = [self._live(i) for i in range(ANCHORS, s.nodes)]
        work += [self._write(*line) for line in self.lines]
        work += [self._divide(), self._read(), self._tell()]
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
        self._finish()
        await self.net.close()
        self.report.trace = self.net.sim.trace_hash()
        self.report.virtual_s = loop.time()
        return self.report

    async def _build(self) -> None:
        await self.net.grow(ANCHORS)
        self.net.bootstrap = tuple(map(self.net.entry, range(ANCHORS)))
        for seat in self.net.seats:
            seat.bootstrap = self.net.bootstrap
        await self.net.grow(self.scenario.nodes - ANCHORS, pause_s=0.2)

    def _choose_writers(self) -> None:
        s = self.scenario
        seats = self.dice.sample(range(ANCHORS, s.nodes), s.lines)
        for n, seat in enumerate(seats):
            kind = ("updated", "deleted", "updated", "short", "updated", "deleted", "updated", "left")[n % 8]
            self.lines.append((Line(f"line-{n}"), seat, kind))
            if kind == "left":
                self._leavers[seat] = self.dice.uniform(2 * MINUTE, s.length_s / 3)

    def _finish(self) -> None:
        r, t = self.report, self.tally
        r.gets, r.bad = dict(sorted(t.counts.items())), t.bad
        r.right, r.failed, r.wrong, r.share_right = t.right, t.failed, t.wrong, t.share
        r.up_mean = sum(self._up_seen) / max(1, len(self._up_seen))
        total: Counter[str] = Counter()
        for node, up in zip(self.net.nodes, self.net.up, strict=True):
            if up:
                total.update(node.status()["counters"])
        r.counters = dict(sorted(total.items()))

    async def _tell(self) -> None:
        while await self._pause(MINUTE):
            minute = (asyncio.get_running_loop().time() - self._start) / MINUTE
            t = self.tally
            log.info("minute %.0f: %d right, %d failed, %d wrong", minute, t.right, t.failed, t.wrong)

    def _left_s(self) -> float:
        return self._end - asyncio.get_running_loop().time()

    async def _pause(self, seconds: float) -> bool:
        """Sleep; False if the end came first."""
        left = self._left_s()
        await asyncio.sleep(max(0.0, min(seconds, left)))
        return seconds < left

    # --- coming and going ----------------------------------------------------------------------

    async def _live(self, index: int) -> None:
        """Sessions of one place in the network, of one node after another."""
        while True:
            session = weibull(self.dice, self.scenario.median_s)
            is_last = index in self._leavers and index < self.scenario.nodes
            if is_last:
                session = self._leavers[index]
            if not await self._pause(session):
                return
            await self._end_life(index)
            if not is_last and self.dice.random() < RETURNS:
                if not await self._pause(1.0 + self.dice.expovariate(1 / AWAY_S)):
                    return
                self.report.lives["returned"] += 1
                await self.net.restart(index)
                self._up_since[index] = asyncio.get_running_loop().time()
            else:
                if not await self._pause(self.dice.expovariate(1 / SUCCESSION_S)):
                    return
                self.report.lives["came new"] += 1
                async with self._adding:
                    self.net.nodes[index] = SecureDHT()  # lets go of the dead one's memory
                    await self.net.add()
                    index = len(self.net.seats) - 1
                self._up_since[index] = asyncio.get_running_loop().time()

    async def _end_life(self, index: int) -> None:
        how = self.dice.choice(["crashed", "lost power", "closed"])
        self.report.lives[how] += 1
        if how == "closed":
            self.net.up[index] = False
            await self.net.nodes[index].close()
        await self.net.crash(index, silent=how == "lost power")

    async def _divide(self) -> None:
        s, loop = self.scenario, asyncio.get_running_loop()
        if not s.divided_s or not await self._pause(s.divided_at):
            return
        seats = list(range(ANCHORS, len(self.net.seats)))
        half = [*range(0, ANCHORS, 2), *self.dice.sample(seats, len(seats) // 2)]
        self.net.sim.partition([[self.net.seats[i].ip for i in half]])
        self._sides = dict.fromkeys(half, 1)
        self.book.divide(loop.time())
        await self._pause(s.divided_s)
        self.net.sim.heal()
        self._sides = {i: self._sides.get(i, 0) for i in range(len(self.net.seats))}
        self.book.heal(loop.time())

    def _side(self, index: int) -> int:
        """Where a node is or was in the partition; who came after it was on neither side."""
        return self._sides.get(index, NEITHER if self.book.healed_at is not None else 0)

    # --- writing -------------------------------------------------------------------------------

    async def _write(self, line: Line, seat: int, kind: str) -> None:
        if kind == "short":  # one in a while, each time until it is over
            pauses = [self.dice.uniform(0, 5 * MINUTE), *[SHORT_TTL_S * 1.6] * 9]
        elif kind == "left":
            pauses = [self.dice.uniform(0, MINUTE)]
        else:
            first = self.dice.uniform(0, MINUTE)
            pauses = [first, *(self.scenario.put_every_s * self.dice.uniform(0.5, 1.5) for _ in range(99))]
        for n, pause in enumerate(pauses):
            if not await self._pause(pause):
                return
            if self.net.up[seat]:
                await self._put(line, seat, kind, is_tombstone=kind == "deleted" and n % 2 == 1)

    async def _put(self, line: Line, seat: int, kind: str, *, is_tombstone: bool) -> None:
        node, loop = self.net.nodes[seat], asyncio.get_running_loop()
        version = self.book.begin(line, is_tombstone=is_tombstone, side=self._side(seat))
        try:
            if is_tombstone:
                result = await node.delete(line.name)
            else:
                ttl = SHORT_TTL_S if kind == "short" else DAY_S
                result = await node.put(line.name, Book.value(line, version), ttl=ttl)
        except QuorumNotReached:
            self.report.puts["short of quorum"] += 1
        except PqdhtError as e:
            alive = self._is_same(node, seat)
            self.report.puts[type(e).__name__ if alive else "the writer died"] += 1
        else:
            self.report.puts["reached quorum"] += 1
            version.side = self._side(seat)  # a PUT that met the cut belongs to where its writer is now
            self.book.reached(version, loop.time(), result.record.timestamp, result.record.expires)

    def _is_same(self, node: SecureDHT, seat: int) -> bool:
        return self.net.up[seat] and node is self.net.nodes[seat]

    # --- reading -------------------------------------------------------------------------------

    async def _read(self) -> None:
        async with asyncio.TaskGroup() as group:
            while await self._pause(self.scenario.get_every_s * self.dice.uniform(0.5, 1.5)):
                ready = [i for i, up in enumerate(self.net.up) if up and self._has_joined(i)]
                self._up_seen.append(sum(self.net.up))
                line, seat, kind = self.dice.choice(self.lines)
                if line.is_begun:
                    group.create_task(self._get(self.dice.choice(ready), line, seat, kind))

    def _has_joined(self, index: int) -> bool:
        node = self.net.nodes[index]
        return node._env is not None and node._entrance.is_open.is_set()

    async def _get(self, reader: int, line: Line, seat: int, kind: str) -> None:
        loop, book = asyncio.get_running_loop(), self.book
        node, side = self.net.nodes[reader], self._side(reader)
        began, began_ms = loop.time(), self.net.clock()
        required, was_divided = book.required(line, side, began), book.is_divided
        seen = Seen()
        try:
            result = await node.get(line.name, owner=self.net.seats[seat].owner.owner_id)
            seen.value = result.value
        except NotFound as e:
            seen.deleted_at = e.fields.get("deleted_at")
            seen.error = f"NotFound {e.result.responders} answered"
        except PqdhtError as e:
            if not self._is_same(node, reader):
                self.tally.counts["the reader died"] += 1
                return
            seen.error = type(e).__name__
            seen_result = getattr(e, "result", None)
            if seen_result is not None:
                r = seen_result
                detail = f"{r.confirmations}/{r.holders} of {r.responders}, rollback {r.rollback_from}"
                seen.error += f" {r.verdict.value} {detail} saw {r.value!r}"
        if book.is_divided != was_divided:  # it met the cut or the heal: the weaker claim counts
            now_required = book.required(line, self._side(reader), loop.time())
            numbers = [v.number if v else 0 for v in (required, now_required)]
            required = [required, now_required][numbers.index(min(numbers))]
        since_heal = began - book.healed_at if book.healed_at is not None else -1.0
        if since_heal >= 0 and book.is_behind(line, seen, side, began):
            self.report.behind_after_heal.append(round(since_heal, 1))
        verdict = book.judge(line, required, seen, began_ms, self.net.clock())
        self.tally.note(
            verdict,
            lambda: (
                f"{(began - self._start) / MINUTE:.2f} min, {loop.time() - began:.1f} s: {reader}"
                f" (side {side}, up {loop.time() - self._up_since.get(reader, 0):.0f} s) reads {line.name}"
                f" ({kind}, required {required and required.number} of {len(line.versions)}): {seen}"
            ),
        )


def play(scenario: Scenario) -> Report:
    """Run the scenario in virtual time."""

    async def main() -> Report:
        return await Churn(scenario).run()

    return run(main)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, value in asdict(Scenario()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    scenario = Scenario(**vars(parser.parse_args()))
    logging.basicConfig(level=logging.ERROR, format="%(message)s")
    log.setLevel(logging.INFO)
    gc.set_threshold(100_000, 50, 100)  # nearly everything lives as long as the run
    began = time.process_time()
    report = play(scenario)
    print(json.dumps({"scenario": asdict(scenario), **vars(report), "cpu_s": time.process_time() - began}))


if __name__ == "__main__":
    main()
