"""Figures with their uncertainty, and what tables and plots are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import sqrt
from typing import NamedTuple

Z = 1.959964
"""95 %."""


class Rate(NamedTuple):
    """`hits` of `trials`."""

    hits: int
    trials: int

    @property
    def share(self) -> float:
        return self.hits / self.trials

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % score interval."""
        n, p = self.trials, self.share
        middle = (p + Z * Z / (2 * n)) / (1 + Z * Z / n)
        half = Z / (1 + Z * Z / n) * sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
        return max(0.0, middle - half), min(1.0, middle + half)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{percent(self.share)} [{percent(low, unit='')}, {percent(high, unit='')}]"


def percent(share: float, unit: str = " %") -> str:
    """At most one digit after the point; two below 1 %."""
    value = 100 * share
    digits = 2 if 0 < value < 1 else 1
    return f"{value:.{digits}f}".removesuffix(".0").removesuffix(".00") + unit


@dataclass(frozen=True)
class Table:
    caption: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Curve:
    """Shares 0..1 over `Plot.x`, with their intervals; without, a published value."""

    name: str
    y: list[float | None]
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Plot:
    """One SVG."""

    name: str
    title: str
    x_label: str
    y_label: str
    x: list[str]
    curves: list[Curve]


@dataclass(frozen=True)
class Goal:
    """A published figure beside ours."""

    figure: str
    published: str
    ours: str
    is_met: bool
    remark: str = ""


@dataclass(frozen=True)
class Section:
    """One experiment: `code` says what of it is whole nodes, and what routing, lookup or trust code alone."""

    name: str
    title: str
    code: str
    text: list[str]
    tables: list[Table]
    plots: list[Plot]
    goals: list[Goal]
    trials: str
    cpu_s: float = 0.0
