"""What a lookup knows of each node: told of, asked, answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from math import inf
from typing import Generic, TypeVar

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class Candidate(Generic[C]):
    """A node one may ask.  `group` is its address group, "" where unknown."""

    node_id: bytes
    contact: C
    group: str = ""


@dataclass(frozen=True, slots=True)
class Query(Generic[C]):
    """Ask this node now; `hedge_at` and `deadline` in the driver's seconds, inf where not bounded."""

    path: int
    node_id: bytes
    contact: C
    hedge_at: float
    deadline: float


@dataclass(frozen=True, slots=True)
class Answered(Generic[C]):
    """A node that answered.  `depth` counts referrals from a seed (0), `referrer` is None for seeds."""

    node_id: bytes
    contact: C
    group: str
    path: int
    depth: int
    referrer: bytes | None


class State(Enum):
    """How far a node was asked."""

    KNOWN = auto()
    ASKED = auto()
    SLOW = auto()
    FAILED = auto()
    ANSWERED = auto()


Offer = tuple[Candidate[C], bytes | None]
"""A candidate as a path was told of it, and by whom (None: a seed)."""


@dataclass(slots=True, eq=False)
class Peer(Generic[C]):
    """One node of one lookup."""

    node_id: bytes
    distance: int
    order: tuple[int, float, int]
    """Ascending: longer common prefix with the target, then higher rank, then closer."""
    offers: dict[int, list[Offer[C]]] = field(default_factory=dict)
    """Per path that knows it: distinct contacts not tried yet (or the one being tried)."""
    tried: list[C] = field(default_factory=list)
    """Contacts at which it could not be reached."""
    is_seed: bool = False
    """Ours from the start, whichever path it was dealt to."""
    state: State = State.KNOWN
    path: int = -1
    """The path that asked it (last)."""
    asked: Offer[C] | None = None
    depth: int = 0
    hedge_at: float = inf
    hedge_last: float = inf
    """It is slow from then on, however busy we are."""
    deadline: float = inf
    patience_at: float = inf
    is_overdue: bool = False
    """Slow past all patience."""
    is_cold: bool = False
    """Reaching it takes a dial first."""

    def is_open_to(self, path: int) -> bool:
        """Whether `path`, which was told of this node, may count on it: nobody's so far, or its own."""
        return self.state is State.KNOWN or (self.state is not State.FAILED and self.path == path)
