"""The table of section 6 of the design, measured: colluders at the key against the end rules of a lookup.

python -m tests.sim.lookup_table [TRIALS]      prints a Markdown table (`make lookup-table`)
"""

from __future__ import annotations

import sys

from tests.sim.test_lookup_adversaries import merged_rule, own_rule, rate, worlds

RULES = (
    ("merged over all paths", None, 4),
    ("own 5, 4 paths", 5, 4),
    ("own 6, 4 paths (every GET)", 6, 4),
    ("own 8, 4 paths (PUT, and GET in doubt)", 8, 4),
    ("own 5, 8 paths", 5, 8),
)
SHARES = (0.2, 0.3)


def main() -> None:
    """Every rule against the same attacked keys."""
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    cells: dict[tuple[str, float], tuple[float, float]] = {}
    for share in SHARES:
        attacked = worlds(share, trials)
        for name, end, paths in RULES:
            outcomes = [
                merged_rule(w) if end is None else own_rule(w, end=end, paths=paths) for w in attacked
            ]
            cells[name, share] = rate(outcomes)
    print(f"{trials} keys at each share, N = 10,000, 20 Sybils at each key", file=sys.stderr)
    print("| a path ends when | honest replica reached, 20 % | 30 % | questions, 20 % | 30 % |")
    print("|---|---|---|---|---|")
    for name, _, _ in RULES:
        found = [cells[name, share] for share in SHARES]
        rates = " | ".join(f"{100 * r:.1f} %" for r, _ in found)
        costs = " | ".join(f"{cost:.0f}" for _, cost in found)
        print(f"| {name} | {rates} | {costs} |")


if __name__ == "__main__":
    main()
