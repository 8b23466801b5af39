"""Experiments 3 and 4: Sybils at one key, and the test that notices them."""

from __future__ import annotations

from unittest.mock import patch

from lab.crowd import Crowd, K
from lab.effort import Effort
from lab.figures import Curve, Goal, Plot, Rate, Section, Table, percent
from lab.lookups import curve
from tests.sim import sybil_lab
from tests.sim.sybil_lab import Retrieval, TestRate, kl_table

SEED = 43
CENSORED = 0.992
CONTACTED, UPDATED, LOOKUPS = 128, 72, 9.2
"""Published means of a region query at 45 Sybils."""


def at_a_key(effort: Effort) -> Section:
    runs: list[Retrieval] = []
    for defended in (False, True):
        for active in (False, True):
            for count in effort.sybil_counts if defended else effort.sybil_counts[-1:]:
                runs.append(run(count, effort.retrievals, effort.nodes, active=active, defended=defended))
    rows = [row(run, effort.retrievals) for run in runs]
    head = [
        "Sybils",
        "they",
        "Sybil test",
        "alarms",
        "value got",
        "... without repair",
        "contacted (most)",
        "questions",
        "updated by PUT",
        "lookups",
    ]
    published = [
        str(effort.sybil_counts[-1]),
        "deny",
        "(published)",
        "",
        "100 %",
        "",
        str(CONTACTED),
        "",
        str(UPDATED),
        str(LOOKUPS),
    ]
    return Section(
        "retrieval",
        "Retrieval with Sybils at the key",
        "Routing, lookup, quorum and Sybil-test code alone, by `tests/sim/sybil_lab.py`; whole nodes do"
        " the same in `tests/sim/test_sybil_cluster.py` in a smaller network.",
        [
            "The Sybils are closer to the key than any honest node and name one another. One node stores"
            " a newer version under attack, another gets it; each estimates N by 10 random lookups"
            " first. Passive Sybils deny; active ones all serve an older version that was valid. All"
            " sign receipts and keep nothing. *Without repair*: the newest is confirmed by the answers"
            " alone; where it is not, the GET returns it after it repaired the others, or says that it"
            " is contested. Means of one GET."
        ],
        [Table(f"N = {effort.nodes:,}, {effort.retrievals} keys a row", head, [*rows, published])],
        [retrieval_plot(effort, [r for r in runs if r.defended])],
        retrieval_goals(effort, [r for r in runs if r.defended]),
        f"N = {effort.nodes:,}; {effort.retrievals} keys a row",
    )


def run(sybils: int, trials: int, n: int, *, active: bool, defended: bool) -> Retrieval:
    """`sybil_lab.retrieval`, over the same tables filled in less time."""
    with patch.object(sybil_lab, "StaticNetwork", static):
        return sybil_lab.retrieval(sybils, active, trials=trials, n=n, defended=defended, seed=SEED)


def static(nodes: list[bytes], k: int, seed: int) -> Crowd:
    """Nodes that know one another as well as their tables allow."""
    assert k == K
    return Crowd(nodes, (), {}, seed, poisoned=False)


def of(share: float, trials: int) -> Rate:
    return Rate(round(share * trials), trials)


def row(run: Retrieval, trials: int) -> list[str]:
    return [
        str(run.sybils),
        "serve an old version" if run.active else "deny",
        "on" if run.defended else "off",
        percent(run.alarms),
        str(of(run.retrieved, trials)),
        percent(run.confirmed),
        f"{run.contacted:.0f} ({run.contacted_most})",
        f"{run.questions:.0f}",
        f"{run.updated:.0f}",
        f"{run.lookups:.1f}",
    ]


def retrieval_plot(effort: Effort, runs: list[Retrieval]) -> Plot:
    curves = [
        curve(
            "serve an old version" if active else "deny",
            [of(r.retrieved, effort.retrievals) for r in runs if r.active == active],
        )
        for active in (False, True)
    ]
    live = [None] * (len(effort.sybil_counts) - 1)
    curves.append(Curve("IPFS without region queries (published)", [*live, 1 - CENSORED]))
    return Plot(
        "retrieval",
        "Values got with Sybils at the key",
        "Sybils",
        "got",
        [str(n) for n in effort.sybil_counts],
        curves,
    )


