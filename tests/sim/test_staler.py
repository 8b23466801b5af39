"""The staler: half of the holders serve the old version; who takes the first answer believes it."""

from __future__ import annotations

import asyncio

import pytest

from pqdht.config import Consistency
from pqdht.kad.quorum import Verdict
from tests.sim.arena import Arena, Read, run, small

NODES, STALERS = 24, 4


def scenario(consistency: Consistency) -> list[Read]:
    async def old_and_new(arena: Arena) -> list[Read]:
        await arena.put(0, "x", b"old")
        await asyncio.sleep(5.0)
        key = arena.key(0, "x")
        gang = arena.enlist("staler", *[i for i in arena.closest(key) if i][:STALERS])
        await arena.put(0, "x", b"new")
        readers = arena.bystanders(key, gang)
        return [await arena.get(i, 0, "x", consistency) for i in readers]

    return run(old_and_new, NODES, seed=1, params=small())[0]


def test_the_first_answer_may_be_old() -> None:
    reads = scenario("first")
    assert any(r.is_believed and r.value == b"old" for r in reads)


@pytest.mark.parametrize("consistency", ["majority", "all"])
def test_the_confirmation_rule_finds_the_newest(consistency: Consistency) -> None:
    assert {(r.verdict, r.value) for r in scenario(consistency)} == {(Verdict.CONFIRMED, b"new")}
