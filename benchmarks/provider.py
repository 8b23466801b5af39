"""Every figure of one provider, measured in this process: `python -m benchmarks.provider liboqs`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any

from benchmarks import defences, handshake, large, memory, network, rpc, serving
from benchmarks.figures import FULL, QUICK, Effort, progress
from benchmarks.run import PROVIDERS, UNAVAILABLE
from pqdht.crypto.providers import get_provider
from pqdht.daemon.service import tune_interpreter
from pqdht.errors import ProviderUnavailable


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("provider", choices=PROVIDERS)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    try:
        get_provider(arguments.provider)
    except ProviderUnavailable as e:
        progress(f"{arguments.provider}: null, {e}")
        return UNAVAILABLE
    tune_interpreter()  # as the daemon does
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        figures = runner.run(measure(arguments.provider, QUICK if arguments.quick else FULL))
    print(json.dumps(figures))
    return 0


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where present, as the daemon does."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


async def measure(provider: str, effort: Effort) -> dict[str, Any]:
    """All figures, under the names of the JSON document."""
    figures: dict[str, Any] = {}
    progress(f"{provider}: handshakes")
    figures |= await handshake.measure(provider, effort)
    progress(f"{provider}: questions over a warm session")
    figures |= await rpc.measure(provider, effort)
    progress(f"{provider}: a network of {effort.nodes} nodes")
    figures |= await network.measure(provider, effort)
    progress(f"{provider}: a node that only serves")
    figures |= await serving.measure(provider, effort)
    progress(f"{provider}: the memory of one node")
    figures |= await asyncio.to_thread(memory.measure, provider, effort)
    progress(f"{provider}: a network of {effort.many_nodes} nodes")
    figures |= await large.measure(provider, effort)
    progress(f"{provider}: two networks of {effort.nodes} nodes, with defences and without")
    figures |= await defences.measure(provider, effort)
    return figures


if __name__ == "__main__":
    sys.exit(main())
