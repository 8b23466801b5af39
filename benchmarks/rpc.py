"""PINGs between two nodes over one open session on loopback TCP, both nodes in this process."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter, process_time

from benchmarks.figures import Effort, progress
from pqdht.constants import ParameterSet
from pqdht.node.dht import SecureDHT
from pqdht.testing.testnet import Testnet

BATCH = 8
"""Questions in flight where the gain of batch signatures is shown (on standard error)."""


async def measure(provider: str, effort: Effort) -> dict[str, float]:
    """rpc_warm_per_s_every, rpc_warm_per_s_claims: one question in flight."""
    figures: dict[str, float] = {}
    for signing in ("every", "claims"):
        network = without_allowance(effort.params)
        async with Testnet.loopback(0, network=network, provider=provider, signing=signing) as net:
            asked, asker = await net.add(0), await net.add(1)
            await asker.bootstrapped(60)
            await rate(asker, asked, effort.rpcs // 10, 1)
            per_s, cpu_ms = await rate(asker, asked, effort.rpcs, 1)
            batched, batched_cpu_ms = await rate(asker, asked, effort.rpcs, BATCH)
        figures[f"rpc_warm_per_s_{signing}"] = round(per_s, 1)
        progress(
            f"  {signing}: {per_s:.0f}/s, {cpu_ms:.3f} ms CPU both ends;"
            f" {BATCH} in flight: {batched:.0f}/s, {batched_cpu_ms:.3f} ms"
        )
    return figures


def without_allowance(params: ParameterSet) -> ParameterSet:
    """The same network, but nobody is told BUSY: one asker may use a whole core."""
    most = 1e12
    limits = replace(
        params.limits,
        request_cost_per_s=most,
        request_cost_burst=most,
        group_cost_per_s=most,
        group_cost_burst=most,
    )
    return replace(params, limits=limits)


async def rate(asker: SecureDHT, asked: SecureDHT, times: int, in_flight: int) -> tuple[float, float]:
    """(PINGs per second, CPU ms of both ends each)."""

    async def some() -> None:
        for _ in range(times // in_flight):
            await asker.ping(asked.node_id)

    began, cpu = perf_counter(), process_time()
    await asyncio.gather(*(some() for _ in range(in_flight)))
    done = times // in_flight * in_flight
    return done / (perf_counter() - began), 1000 * (process_time() - cpu) / done
