"""The denier: most holders promise to keep a value and say that nothing is there."""

from __future__ import annotations

from pqdht.kad.quorum import Verdict
from tests.sim.arena import among_storers, run, small, with_plain_votes

NODES, DENIERS = 24, 6

scenario = among_storers("denier", DENIERS)


def test_empty_answers_have_no_vote() -> None:
    with with_plain_votes():
        reads, _ = run(scenario, NODES, seed=1, params=small())
    assert {r.verdict for r in reads} == {Verdict.ABSENT}

    reads, _ = run(scenario, NODES, seed=1, params=small())
    assert [(r.verdict, r.value) for r in reads] == [(Verdict.CONFIRMED, b"here")] * 4
