"""The dropper: takes questions and never answers; whoever waits for it waits until the time-out."""

from __future__ import annotations

from tests.sim.arena import among_storers, run, small, without_hedging

NODES, DROPPERS = 24, 6
WAITED_S = 1.0
"""Virtual seconds: ten round trips."""
scenario = among_storers("dropper", DROPPERS)


def test_nobody_waits_for_who_drops() -> None:
    with without_hedging():
        reads, _ = run(scenario, NODES, seed=1, params=small())
    assert min(r.time_s for r in reads) > WAITED_S

    reads, _ = run(scenario, NODES, seed=1, params=small())
    assert [r.value for r in reads] == [b"here"] * 4
    assert max(r.time_s for r in reads) < WAITED_S
