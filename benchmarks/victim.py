"""The victim of `benchmarks.prefix_flood`: a node with an allowance of its own choice.

    python -m benchmarks.victim LIMIT PROVIDER      `ready` with its entry, then its counters per line

LIMIT: cost units a second of one address group; half of it for one node id, bursts of 4 s.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace

from pqdht.config import Config
from pqdht.constants import TESTNET
from pqdht.node.dht import SecureDHT
from pqdht.testing.testnet import group_address


async def main(limit: float, provider: str) -> None:
    allowance = {"group_cost_per_s": limit, "group_cost_burst": 4 * limit}
    allowance |= {"request_cost_per_s": limit / 2, "request_cost_burst": 2 * limit}
    params = replace(TESTNET, limits=replace(TESTNET.limits, **allowance))  # type: ignore[arg-type]
    config = Config(
        network=params,
        provider=provider,  # type: ignore[arg-type]
        listen=(f"tcp/{group_address(0)}:0",),
    )
    async with SecureDHT(config) as node:
        print(json.dumps({"entry": node.bootstrap_entry}), flush=True)
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(None, sys.stdin.readline):
            status = node.status()
            told = {"counters": status["counters"], "security": status["security"]["counts"]}
            print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), sys.argv[2]))
