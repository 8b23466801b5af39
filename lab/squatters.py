"""Experiment 6: how much of a table do those come to hold who never leave?"""

from __future__ import annotations

from lab.effort import Effort
from lab.figures import Curve, Goal, Plot, Section, Table, percent
from pqdht.testing.adversaries.squatting import Week, squat

SEEDS = (1, 2, 3)
BY_TENURE = 0.99
"""Published, of 10 % of candidates after a week, where tenure alone decides."""


def measure(effort: Effort) -> Section:
    days: dict[tuple[float, bool], list[float]] = {}
    for share in effort.weeks:
        for enforced in (False, True):
            runs = [
                squat(
                    Week(
                        share=share,
                        redraw="enforce" if enforced else "off",
                        nodes=effort.nodes,
                        days=effort.days,
                        seed=seed,
                    )
                ).share
                for seed in SEEDS
            ]
            days[share, enforced] = [sum(day) / len(day) for day in zip(*runs, strict=True)]
    rows = [
        [percent(share), *(percent(days[share, on][-1]) for on in (False, True))] for share in effort.weeks
    ]
    last = f"after {effort.days} days"
    return Section(
        "squatters",
        "Table squatters",
        "Table code alone (`kad.table`), by `pqdht.testing.adversaries.squatting`, as issue 4 allows.",
        [
            "A share of the candidates that a node meets never leave; the others have sessions of the"
            " churn above. What they hold of the far buckets of one node's table, by tenure alone (as"
            " Kademlia) and with half of each bucket drawn again every hour. The half that goes by"
            " tenure falls to them whatever is done; the point of the draw is that it stays at half."
        ],
        [
            Table(
                f"Share of the table {last}, mean of {len(SEEDS)} seeds",
                ["squatters among candidates", "tenure alone", "half drawn hourly"],
                rows,
            )
        ],
        [
            Plot(
                "squatters",
                "What squatters hold of a table",
                "day",
                "share of the table",
                [str(day + 1) for day in range(effort.days)],
                [
                    Curve(
                        f"{percent(share)} of candidates, {'half drawn' if on else 'tenure alone'}",
                        list(found),
                    )
                    for (share, on), found in days.items()
                ],
            )
        ],
        [
            Goal(
                f"table held by {percent(share)} squatters {last}",
                "99 % (tenure alone, 10 %); ours to be about half and their share of the rest",
                percent(days[share, True][-1]),
                days[share, True][-1] <= (1 + 2 * share) / 2 + 0.1,
            )
            for share in effort.weeks
        ],
        f"N = {effort.nodes:,}; {effort.days} days; {len(SEEDS)} seeds",
    )
