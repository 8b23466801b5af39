"""The slow loris: answers truly, but so late that whoever waits for it waits for nearly five seconds."""

from __future__ import annotations

from tests.sim.arena import Arena, Read, run, small, without_hedging

NODES, LORISES = 24, 6
WAITED_S = 1.0
"""Virtual seconds: ten round trips."""


async def scenario(arena: Arena) -> list[Read]:
    key = arena.key(0, "x")
    gang = arena.enlist("slow_loris", *[i for i in arena.closest(key) if i][:LORISES])
    await arena.put(0, "x", b"here")
    return [await arena.get(i, 0, "x") for i in arena.bystanders(key, gang)[:4]]


def test_nobody_waits_for_who_is_slow() -> None:
    with without_hedging():
        reads, _ = run(scenario, NODES, seed=1, params=small())
    assert min(r.time_s for r in reads) > WAITED_S

    reads, _ = run(scenario, NODES, seed=1, params=small())
    assert [r.value for r in reads] == [b"here"] * 4
    assert max(r.time_s for r in reads) < WAITED_S
