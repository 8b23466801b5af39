"""Rollback by a short ttl: the newer version expires first, and somebody brings back the older."""

from __future__ import annotations

import asyncio

from pqdht.kad.quorum import Verdict
from tests.sim.arena import Arena, Read, run, small, without_floors, without_ttl_raise

NODES, GANG = 20, 5


async def scenario(arena: Arena) -> list[Read]:
    """Readers who never saw the newer version, and last one who did."""
    key = arena.key(0, "x")
    await arena.put(0, "x", b"before")
    await asyncio.sleep(5.0)
    gang = arena.enlist("rollback_by_ttl", *[i for i in arena.closest(key) if i][:GANG])
    await arena.put(0, "x", b"after", ttl=60)
    *readers, witness = arena.bystanders(key, gang)[:4]
    assert (await arena.get(witness, 0, "x")).value == b"after"
    await asyncio.sleep(90.0)
    await gang.act()
    return [await arena.get(i, 0, "x") for i in (*readers, witness)]


def test_a_version_lives_as_long_as_what_it_replaces() -> None:
    with without_ttl_raise(), without_floors():
        *reads, witness = run(scenario, NODES, seed=1, params=small())[0]
    assert [(r.verdict, r.value) for r in reads] == [(Verdict.CONFIRMED, b"before")] * 3
    assert not witness.is_believed  # a reader remembers what it saw
    assert witness.rollback

    reads, _ = run(scenario, NODES, seed=1, params=small())
    assert [(r.verdict, r.value) for r in reads] == [(Verdict.CONFIRMED, b"after")] * 4
