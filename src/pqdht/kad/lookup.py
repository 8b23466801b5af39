"""The iterative lookup over disjoint paths, as an object (section 6).

Kademlia's node lookup (Maymounkov and Mazieres 2002) over d disjoint paths (S/Kademlia, Baumgart and
Mies 2007).  Each path has its own candidates: seeds dealt to it, and what the nodes it asked told it.
A candidate that two paths know belongs to the first that asks it.  A path ends when **its own** k'
closest live unclaimed candidates have answered, or it has none left: k' colluders at the key can end
one path, not all of them, while an end rule over the merged results lets them end the lookup.
Results are united only for choosing.

*Live* means neither failed nor slow.  A question past its hedge time is slow: the path asks one more
candidate and no longer waits for the slow one, but a late answer still counts.  At most `parallel`
slow questions per path are hedged, so an overloaded network is not asked ever more.  A path with nobody
else left waits for the slow ones all the same: until they fail, or until its patience with them ends and
k others have answered.

On an alarm `raise_region` makes each path ask all of its candidates around the target, however many.

The driver calls `next(now)`, asks what it gets, reports `on_reply` or `on_failure`, and calls
`next` again after each and at `next_deadline()`, until `done`.  The same calls give the same queries.
Times are monotonic seconds handed in; contacts are opaque and compared only for equality.
"""

from __future__ import annotations

from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from math import inf
from operator import eq
from typing import Generic

from ..ids import ID_BITS
from .candidate import Answered, C, Candidate, Offer, Peer, Query, State

__all__ = ["Answered", "Candidate", "Lookup", "Query"]

HEDGE_LATER_S = 0.25
"""How long a question is left alone that would be slow if we were not busy ourselves."""
HEDGE_BUSY_S = 1.0
"""How long in all at most: or a few that stall would keep us busy, and our being busy would cover for them
until they time out."""
REGION_QUERIES = 128
"""What a region may cost beyond what was asked before: as many as were contacted in all where the region of a
key with 45 Sybils was enumerated (Sridhar et al. 2024)."""
TRIES = 3
"""How often one node is asked, each time by another contact, before it counts as dead."""


def _by_distance(peer: Peer[C]) -> int:
    return peer.distance


def _by_order(peer: Peer[C]) -> tuple[int, float, int]:
    return peer.order


