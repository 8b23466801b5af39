"""Lookups under attack: ours as a node makes them, and Kademlia's as usual, on one `Crowd`."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from lab.crowd import Crowd, K
from pqdht.config import Config
from pqdht.constants import MAX_KNOWN
from pqdht.kad.lookup import Lookup
from tests.unit.kad.network import candidates, random_id, true_closest

DEFAULTS = Config()
PARALLEL = 12
"""Questions in flight of Kademlia as usual: as many as 4 paths have."""
Rank = Callable[[bytes], float]


class Lie(Enum):
    """What a colluder answers."""

    ONE_ANOTHER = auto()
    """The closest colluders, and that nothing is stored."""
    NOBODY = auto()
    """No contact, and that nothing is stored."""
    SILENCE = auto()


@dataclass
class Case:
    """One key, and one honest node that looks it up."""

    crowd: Crowd
    me: bytes
    target: bytes
    closest_colluders: list[bytes]
    """As many as anybody may have heard of."""
    replicas: dict[bytes, None]
    """The k closest honest nodes that are up: one of them is enough."""
    lie: Lie = Lie.ONE_ANOTHER
    questions: int = 0

    @property
    def best(self) -> bytes:
        """The closest honest node that is up."""
        return next(iter(self.replicas))

    def answer(self, node: bytes, known: Collection[bytes]) -> list[bytes] | None:
        """Contacts; None for silence."""
        self.questions += 1
        if node in self.crowd.colluders:
            if self.lie is Lie.SILENCE:
                return None
            if self.lie is Lie.NOBODY:
                return []
            return [n for n in self.closest_colluders if n not in known and n != node][:K]
        if not self.crowd.life(node).is_up:
            return None
        return self.crowd.contacts(node, self.target, known, self.me)

    def is_honest(self, node: bytes) -> bool:
        return node not in self.crowd.colluders


def cases(crowd: Crowd, count: int, seed: int) -> list[Case]:
    """`count` random keys; the same for every rule that is compared."""
    dice = random.Random(f"cases {seed}")
    honest, colluders = crowd.honest_up, list(crowd.colluders)
    made = []
    for _ in range(count):
        target, me = random_id(dice), dice.choice(honest)
        named = true_closest(colluders, target, K + MAX_KNOWN)
        replicas = [n for n in true_closest(honest, target, K + 1) if n != me][:K]
        made.append(Case(crowd, me, target, named, dict.fromkeys(replicas)))
    return made


@dataclass
class Found:
    """What a lookup came to."""

    reached: bool
    """An honest replica answered."""
    best: bool
    """The closest honest node answered."""
    questions: int
    answered: list[bytes] = field(repr=False)
    """Closest first."""


def found(case: Case, answered: Sequence[bytes], questions: int) -> Found:
    honest = [n for n in answered if case.is_honest(n)]
    return Found(any(n in case.replicas for n in honest), case.best in honest, questions, list(answered))


def ours(case: Case, *, paths: int = DEFAULTS.paths, rank: Rank | None = None) -> Found:
    """As a GET: its usual end, and doubt where nothing honest was reached (its answer is "absent")."""
    lookup = begin(case, paths=paths, end=DEFAULTS.path_end, rank=rank)
    drive(case, lookup)
    first = look(case, lookup)
    if first.reached:
        return first
    lookup.raise_end(DEFAULTS.path_end_doubt)
    drive(case, lookup)
    return look(case, lookup)


def begin(case: Case, *, paths: int, end: int, rank: Rank | None = None) -> Lookup[int]:
    """With as many seeds as a node begins with."""
    seeds = case.crowd.table(case.me).closest(case.target, max(K, paths * DEFAULTS.path_end))
    return Lookup(
        case.target, k=K, seeds=candidates([e.node_id for e in seeds]), paths=paths, end=end, rank=rank
    )


def drive(case: Case, lookup: Lookup[int]) -> None:
    """Ask until the lookup is done; each node is told what its path knows already."""
    waiting = deque(lookup.next(0.0))
    while waiting and not lookup.done:
        query = waiting.popleft()
        answer = case.answer(query.node_id, dict.fromkeys(lookup.told(query.path, MAX_KNOWN)))
        if answer is None:
            lookup.on_failure(query.node_id, 0.0)
        else:
            lookup.on_reply(query.node_id, candidates(answer), 0.0)
        waiting += lookup.next(0.0)


def look(case: Case, lookup: Lookup[int]) -> Found:
    return found(case, [a.node_id for a in lookup.answered()], lookup.counters["asked"])


def plain(case: Case, *, k: int = K) -> Found:
    """Kademlia as usual: one list, which ends when the k closest in it have answered."""
    known = dict.fromkeys(e.node_id for e in case.crowd.table(case.me).closest(case.target, k))
    asked: dict[bytes, None] = {}
    dead: dict[bytes, None] = {}
    while True:
        shortlist = true_closest([n for n in known if n not in dead], case.target, k)
        todo = [n for n in shortlist if n not in asked][:PARALLEL]
        if not todo:
            return found(case, shortlist, len(asked))
        for node in todo:
            asked[node] = None
            answer = case.answer(node, ())
            if answer is None:
                dead[node] = None
            else:
                known.update(dict.fromkeys(answer))
