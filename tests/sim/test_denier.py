"""The denier: most holders promise to keep a value and say that nothing is there."""

from __future__ import annotations

from pqdht.kad.quorum import Verdict
from tests.sim.arena import Arena, Read, run, small, with_plain_votes

NODES, DENIERS = 24, 6


async def scenario(arena: Arena) -> list[Read]:
    key = arena.key(0, "x")
    gang = arena.enlist("denier", *[i for i in arena.closest(key) if i][:DENIERS])
    await arena.put(0, "x", b"here")
    return [await arena.get(i, 0, "x") for i in arena.bystanders(key, gang)[:4]]


def test_empty_answers_have_no_vote() -> None:
    with with_plain_votes():
        reads, _ = run(scenario, NODES, seed=1, params=small())
    assert {r.verdict for r in reads} == {Verdict.ABSENT}

    reads, _ = run(scenario, NODES, seed=1, params=small())
    assert [(r.verdict, r.value) for r in reads] == [(Verdict.CONFIRMED, b"here")] * 4