class Lookup(Generic[C]):
    """One walk towards `target` (32 B).

    `end` is k', `parallel` the questions in flight per path.  `rank` (higher first) orders candidates
    inside one common prefix length only.  `timeout_of`, `hedge_after` and `patience_of` give seconds per
    node id; without the first the driver alone reports failures, without the second nobody is slow, without
    the third the slow are waited for until they fail.  Questions to
    peers that `is_cold` (they must be dialled first) take no place of the `parallel`: waiting for dials one
    after the other is most of a cold lookup's time.  A path has at most 2 `parallel` in flight in all.  With
    `group_limits`, at most `max_per_answer_group` contacts of one group are taken from one answer, so
    that nobody can aim us at a victim, and seeds of one group go to one path.  `max_queries` bounds
    what a web of liars can cost.

    A liar may name a right id with a wrong address.  So a node that fails at one contact is asked
    again where another answer gave a different one; `same_contact` says when two would reach the
    same place (default: equality).
    """

    def __init__(
        self,
        target: bytes,
        *,
        k: int,
        seeds: Iterable[Candidate[C]],
        paths: int = 4,
        end: int = 5,
        parallel: int = 3,
        group_limits: bool = True,
        max_per_answer_group: int = 2,
        max_queries: int = 256,
        rank: Callable[[bytes], float] | None = None,
        timeout_of: Callable[[bytes], float] | None = None,
        hedge_after: Callable[[bytes], float] | None = None,
        is_busy: Callable[[], bool] = lambda: False,
        patience_of: Callable[[bytes], float] | None = None,
        is_cold: Callable[[bytes], bool] | None = None,
        same_contact: Callable[[C, C], bool] = eq,
    ) -> None:
        self.target = target
        self.k = k
        self._goal = int.from_bytes(target, "big")
        self._end = end
        self._parallel = parallel
        self._group_limits = group_limits
        self._max_per_answer_group = max_per_answer_group
        self._max_queries = max_queries
        self._rank = rank
        self._timeout_of = timeout_of
        self._hedge_after = hedge_after
        self._is_busy = is_busy
        self._patience_of = patience_of
        self._is_cold = is_cold
        self._same_contact = same_contact
        self._peers: dict[bytes, Peer[C]] = {}
        self._all: list[Peer[C]] = []  # ascending distance
        self._paths: list[list[Peer[C]]] = [[] for _ in range(paths)]  # ascending order
        self._flight: dict[bytes, Peer[C]] = {}
        self._answered: list[Peer[C]] = []
        self._is_stopped = False
        self._region = -1  # most bits of distance to the target within it; -1: none
        self.counters: Counter[str] = Counter()
        """asked, answered, late, failed, hedged, retried, learned, over_group, unasked."""
        unique = {seed.node_id: seed for seed in seeds}
        dealt = [(self._learn(seed), seed) for seed in unique.values()]
        for peer, _ in dealt:
            peer.is_seed = True
        self._deal(dealt, range(paths), None)

    # --- what the driver does --------------------------------------------------------------------

    def next(self, now: float, enough: int | None = None) -> list[Query[C]]:
        """What to ask now.  Paths take turns, one question each, so that none claims it all.

        After the turn that reaches `enough` questions nobody else is asked: every path has the same chance.
        """
        self._tick(now)
        queries: list[Query[C]] = []
        asking = not self._is_stopped
        while asking and (enough is None or len(queries) < enough):
            asking = False
            for path in range(len(self._paths)):
                peer = self._wanted(path) if self.counters["asked"] < self._max_queries else None
                if peer is not None:
                    queries.append(self._ask(peer, path, now))
                    asking = True
        return queries

    def on_reply(self, node_id: bytes, contacts: Iterable[Candidate[C]], now: float) -> None:
        """A node answered.  Answers of nodes never asked, and second answers, are only counted."""
        self._tick(now)
        peer = self._peers.get(node_id)
        if peer is None or peer.asked is None or peer.state is State.ANSWERED:
            self.counters["unasked"] += 1
            return
        if peer.state in (State.FAILED, State.KNOWN):
            self.counters["late"] += 1
            self._place(peer, peer.path, peer.asked)
        self.counters["answered"] += 1
        self._flight.pop(node_id, None)
        peer.state = State.ANSWERED
        insort(self._answered, peer, key=_by_distance)
        self._take_in(contacts, peer)

    def on_failure(self, node_id: bytes, now: float) -> None:
        """A node did not answer, refused, or is not who it should be."""
        self._tick(now)
        peer = self._flight.get(node_id)
        if peer is not None:
            self._fail(peer)

    def is_due(self, node_id: bytes) -> bool:
        """Whether this node was asked and its answer is not late."""
        peer = self._flight.get(node_id)
        return peer is not None and peer.state is State.ASKED

    def answers_due(self, now: float) -> int:
        """How many answers are not late; those that take a dial first nobody should count on."""
        self._tick(now)
        return sum(p.state is State.ASKED and not p.is_cold for p in self._flight.values())

    def next_deadline(self) -> float | None:
        """When to call `next` again although nothing happened; None if never."""
        flight = self._flight.values()
        hedges = (p.hedge_at for p in flight if p.state is State.ASKED)
        patience = (p.patience_at for p in flight if not p.is_overdue)
        earliest = min((*hedges, *patience, *(p.deadline for p in flight)), default=inf)
        return None if earliest == inf else earliest

    def raise_end(self, end: int) -> None:
        """In doubt: ask on, until each path's own `end` closest have answered."""
        self._end = max(self._end, end)
        self._is_stopped = False

    def finish(self) -> None:
        """Enough is known: ask nobody any more."""
        self._is_stopped = True

    def raise_region(self, cpl: int) -> None:
        """On alarm: ask on, until all live candidates that share `cpl` leading bits with the target have
        answered.  `max_queries` rises to allow 128 more."""
        self._region = max(self._region, ID_BITS - cpl)
        self._max_queries = max(self._max_queries, self.counters["asked"] + REGION_QUERIES)
        self._is_stopped = False

    def tell(self, candidates: Iterable[Candidate[C]]) -> None:
        """Nodes the driver learned of elsewhere, dealt to the paths as seeds are; known ones are ignored."""
        unique = {c.node_id: c for c in candidates if c.node_id not in self._peers}
        dealt = [(self._learn(candidate), candidate) for candidate in unique.values()]
        self.counters["learned"] += len(dealt)
        self._deal(dealt, range(len(self._paths)), None)

    @property
    def done(self) -> bool:
        """Whether all paths have ended."""
        if self._is_stopped:
            return True
        if self.counters["asked"] >= self._max_queries:
            return not any(p.state is State.ASKED for p in self._flight.values())
        return all(self._has_ended(path) for path in range(len(self._paths)))

    # --- what came of it -------------------------------------------------------------------------

    def answered(self) -> list[Answered[C]]:
        """All that answered, over all paths, closest first."""
        return [self._result(p) for p in self._answered]

    def closest(self, n: int) -> list[Answered[C]]:
        """The `n` closest that answered, over all paths."""
        return [self._result(p) for p in self._answered[:n]]

    def closest_on_every_path(self, n: int) -> list[Answered[C]]:
        """The `n` closest that answered on each path, united, closest first."""
        room = [n] * len(self._paths)
        found: list[Answered[C]] = []
        for peer in self._answered:
            if room[peer.path] > 0:
                room[peer.path] -= 1
                found.append(self._result(peer))
        return found

    def closest_known(self, n: int) -> list[Candidate[C]]:
        """The `n` closest that did not fail, whether they answered, were asked, or neither."""
        found: list[Candidate[C]] = []
        for peer in self._all:
            if len(found) == n:
                break
            if peer.state is not State.FAILED:
                candidate, _ = peer.asked or next(iter(peer.offers.values()))[0]
                found.append(candidate)
        return found

    def closest_seen_by(self, path: int, n: int) -> list[bytes]:
        """The `n` closest that this path was told of and that answered on any path.

        One path's whole view of the neighbourhood, seeds included, which it is not told again: for the
        size estimate, which takes the median.
        """
        seen = [p.node_id for p in self._answered if p.is_seed or path in p.offers or p.path == path]
        return seen[:n]

    def told(self, path: int, n: int) -> list[bytes]:
        """The `n` closest that an answer on this path need not name: our own seeds and what this path was
        told.  Not what another path was told, or paths would share their sources; nor who failed or is slow
        at one contact, as a liar may have named it and an answer may have a better one."""
        good = (p for p in self._all if not p.tried and p.state is not State.SLOW)
        told = (p.node_id for p in good if p.is_seed or path in p.offers)
        return list(islice(told, n))

    def has_answered(self, node_id: bytes) -> bool:
        """Whether this node answered."""
        peer = self._peers.get(node_id)
        return peer is not None and peer.state is State.ANSWERED

    def referrer_of(self, node_id: bytes) -> bytes | None:
        """Who named the node to the path that asked it; None for seeds and nodes never asked."""
        peer = self._peers.get(node_id)
        return peer.asked[1] if peer is not None and peer.asked is not None else None

    @property
    def live(self) -> int:
        """Nodes known that did not fail."""
        return sum(peer.state is not State.FAILED for peer in self._all)

    @property
    def paths(self) -> int:
        """Paths in all."""
        return len(self._paths)

    @property
    def paths_used(self) -> int:
        """Paths on which somebody answered."""
        return len({p.path for p in self._answered})

    @property
    def hops(self) -> int:
        """Intermediate nodes on the way to the closest that answered; 0 if it was a seed."""
        return self._answered[0].depth if self._answered else 0

    # --- asking ----------------------------------------------------------------------------------

    def _tick(self, now: float) -> None:
        for peer in list(self._flight.values()):
            if peer.deadline <= now:
                self._fail(peer)
            elif peer.state is State.ASKED and peer.hedge_at <= now:
                if now < peer.hedge_last and self._is_busy():  # then it is we who are slow
                    peer.hedge_at = now + HEDGE_LATER_S
                else:
                    peer.state = State.SLOW
                    self.counters["hedged"] += 1
            peer.is_overdue = peer.patience_at <= now

    def _wanted(self, path: int) -> Peer[C] | None:
        """Whom `path` should ask next: the first unasked among its own k' closest live and all of its
        region, if it may."""
        room = self._end
        for peer in self._paths[path]:
            if room <= 0 and peer.order[0] > self._region:
                break
            if not peer.is_open_to(path) or peer.state is State.SLOW:
                continue
            if peer.state is State.KNOWN:
                return peer if self._may_ask(path) else None
            room -= 1
        return None

    def _may_ask(self, path: int) -> bool:
        mine = [p.state is State.SLOW or p.is_cold for p in self._flight.values() if p.path == path]
        aside = sum(mine)
        return len(mine) - aside < self._parallel and len(mine) < 2 * self._parallel

    def _has_ended(self, path: int) -> bool:
        room = self._end
        waits_for_slow = False
        has_enough = len(self._answered) >= self.k
        for peer in self._paths[path]:
            if room <= 0 and peer.order[0] > self._region:
                break
            if not peer.is_open_to(path):
                continue
            if peer.state is State.SLOW:
                waits_for_slow = waits_for_slow or not (peer.is_overdue and has_enough)
            elif peer.state is not State.ANSWERED:
                return False
            else:
                room -= 1
        return not waits_for_slow or (room <= 0 and self._region < 0)

    def _ask(self, peer: Peer[C], path: int, now: float) -> Query[C]:
        self.counters["retried"] += peer.asked is not None
        self.counters["asked"] += 1
        peer.asked = peer.offers[path][0]
        candidate, referrer = peer.asked
        peer.state, peer.path = State.ASKED, path
        peer.depth = 0 if referrer is None else self._peers[referrer].depth + 1
        peer.deadline = now + self._timeout_of(peer.node_id) if self._timeout_of else inf
        peer.hedge_at = now + self._hedge_after(peer.node_id) if self._hedge_after else inf
        peer.hedge_last = peer.hedge_at + HEDGE_BUSY_S
        peer.patience_at = now + self._patience_of(peer.node_id) if self._patience_of else inf
        peer.is_overdue = False
        peer.is_cold = self._is_cold is not None and self._is_cold(peer.node_id)
        self._flight[peer.node_id] = peer
        return Query(path, peer.node_id, candidate.contact, peer.hedge_at, peer.deadline)

    def _fail(self, peer: Peer[C]) -> None:
        """Out, unless somebody told of another contact for this id."""
        del self._flight[peer.node_id]
        self.counters["failed"] += 1
        assert peer.asked is not None
        wrong = peer.asked[0].contact
        peer.tried.append(wrong)
        for path, offers in list(peer.offers.items()):
            others = [o for o in offers if not self._same_contact(o[0].contact, wrong)]
            if others:
                peer.offers[path] = others
            else:
                del peer.offers[path]
                self._paths[path].remove(peer)
        is_hopeless = not peer.offers or len(peer.tried) >= TRIES
        peer.state = State.FAILED if is_hopeless else State.KNOWN

    # --- learning --------------------------------------------------------------------------------

    def _learn(self, candidate: Candidate[C]) -> Peer[C]:
        distance = int.from_bytes(candidate.node_id, "big") ^ self._goal
        rank = self._rank(candidate.node_id) if self._rank else 0.0
        peer = Peer[C](candidate.node_id, distance, (distance.bit_length(), -rank, distance))
        self._peers[candidate.node_id] = peer
        insort(self._all, peer, key=_by_distance)
        return peer

    def _take_in(self, contacts: Iterable[Candidate[C]], referrer: Peer[C]) -> None:
        path = referrer.path
        groups: Counter[str] = Counter()
        fresh: list[tuple[Peer[C], Candidate[C]]] = []
        unique = {c.node_id: c for c in contacts}
        answer = sorted(unique.values(), key=lambda c: int.from_bytes(c.node_id, "big") ^ self._goal)
        for candidate in answer:
            groups[candidate.group] += 1
            if self._group_limits and groups[candidate.group] > self._max_per_answer_group:
                self.counters["over_group"] += 1
                continue
            known = self._peers.get(candidate.node_id)
            if known is None:
                fresh.append((self._learn(candidate), candidate))
            else:
                self._retell(known, path, candidate, referrer.node_id)
        self.counters["learned"] += len(fresh)
        if not fresh:
            return
        idle = [p for p in range(len(self._paths)) if p != path and not self._has_hope(p)]
        self._deal(fresh, [path, *idle], referrer.node_id)

    def _retell(self, peer: Peer[C], path: int, candidate: Candidate[C], referrer: bytes) -> None:
        """A path was told of a node that the lookup knows already."""
        told = peer.offers.get(path, [])
        if (peer.state is State.ANSWERED and told) or max(len(told), len(peer.tried)) >= TRIES:
            return
        known_contacts = [*peer.tried, *(o[0].contact for o in told)]
        if any(self._same_contact(candidate.contact, known) for known in known_contacts):
            return
        self._place(peer, path, (candidate, referrer))
        if peer.state is State.FAILED:
            peer.state = State.KNOWN

    def _place(self, peer: Peer[C], path: int, offer: Offer[C]) -> None:
        """Enter a node into a path's candidates."""
        if path not in peer.offers:
            peer.offers[path] = []
            insort(self._paths[path], peer, key=_by_order)
        peer.offers[path].append(offer)

    def _has_hope(self, path: int) -> bool:
        """Whether anybody on this path answered or may yet: else it can be founded anew."""
        return any(p.is_open_to(path) for p in self._paths[path])

    def _deal(
        self,
        fresh: Sequence[tuple[Peer[C], Candidate[C]]],
        paths: Sequence[int],
        referrer: bytes | None,
    ) -> None:
        """Deal nodes nobody knew over `paths`, evenly, those of one group to one path where possible."""
        hands: dict[int, list[tuple[Peer[C], Candidate[C]]]] = {path: [] for path in paths}
        held = {path: sum(p.is_open_to(path) for p in self._paths[path]) for path in paths}
        homes: dict[str, int] = {}
        for peer, candidate in sorted(fresh, key=lambda pair: pair[0].distance):
            home = homes.get(candidate.group) if self._group_limits else None
            if home is None:
                home = min(paths, key=lambda p: held[p] + len(hands[p]))  # the first of equals
                homes[candidate.group] = home
            hands[home].append((peer, candidate))
        for path in paths:  # fewer groups than paths: better a path with a shared group than none
            richest = max(paths, key=lambda p: len(hands[p]))
            can_spare = hands[richest] and held[richest] + len(hands[richest]) > 1
            if can_spare and held[path] + len(hands[path]) == 0:
                hands[path].append(hands[richest].pop())
        for path, hand in hands.items():
            for peer, candidate in hand:
                self._place(peer, path, (candidate, referrer))

    def _result(self, peer: Peer[C]) -> Answered[C]:
        assert peer.asked is not None
        candidate, referrer = peer.asked
        return Answered(peer.node_id, candidate.contact, candidate.group, peer.path, peer.depth, referrer)
