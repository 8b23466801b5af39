"""The equivocator: an owner signs two values with one timestamp, and stores them at different nodes."""

from __future__ import annotations

from pqdht.config import Consistency
from tests.sim.arena import Arena, Read, run, small

NODES, OWNER = 20, 1


def scenario(consistency: Consistency) -> list[Read]:
    async def two_faces(arena: Arena) -> list[Read]:
        arena.written["two-faced"] = [b"heads", b"tails"]
        gang = arena.enlist("equivocator", OWNER)
        await gang.act()
        readers = arena.bystanders(arena.key(OWNER, "two-faced"), gang)  # who holds one would not count it
        return [await arena.get(i, OWNER, "two-faced", consistency) for i in readers]

    return run(two_faces, NODES, seed=1, params=small())[0]


def believed(reads: list[Read]) -> set[bytes | None]:
    return {r.value for r in reads if r.is_believed}


def test_no_two_readers_believe_different_values() -> None:
    assert believed(scenario("first")) == {b"heads", b"tails"}

    reads = scenario("majority")
    assert len(believed(reads)) <= 1
    assert any(r.verdict == "contested" for r in reads)
    assert not believed(scenario("all"))
