"""Measure what attacks do and write docs/attack-report.md, with its plots (`make attack-report`).

python -m lab.report [--quick] [--scale TIMES] [--only NAME ...] [--out FILE]

Seeds are fixed: the same code gives the same figures.  What was measured is kept beside the plots in
results.json, so `--only` measures some experiments anew and leaves the others; `--only` without a name
only writes the report again.  Plots need matplotlib (the extra `lab`); without it the tables are all.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import process_time

import msgspec

from lab import eclipse, lookups, plots, slander, squatters, sybils
from lab.effort import FULL, QUICK, Effort
from lab.figures import Section, Table

OUT = Path(__file__).parents[1] / "docs" / "attack-report.md"
EXPERIMENTS: dict[str, Callable[[Effort], Section]] = {
    "lookups": lookups.measure,
    "eclipse": eclipse.measure,
    "retrieval": sybils.at_a_key,
    "sybil-test": sybils.test,
    "slander": slander.measure,
    "squatters": squatters.measure,
}
INTRO = """# What attacks do, measured

Written by `make attack-report` from fixed seeds; do not edit. Figures published elsewhere stand beside ours,
and where ours are worse it says so. What is attacked is this project's own routing, lookup, quorum and trust
code, in networks of up to 25,000 ids; each part says which. **No part runs whole nodes**: those are attacked
one by one in `tests/sim`, in networks of tens of nodes. Rates have their 95 % interval (Wilson) in brackets.
*Met* is by the rate that was measured: **where the brackets reach past the published value, there were too
few trials to be sure**. How many there were stands at the end.
"""


def measure(names: Sequence[str], effort: Effort) -> list[Section]:
    """Run experiments; says on standard error how long each took."""
    found = []
    for name in names:
        began = process_time()
        section = EXPERIMENTS[name](effort)
        cpu_s = process_time() - began
        print(f"  {name}: {cpu_s:.0f} s of CPU", file=sys.stderr, flush=True)
        found.append(replace(section, cpu_s=round(cpu_s, 1)))
    return found


def markdown(sections: Sequence[Section], plots_in: str) -> str:
    """The report; `plots_in` is where its plots are, "" for none."""
    parts = [INTRO, goals(sections)]
    for number, section in enumerate(sections, 1):
        parts.append(f"## {number}. {section.title}\n")
        parts += [paragraph + "\n" for paragraph in section.text]
        parts.append(f"What runs: {section.code}\n")
        parts += [as_markdown(t) for t in section.tables]
        if plots_in:
            parts += [f"![{p.title}]({plots_in}/{p.name}.svg)\n" for p in section.plots]
    parts.append("## How long it took\n")
    took = [[s.title, s.trials, f"{s.cpu_s:.0f} s"] for s in sections]
    took.append(["all", "", f"{sum(s.cpu_s for s in sections):.0f} s"])
    parts.append(as_markdown(Table("", ["experiment", "size", "CPU"], took)))
    return "\n".join(parts)


def goals(sections: Sequence[Section]) -> str:
    """Published beside ours, and in plain words where ours is worse."""
    every = [(s, g) for s in sections for g in s.goals]
    rows = [[g.figure, g.published, g.ours, "yes" if g.is_met else "**no**"] for _, g in every]
    table = Table("", ["figure", "published", "ours", "met"], rows)
    lines = ["## Published figures and ours\n", as_markdown(table)]
    worse = [(s, g) for s, g in every if not g.is_met]
    for section, goal in worse:
        lines.append(f"- **Worse than published**: {goal.figure}: {goal.ours} against {goal.published}"
                     f" ({section.title.lower()}). {goal.remark}".rstrip() + "\n")  # fmt: skip
    if not worse:
        lines.append("None of ours is worse.\n")
    return "\n".join(lines)


def as_markdown(table: Table) -> str:
    """A table with its caption above."""
    lines = [f"{table.caption}:\n"] if table.caption else []
    lines += [f"| {' | '.join(row)} |" for row in (table.header, ["---"] * len(table.header), *table.rows)]
    return "\n".join(lines) + "\n"


def write(sections: Sequence[Section], out: Path) -> None:
    """The report, its plots and the figures behind them, in a directory of the report's name."""
    beside = out.with_suffix("")
    beside.mkdir(parents=True, exist_ok=True)
    if plots.available():
        for section in sections:
            for plot in section.plots:
                plots.draw(plot, beside / f"{plot.name}.svg")
    drawn = all((beside / f"{p.name}.svg").exists() for s in sections for p in s.plots)
    replace_text(beside / "results.json", msgspec.json.format(msgspec.json.encode(sections)).decode() + "\n")
    replace_text(out, markdown(sections, beside.name if drawn else ""))


def replace_text(path: Path, text: str) -> None:
    """All of it or nothing."""
    part = path.with_name(path.name + ".part")
    part.write_text(text)
    os.replace(part, path)


def kept(out: Path) -> dict[str, Section]:
    """What an earlier run measured, by name."""
    path = out.with_suffix("") / "results.json"
    if not path.exists():
        return {}
    return {s.name: s for s in msgspec.json.decode(path.read_bytes(), type=list[Section])}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few trials: about a minute")
    parser.add_argument("--scale", type=float, default=1.0, help="so many times the trials")
    parser.add_argument("--only", nargs="*", choices=list(EXPERIMENTS), help="measure these, keep the others")
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    effort = (QUICK if arguments.quick else FULL).scaled(arguments.scale)
    found = kept(arguments.out) if arguments.only is not None else {}
    for name in EXPERIMENTS if arguments.only is None else arguments.only:
        (found[name],) = measure([name], effort)
        write([found[n] for n in EXPERIMENTS if n in found], arguments.out)
    if arguments.only == []:
        write([found[n] for n in EXPERIMENTS if n in found], arguments.out)


if __name__ == "__main__":
    main()
