"""A colluding majority in a region: all k closest to a key agree on an old version and hide the rest."""

from __future__ import annotations

import asyncio

from pqdht.config import Consistency, DefenceMode
from pqdht.kad.quorum import Verdict
from tests.sim.arena import Arena, Read, run, small

NODES, K = 40, 8


def attack(
    colluders: int, mode: DefenceMode = "enforce", consistency: Consistency = "all", seed: int = 1
) -> tuple[list[Read], str]:
    """Readers who never saw the newer version, and last one who did."""

    async def old_and_new(arena: Arena) -> list[Read]:
        key = arena.key(0, "x")
        await arena.put(0, "x", b"old")
        await asyncio.sleep(5.0)
        gang = arena.enlist("region_colluder", *[i for i in arena.closest(key) if i][:colluders])
        await arena.put(0, "x", b"new")
        *readers, witness = arena.bystanders(key, gang)[:4]
        await arena.get(witness, 0, "x", "all")
        return [await arena.get(i, 0, "x", consistency) for i in (*readers, witness)]

    return run(old_and_new, NODES, seed=seed, params=small(K), defences={"disjoint_paths": mode})


def test_disjoint_paths_lead_past_a_region_that_colludes() -> None:
    (*reads, _), trace = attack(K, "off")
    assert {r.value for r in reads if r.is_believed} == {b"old"}
    assert attack(K, "observe")[1] == trace

    reads, _ = attack(K)
    assert [(r.verdict, r.value) for r in reads] == [(Verdict.CONFIRMED, b"new")] * 4


def test_half_of_the_closest_do_not_pass_for_a_majority() -> None:
    (*reads, _), _ = attack(K // 2, consistency="first")
    assert b"old" in {r.value for r in reads if r.is_believed}

    reads, _ = attack(K // 2, consistency="majority")
    assert [(r.verdict, r.value) for r in reads] == [(Verdict.CONFIRMED, b"new")] * 4


def test_who_saw_the_newer_version_asks_on_until_it_is_found() -> None:
    """Three quarters of the closest can convince a reader who ends at a majority and never saw the newer
    version, which is the known limit.  A reader who did is not convinced, and finds it."""
    (*_, witness), _ = attack(6, consistency="majority")
    assert (witness.verdict, witness.value) == (Verdict.CONFIRMED, b"new")
