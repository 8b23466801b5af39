"""Drives `kad.Lookup` over the network: the lookup decides whom to ask, the driver asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..constants import KNOWN_PREFIX, MAX_KNOWN
from ..errors import Closed, NotBootstrapped, PeerIdentityMismatch, PeerUnreachable, RemoteError
from ..identity.contact import VerifiedContact
from ..ids import common_prefix_length
from ..kad.lookup import Candidate, Lookup, Query
from ..trust.anomaly import EqualAnswers
from ..trust.modes import Mode
from ..trust.sybil import SybilFinding, region_targets
from ..wire.messages import Body, FindNode
from .environment import Environment
from .exchange import Answer
from .gathering import Gathering
from .guard import Guard
from .peers import Peers
from .routing import Routing
from .sybils import SybilWatch

BUSY_ABOVE = 64
"""Questions under way beyond which late answers say more of our own load than of whom we asked: they are
hedged later, as that would only add to it, and get the longest time-out."""

ASKED_MOST = 256
"""Questions of one lookup."""
REGION_PATHS, REGION_END, REGION_ASKED = 2, 3, 32
"""Each of the searches for a region asks 6 nodes at its end: they name the k closest, and all of these are
asked by the walk itself.  Of about 7 searches no web of liars makes more than 32 questions each."""

OnAnswer = Callable[[Answer, int], bool]
"""(answer, path) -> True to end the lookup here."""
Make = Callable[[Query[VerifiedContact], bytes], Body]
"""(query, contacts that the answer need not name) -> the question"""


@dataclass(slots=True)
class Walk:
    """One lookup under way and what it cost."""

    lookup: Lookup[VerifiedContact]
    make: Make
    on_answer: OnAnswer
    missing: Callable[[int], int | None] | None = None
    """(answers due) -> how many besides would be enough if all were good ones, so that no more need be asked
    meanwhile; None: as many as there are."""
    may_gather: bool = True
    """Whether its questions may share a message with others'; not where one answer may fill a page."""
    last_resort: bool = False
    """Whether it asks those in quarantine too."""
    answers: dict[bytes, Answer] = field(default_factory=dict)
    equal: EqualAnswers = field(default_factory=EqualAnswers)
    bytes: int = 0
    queries: int = 0
    failures: int = 0
    further: dict[asyncio.Task[None], None] = field(default_factory=dict)
    """Questions waited for that the lookup did not ask for."""
    is_stopped: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def go_on_from(self, before: Walk) -> None:
        """Take over what an earlier walk to the same target heard and cost."""
        self.answers |= before.answers
        self.bytes += before.bytes
        self.queries += before.queries
        self.failures += before.failures

    @property
    def has_asked_all(self) -> bool:
        """Whether everybody who is known to live has answered: nobody is left to ask."""
        return len(self.answers) >= self.lookup.live


