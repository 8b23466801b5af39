"""How much to measure."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Effort:
    """Sizes of one run."""

    nodes: int
    lookups: int
    """Keys of each cell at 20 and 30 % colluders, where there is a published figure."""
    lookups_else: int
    """... at 10, 40 and 50 %."""
    attacked_keys: int
    """Keys with 20 Sybils and colluders at once."""
    eclipses: int
    packed: int
    retrievals: int
    """Of each number of Sybils, each way."""
    sybil_counts: tuple[int, ...]
    tests: int
    """Keys of each cell of the Sybil test."""
    test_sizes: tuple[int, ...]
    observers: int
    """Nodes whose tables are looked at under slander."""
    weeks: tuple[float, ...]
    """Shares of squatters."""
    days: int

    def scaled(self, by: float) -> Effort:
        """The same experiments with so many times the trials."""
        names = ("lookups", "lookups_else", "attacked_keys", "eclipses", "packed", "retrievals", "tests",
                 "observers")  # fmt: skip
        return replace(self, **{name: max(1, round(by * getattr(self, name))) for name in names})


FULL = Effort(
    nodes=10_000,
    lookups=200,
    lookups_else=60,
    attacked_keys=100,
    eclipses=300,
    packed=60,
    retrievals=8,
    sybil_counts=(15, 20, 30, 45),
    tests=2000,
    test_sizes=(1000, 5000, 10_000, 25_000),
    observers=100,
    weeks=(0.05, 0.1, 0.2),
    days=7,
)
QUICK = Effort(
    nodes=10_000,
    lookups=20,
    lookups_else=8,
    attacked_keys=6,
    eclipses=20,
    packed=6,
    retrievals=1,
    sybil_counts=(20, 45),
    tests=200,
    test_sizes=(1000, 10_000),
    observers=10,
    weeks=(0.1,),
    days=2,
)
TINY = Effort(
    nodes=1000,
    lookups=6,
    lookups_else=2,
    attacked_keys=2,
    eclipses=4,
    packed=2,
    retrievals=1,
    sybil_counts=(45,),
    tests=20,
    test_sizes=(1000,),
    observers=3,
    weeks=(0.1,),
    days=1,
)
