"""How much to measure, and how a figure is made of samples."""

from __future__ import annotations

import resource
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import quantiles

from pqdht.constants import TESTNET, ParameterSet


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


FULL = Effort(params=TESTNET, handshakes=1000, rpcs=2000, nodes=32, keys=200, in_flight=50)
QUICK = Effort(params=replace(TESTNET, k=4), handshakes=5, rpcs=20, nodes=6, keys=12, in_flight=6)


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    """p50, p95 and p99 in ms of samples in seconds, interpolated."""
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {f"p{p}": round(1000 * cuts[p - 1], 2) for p in (50, 95, 99)}


def peak_rss() -> int:
    """The most memory this process ever had resident, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def progress(text: str) -> None:
    """Standard output belongs to the JSON."""
    print(text, file=sys.stderr, flush=True)
