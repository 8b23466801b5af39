"""Lookups under attack: ours as a node makes them, and Kademlia's as usual, on one `Crowd`."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum, auto

from lab.crowd import Crowd, K
from pqdht.config import Config
from pqdht.constants import MAX_KNOWN
from pqdht.ids import common_prefix_length
from pqdht.kad.lookup import Lookup
from pqdht.kad.size import SizeEstimator
from pqdht.node.lookups import REGION_END, REGION_PATHS
from pqdht.trust.sybil import SybilTest, region_targets
from tests.unit.kad.network import candidates, random_id, true_closest

DEFAULTS = Config()
PARALLEL = 12
"""Questions in flight of Kademlia as usual: as many as 4 paths have."""
PER_ESTIMATE, WALKS = 25, 10
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
    replicas: dict[bytes, None]
    """The k closest honest nodes that are up: one of them is enough."""
    size: float | None = None
    """N as this node estimates it; None: it makes no Sybil test."""
    lie: Lie = Lie.ONE_ANOTHER

    @property
    def best(self) -> bytes:
        """The closest honest node that is up."""
        return next(iter(self.replicas))

    def answer(self, node: bytes, target: bytes, known: Collection[bytes]) -> list[bytes] | None:
        """Contacts; None for silence."""
        if node in self.crowd.colluders:
            if self.lie is Lie.SILENCE:
                return None
            if self.lie is Lie.NOBODY:
                return []
            return [n for n in self.crowd.named(target) if n not in known and n != node][:K]
        if not self.crowd.life(node).is_up:
            return None
        return self.crowd.contacts(node, target, known, self.me)

    def is_honest(self, node: bytes) -> bool:
        return node not in self.crowd.colluders


def cases(crowd: Crowd, count: int, seed: int) -> list[Case]:
    """`count` random keys; the same for every rule that is compared.  N is estimated under attack, anew for
    every `PER_ESTIMATE` keys."""
    dice = random.Random(f"cases {seed}")
    honest = crowd.honest_up
    made: list[Case] = []
    size: float | None = None
    for number in range(count):
        target, me = random_id(dice), dice.choice(honest)
        if number % PER_ESTIMATE == 0:
            size = estimate(crowd, me, random.Random(f"walks {seed} {number}"))
        replicas = [n for n in true_closest(honest, target, K + 1) if n != me][:K]
        made.append(Case(crowd, me, target, dict.fromkeys(replicas), size))
    return made


def estimate(crowd: Crowd, me: bytes, dice: random.Random) -> float | None:
    """N by random walks, as `node.Lookups` samples it."""
    sizes, test = SizeEstimator(K), SybilTest(K)
    for _ in range(WALKS):
        walk = Case(crowd, me, random_id(dice), {})
        lookup = begin(walk, walk.target, end=DEFAULTS.path_end)
        drive(walk, lookup)
        paths = [lookup.closest_seen_by(path, K) for path in range(DEFAULTS.paths)]
        so_far = sizes.estimate(0.0)
        ids = [c.node_id for c in lookup.closest_known(K)]
        suspect = so_far is not None and test.check(walk.target, ids, so_far.nodes) is not None
        sizes.observe_paths(walk.target, paths, 0.0, is_suspect=suspect)
    found = sizes.estimate(0.0)
    return found.nodes if found is not None else None


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
    reached = any(n in case.replicas for n in honest)
    return Found(reached, reached and case.best in honest, questions, list(answered))


@dataclass
class Search:
    """One lookup of ours, and what was asked beside it."""

    case: Case
    lookup: Lookup[int]
    beside: int = 0
    region: int | None = None
    """After an alarm: the bits that the key shares with all who were asked."""

    def found(self) -> Found:
        questions = self.lookup.counters["asked"] + self.beside
        return found(self.case, [a.node_id for a in self.lookup.answered()], questions)

    def widen(self) -> None:
        """`node.Lookups.widen`, where the Sybil test of `node.Reader` and `node.Publisher` alarms."""
        case, lookup = self.case, self.lookup
        if case.size is None:
            return
        ids = [c.node_id for c in lookup.closest_known(K)]
        finding = SybilTest(K).check(case.target, ids, case.size)
        if finding is None:
            return
        self.region = cpl = finding.region_cpl
        hints = [c.node_id for c in lookup.closest_known(K * DEFAULTS.paths)]
        for target in region_targets(case.target, cpl, case.size, random.Random(case.target)):
            other = begin(case, target, paths=REGION_PATHS, end=REGION_END, hints=hints)
            drive(case, other)
            self.beside += other.counters["asked"]
            near = other.closest_known(other.live)
            lookup.tell(c for c in near if common_prefix_length(c.node_id, case.target) >= cpl)
        lookup.raise_end(DEFAULTS.path_end_doubt)
        lookup.raise_region(cpl)
        drive(case, lookup)


def ours(case: Case, *, paths: int = DEFAULTS.paths, rank: Rank | None = None, region: bool = True) -> Found:
    """As a GET: its usual end; doubt where nothing honest was reached (its answer is "absent"); the region
    of the key on a Sybil alarm."""
    search = Search(case, begin(case, case.target, paths=paths, end=DEFAULTS.path_end, rank=rank))
    drive(case, search.lookup)
    if not search.found().reached:
        search.lookup.raise_end(DEFAULTS.path_end_doubt)
        drive(case, search.lookup)
    if region:
        search.widen()
    return search.found()


def anew(case: Case, first: Found) -> Found:
    """Where a GET found nothing, it begins anew with twice the paths (`Reader._search_anew`)."""
    second = ours(case, paths=2 * DEFAULTS.paths)
    return replace(second, questions=first.questions + second.questions)


def begin(
    case: Case,
    target: bytes,
    *,
    end: int,
    paths: int = DEFAULTS.paths,
    rank: Rank | None = None,
    hints: Sequence[bytes] = (),
) -> Lookup[int]:
    """With as many seeds as a node begins with."""
    nearest = case.crowd.table(case.me).closest(target, max(K, paths * DEFAULTS.path_end))
    seeds = candidates([*hints, *(e.node_id for e in nearest)])
    return Lookup(target, k=K, seeds=seeds, paths=paths, end=end, rank=rank)


def drive(case: Case, lookup: Lookup[int]) -> None:
    """Ask until the lookup is done; each node is told what its path knows already."""
    waiting = deque(lookup.next(0.0))
    while waiting and not lookup.done:
        query = waiting.popleft()
        known = dict.fromkeys(lookup.told(query.path, MAX_KNOWN))
        answer = case.answer(query.node_id, lookup.target, known)
        if answer is None:
            lookup.on_failure(query.node_id, 0.0)
        else:
            lookup.on_reply(query.node_id, candidates(answer), 0.0)
        waiting += lookup.next(0.0)


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
            answer = case.answer(node, case.target, ())
            if answer is None:
                dead[node] = None
            else:
                known.update(dict.fromkeys(answer))