class Lookups:
    """Iterative lookups over disjoint paths (section 6)."""

    def __init__(
        self, env: Environment, peers: Peers, gathering: Gathering, routing: Routing, guard: Guard
    ) -> None:
        self._env = env
        self._guard = guard
        self._peers = peers
        self._gathering = gathering
        self._routing = routing
        self.sybils = SybilWatch(env, routing, guard)
        self._tasks: dict[asyncio.Task[None], None] = {}
        self._is_closed = False

    def begin(
        self,
        target: bytes,
        make: Make,
        on_answer: OnAnswer,
        *,
        end: int,
        hints: Sequence[Candidate[VerifiedContact]] = (),
        parallel: int | None = None,
        paths: int | None = None,
        last_resort: bool = False,
        seeds: Sequence[Candidate[VerifiedContact]] = (),
        most: int = ASKED_MOST,
    ) -> Walk:
        """A walk towards `target` that asks `make` of each node. Raises NotBootstrapped.

        `hints`: whom to ask besides those of the table, as if one of these had named them.  `parallel`:
        questions in flight per path, if not `Config.parallel`; `paths`, if not `Config.paths`.
        `last_resort`: ask those in quarantine too.  `seeds`: where to begin instead of the table.  `most`:
        questions in all, whatever liars name.
        """
        config, params = self._env.config, self._env.params
        is_disjoint = self._env.mode("disjoint_paths") is Mode.ENFORCE
        if not is_disjoint:  # Kademlia as usual: it ends when the k closest of all have answered
            end = max(end, params.k)
        # Where k is small, k seeds would found paths too short to end by their own k' closest.
        wanted = max(params.k, (paths or config.paths) * config.path_end)
        seeds = seeds or self._routing.seeds(target, wanted, last_resort=last_resort)
        if not seeds:
            raise NotBootstrapped("no peer is known; check `bootstrap` and the network, then try again")
        lookup: Lookup[VerifiedContact] = Lookup(
            target,
            k=params.k,
            paths=(paths or config.paths) if is_disjoint else 1,
            end=end,
            parallel=parallel or config.parallel,
            seeds=[*hints, *seeds],  # of one node what the table says counts
            max_queries=most,
            max_per_answer_group=params.limits.answer_per_group,
            group_limits=params.address_groups,
            hedge_after=self._peers.hedge,
            is_busy=lambda: self.is_busy,
            patience_of=self._peers.patience,
            is_cold=self._peers.is_cold,
            rank=self._guard.rank,
            same_contact=lambda a, b: a.addresses == b.addresses,
        )
        self._env.counters["lookups"] += 1
        equal = EqualAnswers(self._env.threshold("equal_answers.nodes"))
        return Walk(lookup, make, on_answer, last_resort=last_resort, equal=equal)

    async def find(
        self,
        target: bytes,
        *,
        end: int,
        is_sample: bool = False,
        make: Make | None = None,
        hints: Sequence[Candidate[VerifiedContact]] = (),
        parallel: int | None = None,
        paths: int | None = None,
        seeds: Sequence[Candidate[VerifiedContact]] = (),
        most: int = ASKED_MOST,
    ) -> Walk:
        """FIND_NODE (or what `make` makes) towards a target until every path ended.

        A target from our own dice (`is_sample`) feeds the size estimate; a chosen one would bias it.
        """
        make = make or (lambda _, known: FindNode(target, known=known))
        walk = self.begin(
            target,
            make,
            lambda _answer, _path: False,
            end=end,
            hints=hints,
            parallel=parallel,
            paths=paths,
            seeds=seeds,
            most=most,
        )
        try:
            async with asyncio.timeout(self._env.config.lookup_timeout_s):
                await self.drive(walk)
        except TimeoutError:
            self._env.counters["lookups_timed_out"] += 1
        else:
            if is_sample:
                self._observe(walk)
        self.settle(walk)
        return walk

    def _observe(self, walk: Walk) -> None:
        """A complete lookup of a random key is a sample of the network's size."""
        lookup = walk.lookup
        k = self._env.params.k
        now = asyncio.get_running_loop().time()
        if len(walk.answers) >= 2:
            paths = [lookup.closest_seen_by(path, k) for path in range(lookup.paths)]
            is_suspect = self.sybils.widens and self.sybils.suspicion(lookup) is not None
            taken = self._routing.sizes.observe_paths(lookup.target, paths, now, is_suspect=is_suspect)
            self._env.counters["size_samples_left_out"] += not taken

    async def search_region(self, walk: Walk) -> int | None:
        """After a lookup that ended: on a Sybil alarm ask everybody around its target too.  The bits that
        these share with it, None without an alarm."""
        finding = self.sybils.alarm(walk.lookup)
        if finding is None or not self.sybils.widens:
            return None
        await self.ask_region(walk, finding)
        return finding.region_cpl

    async def ask_region(self, walk: Walk, finding: SybilFinding) -> None:
        """Ask everybody around the target of a walk that ended, as long as a lookup may take."""
        try:
            async with asyncio.timeout(self._env.config.lookup_timeout_s):
                await self.widen(walk, finding)
                await self.drive(walk)
        except TimeoutError:
            self._env.counters["lookups_timed_out"] += 1

    async def widen(self, walk: Walk, finding: SybilFinding) -> None:
        """On alarm: find the nodes of the region of a walk's target; the walk then asks them all, once it
        is driven on."""
        lookup, cpl = walk.lookup, finding.region_cpl
        self._env.counters["lookups_widened"] += 1
        walk.missing = None
        known = lookup.closest_known(self._env.params.k * self._env.config.paths)
        searches = [
            self.find(target, end=REGION_END, paths=REGION_PATHS, hints=known, most=REGION_ASKED)
            for target in region_targets(lookup.target, cpl, finding.network_size, self._env.dice)
        ]
        for found in await asyncio.gather(*searches):
            walk.queries += found.queries
            walk.failures += found.failures
            walk.bytes += found.bytes
            near = found.lookup.closest_known(found.lookup.live)
            lookup.tell(c for c in near if common_prefix_length(c.node_id, lookup.target) >= cpl)
        lookup.raise_end(self._env.config.path_end_doubt)
        lookup.raise_region(cpl)

    def settle(self, walk: Walk | None) -> None:
        """Count what a walk was."""
        if walk is None:
            return
        self._routing.table.looked_up(walk.lookup.target, asyncio.get_running_loop().time())
        self._env.counters["lookup_queries"] += walk.queries
        self._env.counters["lookup_failures"] += walk.failures
        self._env.counters["lookups_over_many_paths"] += walk.lookup.paths_used > 1
        groups = len({a.group for a in walk.answers.values()})
        self._env.counters["lookup_groups_counted"] += groups

    async def drive(self, walk: Walk) -> None:
        """Ask until the lookup is done or `on_answer` says enough.

        Questions still under way are left to finish by themselves: their answers keep the table and
        the round-trip estimates fresh, and count if the walk is driven on.
        """
        loop = asyncio.get_running_loop()
        walk.is_stopped = False
        while not walk.is_stopped:
            if self._is_closed:
                raise Closed("this node was closed")
            queries = self._to_ask(walk, loop.time())
            known = {path: _heads(walk.lookup.told(path, MAX_KNOWN)) for path in {q.path for q in queries}}
            for query in queries:
                task = loop.create_task(self._ask(walk, query, known[query.path]))
                self._tasks[task] = None
                task.add_done_callback(self._finished)
                task.add_done_callback(lambda _: walk.wake.set())  # also where it never began
            if walk.lookup.done and not walk.further:
                break
            walk.wake.clear()
            deadline = walk.lookup.next_deadline()
            timer = loop.call_at(deadline, walk.wake.set) if deadline is not None else None
            try:
                await walk.wake.wait()
            finally:
                if timer is not None:
                    timer.cancel()

    @staticmethod
    def _to_ask(walk: Walk, now: float) -> list[Query[VerifiedContact]]:
        enough = walk.missing(walk.lookup.answers_due(now)) if walk.missing is not None else None
        return walk.lookup.next(now, enough)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a lookup query failed unexpectedly", "exception": error, "task": task}
            )

    @property
    def is_busy(self) -> bool:
        """Whether more is under way than one lookup or a few would ask."""
        return len(self._tasks) > BUSY_ABOVE

    def _timeout_s(self) -> float | None:
        return self._env.config.request_timeout_s if self.is_busy else None

    async def close(self) -> None:
        """Give up every question under way; who drives a walk gets Closed."""
        self._is_closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, walk: Walk, query: Query[VerifiedContact], known: bytes) -> None:
        loop = asyncio.get_running_loop()
        walk.queries += 1
        referrer = walk.lookup.referrer_of(query.node_id)
        try:
            answer = await self._request(walk, query.contact, walk.make(query, known))
        except (RemoteError, Closed) as e:
            if referrer is not None and isinstance(e, PeerUnreachable | PeerIdentityMismatch):
                self._guard.referred(referrer, e)
            walk.failures += 1
            walk.lookup.on_failure(query.node_id, loop.time())
        else:
            walk.bytes += answer.bytes
            walk.answers[answer.node_id] = answer
            if referrer is not None:
                self._guard.referred(referrer, None)
            found = self._routing.candidates(answer, last_resort=walk.last_resort)
            self._guard.named(answer, walk.lookup.target, [c.contact for c in found], walk)
            walk.lookup.on_reply(query.node_id, found, loop.time())
            if walk.on_answer(answer, query.path):
                walk.is_stopped = True
        finally:
            walk.wake.set()

    async def _request(self, walk: Walk, contact: VerifiedContact, body: Body) -> Answer:
        ask = self._gathering.request if walk.may_gather else self._peers.request
        return await ask(contact, body, self._timeout_s())

    def ask_further(self, walk: Walk, contact: VerifiedContact, body: Body, path: int) -> None:
        """One question more of a node that answered already; the walk waits for it, with patience."""
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._ask_further(walk, contact, body, path))
        walk.further[task] = None
        self._tasks[task] = None
        task.add_done_callback(self._finished)

        def wait_no_more(*_: object) -> None:
            walk.further.pop(task, None)
            walk.wake.set()

        # As with a lookup's own questions: who stalls holds nobody up until it times out.
        timer = loop.call_later(self._peers.patience(contact.node_id), wait_no_more)
        task.add_done_callback(lambda _: timer.cancel())
        task.add_done_callback(wait_no_more)

    async def _ask_further(self, walk: Walk, contact: VerifiedContact, body: Body, path: int) -> None:
        walk.queries += 1
        try:
            answer = await self._request(walk, contact, body)
        except (RemoteError, Closed):
            walk.failures += 1
        else:
            walk.bytes += answer.bytes
            walk.answers[answer.node_id] = answer
            if walk.on_answer(answer, path):
                walk.is_stopped = True


def _heads(ids: list[bytes]) -> bytes:
    """Node ids as a question names them."""
    return b"".join([node_id[:KNOWN_PREFIX] for node_id in ids])
