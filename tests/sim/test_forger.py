"""The forger: wins only where nobody checks signatures."""

from __future__ import annotations

import pytest

from pqdht.kad.quorum import Verdict
from pqdht.testing.adversaries import FORGED
from tests.sim.arena import Arena, Read, run, without_signature_check

NODES, FORGERS = 16, range(8, 16)


async def scenario(arena: Arena) -> list[Read]:
    await arena.put(0, "x", b"true")
    arena.enlist("forger", *FORGERS)
    return [await arena.get(reader, 0, "x") for reader in range(1, 6)]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_forger_wins_only_without_the_check_of_signatures(seed: int) -> None:
    async def unchecked(arena: Arena) -> list[Read]:
        arena.may_be_forged = True
        return await scenario(arena)

    with without_signature_check():
        reads, _ = run(unchecked, NODES, seed=seed)
    assert {r.value for r in reads} == {FORGED}

    reads, _ = run(scenario, NODES, seed=seed)
    assert [(r.verdict, r.value) for r in reads] == [(Verdict.CONFIRMED, b"true")] * 5


def test_where_all_forge_nothing_is_returned() -> None:
    async def all_forge(arena: Arena) -> Read:
        await arena.put(0, "x", b"true")
        arena.enlist("forger", *(i for i in range(NODES) if i != 1))
        return await arena.get(1, 0, "x")

    read, _ = run(all_forge, NODES, seed=3)
    assert (read.verdict, read.value) == (Verdict.INVALID_ONLY, None)
