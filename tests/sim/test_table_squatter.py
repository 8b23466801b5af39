"""The table squatter: never goes away, and waits until all others have."""

from __future__ import annotations

import asyncio

import pytest

from pqdht.config import DefenceMode
from pqdht.testing.adversaries.squatting import Week, squat
from tests.sim.arena import Arena, run, small
from tests.sim.harness import counter


@pytest.mark.parametrize(
    ("share", "tenure", "drawn"), [(0.05, 0.65, 0.6), (0.1, 0.75, 0.6), (0.2, 0.9, 0.68)]
)
def test_a_week_of_tenure_against_a_week_of_draws(share: float, tenure: float, drawn: float) -> None:
    """Half by tenure goes to the squatters; of the other half their share of the candidates."""
    off, observed = squat(Week(share=share, redraw="off")), squat(Week(share=share, redraw="observe"))
    enforced = squat(Week(share=share, redraw="enforce"))
    print(f"{share:.0%} of candidates: {off.share[-1]:.0%} by tenure, {enforced.share[-1]:.0%} with draws")
    assert off.share[-1] > tenure
    assert enforced.share[-1] < drawn
    assert observed.share == off.share
    assert observed.would_redraw > 0


def test_nodes_that_only_observe_draw_nothing() -> None:
    async def two_hours_and_more(arena: Arena) -> int:
        await asyncio.sleep(9000.0)
        return sum(counter(n, "would_redraw") for n in arena.net.nodes)

    def trace(mode: DefenceMode) -> tuple[int, str]:
        return run(two_hours_and_more, 12, seed=1, params=small(2), defences={"redraw": mode})

    none, off = trace("off")
    some, observed = trace("observe")
    assert (none, off) == (0, observed)
    assert some > 0
