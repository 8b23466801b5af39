"""A flood of valid questions from one address prefix, at ten times what a prefix is allowed.

    python -m benchmarks.prefix_flood [--limit 2000] [--seconds 20] [--honest 8] [--provider liboqs]

Victim, attacker and honest network are processes of their own.  Prints one JSON document: how the GETs of
the others went with and without the flood, and the victim's memory.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import progress
from benchmarks.flood import Child, changed, usage
from pqdht.node.tolls import COSTS
from pqdht.wire.messages import MessageType

TIMES = 10.0
IDS = 4
UNITS = COSTS[MessageType.FIND_NODE][0]


@dataclass(frozen=True)
class Plan:
    """`limit`: the victim's cost units a second of one address group."""

    limit: float = 2000.0
    seconds: float = 20.0
    honest: int = 8
    provider: str = "auto"


TINY = Plan(limit=60.0, seconds=5.0, honest=4)


async def run(plan: Plan) -> dict[str, Any]:
    """Everything; the document that is printed."""
    cpus = os.sched_getaffinity(0)
    children: list[Child] = []

    async def child(module: str, *arguments: str) -> Child:
        made = await Child.start(module, *arguments, cpus=cpus)
        children.append(made)
        return made

    try:
        victim = await child("benchmarks.victim", str(plan.limit), plan.provider)
        entry = victim.first["entry"]
        honest = await child("benchmarks.honest", entry, str(plan.honest), plan.provider)
        askers = await child("benchmarks.asker", entry, str(IDS), plan.provider)
        honest.tell({"seconds": plan.seconds})
        quiet = await honest.read()
        before, memory = await _state(victim), usage(victim.pid)
        progress("flood")
        honest.tell({"seconds": plan.seconds})
        askers.tell({"seconds": plan.seconds, "per_s": TIMES * plan.limit / UNITS})
        during, attack = await asyncio.gather(honest.read(), askers.read())
        after = await _state(victim)
        return {
            "limit_units_per_s": plan.limit,
            "offered_x_limit": round(attack["per_s"] * UNITS / plan.limit, 2),
            "quiet": quiet,
            "flood": during,
            "attack": attack,
            "victim": {
                "rss_mb_before": memory["rss_mb"],
                **usage(victim.pid),
                "counters": changed(before["counters"], after["counters"]),
                "security": changed(before["security"], after["security"]),
            },
        }
    finally:
        await asyncio.gather(*(c.close() for c in reversed(children)))


async def _state(victim: Child) -> dict[str, Any]:
    victim.tell({})
    return await victim.read()


def main() -> int:
    parser = argparse.ArgumentParser(description="Flood a node from one prefix; JSON on standard output.")
    for name in ("limit", "seconds", "honest", "provider"):
        default = getattr(Plan, name)
        parser.add_argument(f"--{name}", type=type(default), default=default)
    print(json.dumps(asyncio.run(run(Plan(**vars(parser.parse_args())))), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