def retrieval_goals(effort: Effort, runs: list[Retrieval]) -> list[Goal]:
    together = of(sum(r.retrieved for r in runs) / len(runs), effort.retrievals * len(runs))
    most = [r for r in runs if r.sybils == max(effort.sybil_counts)]
    name = f"{most[0].sybils} Sybils"
    contacted, updated, lookups = (
        max(getattr(r, what) for r in most) for what in ("contacted", "updated", "lookups")
    )
    return [
        Goal(
            f"values got, {effort.sybil_counts[0]} to {name}, all rows together",
            "100 %",
            str(together),
            together.hits == together.trials,
        ),
        Goal(
            f"nodes contacted, {name}",
            f"< {CONTACTED}",
            f"{contacted:.0f}",
            contacted < CONTACTED,
        ),
        Goal(
            f"nodes updated, {name}",
            f"{UPDATED}",
            f"{updated:.0f}",
            updated <= UPDATED,
            "A PUT stores at all who answered in the region, Sybils too, and at the ends of its paths.",
        ),
        Goal(f"lookups, {name}", f"{LOOKUPS}", f"{lookups:.1f}", lookups <= LOOKUPS),
    ]


# --- the test itself -------------------------------------------------------------------------------

COUNTS = (0, 10, 20, 45)
FALSE, FEW, MANY = 0.012, 0.85, 0.996


def test(effort: Effort) -> Section:
    found = kl_table(effort.test_sizes, COUNTS, effort.tests, SEED)
    rates = {(r.size, r.sybils): of(r.alarms, effort.tests) for r in found}
    rows = [[f"{size:,}", *(str(rates[size, n]) for n in COUNTS)] for size in effort.test_sizes]
    rows.append(["published", "< 1.2 %", "> 85 %", "≥ 99.6 %", "≥ 99.6 %"])
    return Section(
        "sybil-test",
        "The Sybil test",
        "Trust and size-estimate code alone (`trust.sybil`, `kad.size`).",
        [
            "The Kullback-Leibler test of Sridhar et al. (NDSS 2024) over the 20 closest ids to a key,"
            " threshold 0.94, N estimated from 10 honest lookups of random keys (a new estimate every"
            " tenth key). The Sybils are closer than any honest node. Cells: alarms [Wilson 95 %]; with"
            " 0 Sybils they are false."
        ],
        [Table(f"Alarms, {effort.tests} keys a cell", ["N", "0 Sybils", "10", "20", "45"], rows)],
        [test_plot(effort, rates)],
        test_goals(found, rates),
        f"{effort.tests} keys a cell",
    )


def test_plot(effort: Effort, rates: dict[tuple[int, int], Rate]) -> Plot:
    curves = [curve(f"{n} Sybils", [rates[size, n] for size in effort.test_sizes]) for n in COUNTS[:3]]
    flat = len(effort.test_sizes)
    curves += [Curve("10 Sybils (published)", [FEW] * flat), Curve("20 Sybils (published)", [MANY] * flat)]
    return Plot(
        "sybil-test", "Alarms of the Sybil test", "N", "alarms", [f"{n:,}" for n in effort.test_sizes], curves
    )


def test_goals(found: list[TestRate], rates: dict[tuple[int, int], Rate]) -> list[Goal]:
    def extreme(counts: tuple[int, ...], worst: int) -> Rate:
        all_found = [rates[r.size, r.sybils] for r in found if r.sybils in counts]
        return sorted(all_found, key=lambda r: r.share)[worst]

    false, few, many = extreme((0,), -1), extreme((10,), 0), extreme((20, 45), 0)
    return [
        Goal("false positives, worst N", "< 1.2 %", str(false), false.share < FALSE),
        Goal("10 Sybils noticed, worst N", "> 85 %", str(few), few.share > FEW),
        Goal("20 and more noticed, worst N", ">= 99.6 %", str(many), many.share >= MANY),
    ]
