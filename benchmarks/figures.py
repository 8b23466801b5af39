"""How much to measure, and how a figure is made of samples."""

from __future__ import annotations

import asyncio
import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import quantiles
from time import process_time

from pqdht.constants import TESTNET, ParameterSet
from pqdht.node.dht import SecureDHT

VALUE_BYTES = 200
REST_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Sizes of one run."""

    params: ParameterSet
    handshakes: int
    rpcs: int
    nodes: int
    keys: int
    """Values put, and read once by each reader: at least 100, or p99 means nothing."""
    in_flight: int
    contacts: int
    records: int
    """In the node whose memory is measured."""
    callers: int
    """Peers that the serving node never saw."""
    many_nodes: int
    """Nodes of the large network over loopback."""
    many: int
    """Keys of one get_many and put_many."""
    crowd: int
    """Nodes of the simulated network."""
    idle_sample: int
    """Those of them that do their chores where it is left alone."""
    lookups: int
    """Lookups made in it."""


FULL = Effort(
    params=TESTNET,
    handshakes=1000,
    rpcs=2000,
    nodes=32,
    keys=200,
    in_flight=50,
    contacts=1000,
    records=10_000,
    callers=400,
    many_nodes=128,
    many=100,
    crowd=1000,
    idle_sample=20,
    lookups=60,
)
QUICK = Effort(
    params=replace(TESTNET, k=4),
    handshakes=5,
    rpcs=20,
    nodes=6,
    keys=12,
    in_flight=6,
    contacts=50,
    records=100,
    callers=10,
    many_nodes=8,
    many=8,
    crowd=30,
    idle_sample=4,
    lookups=5,
)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in ms of samples in seconds, interpolated."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {f"p{p}": round(1000 * cuts[p - 1], 2) for p in (50, 95, 99)}


def peak_rss() -> int:
    """The most memory this process ever had resident, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def received(nodes: list[SecureDHT]) -> int:
    """Bytes that came in on all links; every link has both its ends among the nodes."""
    return sum(node.env.counters["bytes_received"] for node in nodes)


async def quiet() -> None:
    """Until this process rests: questions that a GET or PUT did not wait for have been answered."""
    used = REST_S
    while used >= REST_S / 5:
        cpu = process_time()
        await asyncio.sleep(REST_S)
        used = process_time() - cpu


def progress(text: str) -> None:
    """Standard output belongs to the JSON."""
    print(text, file=sys.stderr, flush=True)
