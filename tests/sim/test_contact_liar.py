"""The liar about contacts: names nodes that do not exist, closer to the key than any that does."""

from __future__ import annotations

import pytest

from pqdht.testing.adversaries import Gang
from tests.sim.arena import Arena, Read, run, small, without_puzzle_check
from tests.sim.harness import counter

NODES, LIARS = 24, 8


async def scenario(arena: Arena) -> tuple[list[Read], int, int]:
    """(reads, dials, contacts found false) of the readers."""
    key = arena.key(0, "x")
    await arena.put(0, "x", b"here")
    readers = arena.bystanders(key, Gang())[:3]
    arena.enlist("contact_liar", *[i for i in arena.closest(key) if i and i not in readers][:LIARS])
    before = [counter(arena.net.nodes[i], "dials") for i in readers]
    reads = [await arena.get(i, 0, "x") for i in readers]
    nodes = [arena.net.nodes[i] for i in readers]
    dials = sum(counter(n, "dials") - b for n, b in zip(nodes, before, strict=True))
    return reads, dials, sum(counter(n, "contacts_refused.BadPuzzle") for n in nodes)


@pytest.mark.parametrize("seed", [1, 2])
def test_nobody_dials_a_node_without_a_puzzle(seed: int) -> None:
    with without_puzzle_check():
        (reads, lured, refused), _ = run(scenario, NODES, seed=seed, params=small())
    assert refused == 0
    assert lured > 20
    assert max(r.time_s for r in reads) > 2.0

    (reads, dials, refused), _ = run(scenario, NODES, seed=seed, params=small())
    assert [r.value for r in reads] == [b"here"] * 3
    assert refused > 0
    assert dials < 6
    assert max(r.time_s for r in reads) < 1.0
