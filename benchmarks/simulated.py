"""The figures of a simulated network, which stand with every provider: `python -m benchmarks.simulated`.

`--gates` has every node of the idle network do its chores, not a sample: half an hour instead of a minute.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

from benchmarks import crowd, traffic
from benchmarks.figures import FULL, QUICK, Effort, progress


def measure(effort: Effort) -> dict[str, Any]:
    """Bytes of first replies, of lookups, and of doing nothing."""
    progress(f"simulated: lookups among {effort.crowd} nodes")
    figures = crowd.measure(effort)
    progress(f"simulated: an idle network of {effort.crowd} nodes, chores of {effort.idle_sample}")
    idle = round(traffic.measure(effort.crowd, effort.idle_sample), 2)
    return figures | {"idle_mb_per_hour": idle}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--gates", action="store_true")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    if arguments.gates:
        effort = replace(effort, idle_sample=effort.crowd)
    print(json.dumps(measure(effort)))


if __name__ == "__main__":
    main()
