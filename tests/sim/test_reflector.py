"""The reflector: names real nodes at a victim's address, so that all who ask it dial the victim."""

from __future__ import annotations

import asyncio
import contextlib

from pqdht.config import DefenceMode
from pqdht.errors import NotBootstrapped
from tests.sim.arena import Arena, run, small
from tests.sim.harness import counter

HONEST, REFLECTORS, NEWCOMERS = 4, 8, 8
VICTIM = "10.77.7.7"
MINUTES = 3


async def scenario(arena: Arena) -> tuple[int, int]:
    """(dials that reached the victim, dials held back) while newcomers join through a reflector."""
    net = arena.net
    net.sim.host(VICTIM).known = True  # it is up, and refuses
    reflectors = range(1, 1 + REFLECTORS)
    arena.enlist("reflector", *reflectors, victim=f"{bytes(32).hex()}@tcp/{VICTIM}:4733")
    for _ in range(NEWCOMERS):
        await (await net.add(bootstrap=(net.entry(1),))).bootstrapped(60.0)
    for _ in range(MINUTES):
        for node in net.nodes[HONEST + REFLECTORS :]:
            with contextlib.suppress(NotBootstrapped):
                await node.find_node(net.seats[0].identity.node_id)
        await asyncio.sleep(60.0)
    held = sum(counter(n, "dials_held_back") for n in net.nodes)
    return net.sim.traffic(VICTIM).packets_received, held


def attack(mode: DefenceMode) -> tuple[int, int, str]:
    nodes = HONEST + REFLECTORS
    (dials, held), trace = run(scenario, nodes, seed=1, params=small(), defences={"dial_caps": mode})
    return dials, held, trace


def test_dials_at_a_victim_are_capped() -> None:
    off, held, trace = attack("off")
    assert held == 0
    assert attack("observe") == (off, 0, trace)
    capped, held, _ = attack("enforce")
    assert held > 0
    assert capped <= 8 * NEWCOMERS  # four failures in a row, and ten minutes of rest
    assert off > 3 * capped
