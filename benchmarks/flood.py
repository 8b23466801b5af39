"""`make flood`: a victim on one core of its own, attackers and an honest network on the others.

    python -m benchmarks.flood [--quick] [--provider liboqs] [--seconds 20]

Prints a table on standard error and one JSON document on standard output.  Capacity is the rate of valid
first messages the victim answers when it has nothing else to do; the floods come at multiples of it.
What each figure is stands in README.md next to this file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.attacker import Order
from benchmarks.figures import progress
from pqdht.daemon.requests import Status
from pqdht.testing.processes import ProcessNode
from pqdht.testing.testnet import group_address

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Scale:
    """How much is done."""

    honest: int = 8
    seconds: float = 20.0
    capacity_s: float = 6.0
    capacity_messages: int = 6000
    messages: int = 20_000
    factor_junk: float = 10.0
    factor_valid: float = 3.2
    attackers: int = 2
    """Processes that share one flood."""


FULL = Scale()
QUICK = Scale(honest=5, seconds=3.0, capacity_s=1.0, capacity_messages=500, messages=1500, attackers=1)
TINY = Scale(honest=4, seconds=1.5, capacity_s=0.5, capacity_messages=150, messages=300, attackers=1)


class Child:
    """A process that takes and gives lines of JSON."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.first: dict[str, Any] = {}
        """What it said when it was ready."""

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @classmethod
    async def start(cls, module: str, *arguments: str, cpus: set[int]) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, *arguments, cwd=ROOT,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        child = cls(process)
        os.sched_setaffinity(process.pid, cpus)
        try:
            child.first = await child.read()
        except BaseException:
            await child.close()
            raise
        return child

    async def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a process of the benchmark ended; standard error says why")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def tell(self, order: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Bench:
    """One victim, one honest network, floods one after the other."""

    def __init__(self, scale: Scale, provider: str, victim: ProcessNode, honest: Child) -> None:
        self._scale, self._provider = scale, provider
        self._victim, self._honest = victim, honest
        cpus = sorted(os.sched_getaffinity(0))
        self._others = set(cpus[:-1]) or set(cpus)
        self.capacity = 0.0

    def order(self, **more: Any) -> Order:
        """An attacker's order against our victim."""
        fields = {"address": self._victim.events["ready"]["addresses"][0], "provider": self._provider}
        return Order(node_id=self._victim.node_id, **fields, **more)

    async def measure_capacity(self) -> float:
        """First messages answered per second, nothing else going on."""
        scale = self._scale
        order = self.order(
            kind="valid", seconds=scale.capacity_s, rate=0.0, at_once=64, messages=scale.capacity_messages,
            answers_cookies=True, hold=False, first_prefix=500,
        )  # fmt: skip
        (outcome,) = await self._attack([order])
        self.capacity = outcome["answered_per_s"]
        return self.capacity

    async def flood(self, name: str, kind: str, factor: float, **more: Any) -> dict[str, Any]:
        """One flood and what the honest saw meanwhile."""
        scale, n = self._scale, self._scale.attackers
        rate = factor * self.capacity / n
        # Every message of a `valid` flood is to be sent, at the same pace.
        seconds = max(scale.seconds, 1.0 + more["messages"] / rate if kind == "valid" else 0.0)
        more |= {"kind": kind, "rate": rate, "seconds": seconds, "prefixes": 50 // n}
        orders = [self.order(first_prefix=i * (50 // n), **more) for i in range(n)]
        before = await self.state()
        progress(f"{name}: {factor} x {self.capacity:.0f}/s wanted, preparing")
        outcomes = await self._attack(orders, meanwhile=seconds)
        honest, outcomes = outcomes[0], outcomes[1:]
        after = await self.state()
        total = {k: sum(o[k] for o in outcomes) for k in outcomes[0] if k not in ("kind", "seconds")}
        return {
            "name": name,
            "attack": total,
            "offered_x_capacity": round(total["per_s"] / self.capacity, 2) if self.capacity else None,
            "honest": honest,
            "victim": {
                "rss_mb": after["rss_mb"],
                "rss_peak_mb": after["rss_peak_mb"],
                "cpu_s": round(after["cpu_s"] - before["cpu_s"], 2),
                "counters": changed(before["counters"], after["counters"]),
            },
        }

    async def quiet(self) -> dict[str, Any]:
        """The same honest work without an attack."""
        self._honest.tell({"seconds": self._scale.seconds})
        return {"name": "no attack", "honest": await self._honest.read(), "victim": await self.state()}

    async def _attack(self, orders: list[Order], *, meanwhile: float = 0.0) -> list[dict[str, Any]]:
        """Prepare all attackers, then let them go at once; the honest work for so long, and come first."""
        texts = [json.dumps(asdict(order)) for order in orders]
        attackers = await asyncio.gather(
            *(Child.start("benchmarks.attacker", text, cpus=self._others) for text in texts)
        )
        try:
            busy = list(attackers)
            if meanwhile:
                busy.insert(0, self._honest)
            for child in busy:
                child.tell({"seconds": meanwhile})
            return list(await asyncio.gather(*(child.read() for child in busy)))
        finally:
            await asyncio.gather(*(child.close() for child in attackers))

    async def state(self) -> dict[str, Any]:
        """Memory, CPU time and counters of the victim."""
        figures = usage(self._victim.pid)
        return {**figures, "counters": (await self._victim.call(Status()))["counters"]}


def pin(pid: int, cpu: int) -> None:
    """A process and all its threads to one core."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(thread.name), {cpu})


def usage(pid: int) -> dict[str, float]:
    """rss_mb, rss_peak_mb and cpu_s of a process so far."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
    )
    ticks = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]  # user, system
    return {
        "rss_mb": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "rss_peak_mb": round(int(status["VmHWM"].split()[0]) / 1024, 1),
        "cpu_s": sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"),
    }


def changed(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """What was counted in between."""
    return {k: v - before.get(k, 0) for k, v in after.items() if v != before.get(k, 0)}


async def run(scale: Scale, provider: str = "auto") -> dict[str, Any]:
    """Everything; the document that is printed."""
    cpus = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory(prefix="pqdht-flood-") as directory:
        home = Path(directory) / "victim"
        victim = ProcessNode(0, group_address(0), home, network="testnet", provider=provider)
        honest = None
        try:
            await victim.start(())
            pin(victim.pid, cpus[-1])
            honest = await Child.start(
                "benchmarks.honest", victim.entry, str(scale.honest), provider,
                cpus=set(cpus[:-1]) or set(cpus),
            )  # fmt: skip
            bench = Bench(scale, provider, victim, honest)
            return await _all(bench, scale)
        finally:
            if honest is not None:
                await honest.close()
            await victim.close()


async def _all(bench: Bench, scale: Scale) -> dict[str, Any]:
    progress("capacity")
    capacity = await bench.measure_capacity()
    progress(f"capacity: {capacity} first messages a second")
    phases = [await bench.quiet()]
    each = scale.messages // scale.attackers
    floods: list[tuple[str, str, float, dict[str, Any]]] = [
        ("garbage first flights", "garbage", scale.factor_junk, {}),
        ("half-open handshakes", "half_open", scale.factor_junk, {"messages": 50}),
        ("replayed first flights", "replayed", scale.factor_junk, {"messages": 50}),
        ("valid first messages", "valid", scale.factor_valid, {"messages": each}),
        (
            "valid first messages, cookies answered", "valid", scale.factor_valid,
            {"messages": each, "answers_cookies": True},
        ),
    ]  # fmt: skip
    for name, kind, factor, more in floods:
        phases.append(await bench.flood(name, kind, factor, **more))
        progress(line(phases[-1]))
    return {"capacity_per_s": capacity, "cores": os.cpu_count(), "load": os.getloadavg()[0], "phases": phases}


def line(phase: dict[str, Any]) -> str:
    """One phase in one line."""
    gets, joins, victim = phase["honest"]["gets"], phase["honest"]["newcomers"], phase["victim"]
    attack = phase.get("attack", {})
    return (
        f"{phase['name']:40} {phase.get('offered_x_capacity') or 0:6.2f} x  {attack.get('per_s', 0):8.0f}/s  "
        f"GET {gets['succeeded']}/{gets['asked']} p50 {gets['p50_ms']} p99 {gets['p99_ms']} ms  "
        f"join {joins['succeeded']}/{joins['asked']} p50 {joins['p50_ms']} ms  "
        f"RSS {victim['rss_mb']} (peak {victim['rss_peak_mb']}) MB"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="Flood a node; the JSON goes to standard output.")
    parser.add_argument("--quick", action="store_true", help="few seconds and messages: to see that it runs")
    parser.add_argument("--provider", default="auto")
    arguments = parser.parse_args()
    report = asyncio.run(run(QUICK if arguments.quick else FULL, arguments.provider))
    for phase in report["phases"]:
        progress(line(phase))
    print(json.dumps(report, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
