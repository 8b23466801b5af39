"""The churn simulation, reduced to what a test suite can bear; `make churn` runs it in full size.

Ten minutes of forty nodes, with a partition of three; sessions are shorter than in full size.  k is that of
real networks: with k = 8 one key in 14 has 7 of its 8 holders or more on one side of any cut, and a few
older copies on the other side confirm what they hold (docs/threat-model.md).
"""

from __future__ import annotations

from pqdht.testing.loop import run
from tests.sim.churn import MINUTE, Churn, Report, Scenario

SMALL = Scenario(
    seed=2,
    nodes=40,
    k=20,
    median_s=15 * MINUTE,
    length_s=10 * MINUTE,
    divided_at=3 * MINUTE,
    divided_s=3 * MINUTE,
    get_every_s=2.0,
    put_every_s=90.0,
    lines=24,
    grace_s=2 * MINUTE,
)


def test_every_get_is_right_through_churn_and_a_partition() -> None:
    async def main() -> Report:
        return await Churn(SMALL).run()

    report = run(main)
    assert report.bad == []
    assert report.right > 150
    assert sum(n for verdict, n in report.gets.items() if verdict.startswith("right (")) > 5
    assert report.puts["reached quorum"] > 50
    assert sum(report.lives[how] for how in ("crashed", "lost power", "closed")) >= 10
    assert report.lives["returned"] >= 2
    assert report.lives["came new"] >= 2
