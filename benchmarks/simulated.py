"""The figures of a simulated network, which stand with every provider: `python -m benchmarks.simulated`.

`--gates` takes 1,000 nodes also where that takes long (half an hour), as the goals say.
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
    progress(f"simulated: an idle network of {effort.idle_nodes} nodes")
    idle = round(traffic.measure(effort.idle_nodes), 2)
    return figures | {"idle_mb_per_hour": idle, "idle_nodes": effort.idle_nodes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--gates", action="store_true")
    arguments = parser.parse_args()
    effort = QUICK if arguments.quick else FULL
    if arguments.gates:
        effort = replace(effort, idle_nodes=effort.crowd)
    print(json.dumps(measure(effort)))


if __name__ == "__main__":
    main()
