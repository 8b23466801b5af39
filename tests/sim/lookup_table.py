"""The table of section 6 of the design, measured: colluders at the key against the end rules of a lookup.

python -m tests.sim.lookup_table [TRIALS]      prints a Markdown table (`make lookup-table`)
"""

from __future__ import annotations

import sys

from tests.sim.test_lookup_adversaries import (
    World,
    merged_rule,
    own_rule,
    rate,
    with_quiet_sybils,
    worlds,
)

RULES = (
    ("merged over all paths", None, 4),
    ("own 5, 4 paths", 5, 4),
    ("own 6, 4 paths (every GET)", 6, 4),
    ("own 8, 4 paths (PUT, and GET in doubt)", 8, 4),
    ("own 5, 8 paths", 5, 8),
)
SHARES = (0.2, 0.3)


def judge(attacked: list[World], end: int | None, paths: int) -> tuple[float, float]:
    """(share of lookups that reach an honest replica, mean questions) of a rule; no `end`: merged."""
    return rate([merged_rule(w) if end is None else own_rule(w, end=end, paths=paths) for w in attacked])


def main() -> None:
    """Every rule against the same attacked keys, the Sybils naming one another and naming nobody."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    cells: dict[str, list[tuple[float, float]]] = {name: [] for name, _, _ in RULES}
    loud = [worlds(share, trials) for share in SHARES]
    for attacked in loud + [[with_quiet_sybils(w) for w in attacked] for attacked in loud]:
        for name, end, paths in RULES:
            cells[name].append(judge(attacked, end, paths))
    print(f"{trials} keys at each share, N = 10,000, 20 Sybils at each key", file=sys.stderr)
    print("| a path ends when | Sybils name Sybils: 20 % | 30 % | questions", end=" ")
    print("| Sybils name nobody: 20 % | 30 % | questions |\n|---|---|---|---|---|---|---|")
    for name, found in cells.items():
        print(f"| {name} | {' | '.join(pair(found[:2]) + pair(found[2:]))} |")


def pair(found: list[tuple[float, float]]) -> list[str]:
    """Three cells: success at each share, and the questions at both."""
    rates = [f"{100 * r:.1f} %" for r, _ in found]
    return [*rates, " / ".join(f"{cost:.0f}" for _, cost in found)]


if __name__ == "__main__":
    main()
