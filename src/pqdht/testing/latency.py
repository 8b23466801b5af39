"""How long packets of the simulated network take: three models, pure, each fixed by its seed."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from math import sqrt
from typing import Protocol


class Latency(Protocol):
    """Delay between two hosts, the same at every call."""

    @property
    def jitter(self) -> float:
        """Largest random addition to one packet's delay, as a fraction of it."""
        ...

    def one_way(self, source: str, destination: str) -> float:
        """Seconds from one IP address to another."""
        ...


@dataclass(frozen=True, slots=True)
class Constant:
    """Every pair has the same round trip (seconds)."""

    rtt: float = 0.05
    jitter: float = 0.0

    def one_way(self, source: str, destination: str) -> float:
        return self.rtt / 2


@dataclass(frozen=True, slots=True)
class Uniform:
    """Every pair draws its round trip (seconds) evenly from `low`..`high`."""

    seed: int
    low: float = 0.01
    high: float = 0.2
    jitter: float = 0.0

    def one_way(self, source: str, destination: str) -> float:
        a, b = sorted((source, destination))
        (share,) = _draw(1, f"{self.seed} {a} {b}")
        return (self.low + (self.high - self.low) * share) / 2


@dataclass(frozen=True, slots=True)
class Coordinates:
    """Hosts are points in a square, each with an access link: near is near for everybody.

    The height-vector model of Vivaldi (Dabek et al., SIGCOMM 2004).  `side`: round trip along one
    side of the square; `access`: largest round trip over one host's access link (seconds).
    """

    seed: int
    side: float = 0.12
    access: float = 0.02
    jitter: float = 0.1

    def one_way(self, source: str, destination: str) -> float:
        x1, y1, h1 = _draw(3, f"{self.seed} {source}")
        x2, y2, h2 = _draw(3, f"{self.seed} {destination}")
        across = sqrt((x1 - x2) ** 2 + (y1 - y2) ** 2)
        return (self.side * across + self.access * (h1 + h2)) / 2


def _draw(n: int, what: str) -> list[float]:
    """`n` numbers in 0..1, fixed by `what` in every process."""
    raw = blake2b(what.encode(), digest_size=8 * n).digest()
    return [int.from_bytes(raw[i : i + 8], "big") / 2**64 for i in range(0, len(raw), 8)]
