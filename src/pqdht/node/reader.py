"""GET: ask the closest nodes over disjoint paths, check every record, decide by the confirmation rule,
and repair what lags (section 5).  The rule itself is `kad.quorum`; here it meets the network.
"""

from __future__ import annotations

import asyncio

from ..config import Consistency
from ..constants import DAY_MS, MAX_HAVE
from ..errors import NotBootstrapped, RecordInvalid, RemoteError, WireCode
from ..identity.contact import VerifiedContact
from ..ids import NodeId, OwnerId
from ..kad.lookup import Query
from ..kad.quorum import Confirmation, Member, Verdict, closest_members, confirm, spread
from ..records import Kind, Locator, Record, Topic
from ..trust.modes import Mode
from ..wire.messages import FindValue, Store, Stored, Values, WireRecord
from .environment import Environment
from .exchange import Answer
from .guard import BLAMELESS, Guard
from .handlers import to_wire
from .hunt import Hunt
from .keeper import Keeper, promises
from .lookups import Lookups, Walk
from .outcome import NOBODY_ANSWERED, NOBODY_KNOWN, Outcomes
from .peers import Peers
from .results import GetResult

ASKED_IN_FULL = 2
"""Nodes asked to send the record itself before it is there: one may lack it or be slow.  Where so much is
under way that bytes count more than a round trip, one."""
NOBODY = bytes(32)
"""`closer_than`: no contacts."""
PAGES_MOST = 8
"""Further pages asked of one node under a crowded topic."""


class Reader:
    """Every GET of this node."""

    def __init__(
        self, env: Environment, peers: Peers, keeper: Keeper, lookups: Lookups, guard: Guard
    ) -> None:
        self._env = env
        self._guard = guard
        self._peers = peers
        self._keeper = keeper
        self._lookups = lookups
        self._outcomes = Outcomes(env, guard)

    # --- what callers ask ----------------------------------------------------------------------

    async def get(
        self,
        locator: Locator,
        *,
        owner: OwnerId | None,
        consistency: Consistency,
        ignore_local: bool,
        thorough: bool,
        timeout_s: float,
    ) -> GetResult:
        """One owner's value.  Raises NotFound, NotConfirmed, NotBootstrapped."""
        hunt = self._begin(locator, owner, consistency, ignore_local)
        async with self._time_limit(hunt, timeout_s):
            await self._search(hunt, thorough)
        if hunt.walk is not None and not hunt.groups and not hunt.timed_out:
            # Everybody silent at once: it was our own network, or we were out of breath ourselves.
            self._env.counters["lookups_repeated"] += 1
            started = hunt.started
            hunt = self._begin(locator, owner, consistency, ignore_local, last_resort=True)
            hunt.started = started
            async with self._time_limit(hunt, timeout_s):
                await self._search(hunt, thorough)
        slot = hunt.slot_of(owner)
        confirmation = self._confirm(hunt, slot)
        if confirmation.repair and not self._is_final(hunt, confirmation):
            async with self._time_limit(hunt, timeout_s):
                await self._repair(hunt, slot, confirmation)
            confirmation = self._confirm(hunt, slot)
        result = self._outcomes.result(hunt, slot, confirmation)
        self._lookups.settle(hunt.walk)
        return self._outcomes.raise_unless_good(locator, result)

    async def get_all(self, topic: Topic, *, ignore_local: bool, timeout_s: float) -> list[GetResult]:
        """Every owner's value under a topic, tombstones left out, by owner id.

        As storers do, one record per node id and no more than they keep under a key.
        """
        hunt = self._begin(topic, None, "all", ignore_local)
        async with self._time_limit(hunt, timeout_s):
            await self._search(hunt, thorough=True)
            await self._turn_pages(hunt)
        results: list[GetResult] = []
        now = self._env.clock()
        slots = hunt.slots_to_list(
            now // DAY_MS,
            self._env.params.limits.records_per_key,
            lambda node, stake: self._env.contacts.stake_bits(node, stake, now),
        )
        for slot in slots:
            confirmation = self._confirm(hunt, slot)
            if confirmation.repair:
                async with self._time_limit(hunt, timeout_s):
                    await self._repair(hunt, slot, confirmation)
                confirmation = self._confirm(hunt, slot)
            results.append(self._outcomes.result(hunt, slot, confirmation))
        if not results and not hunt.groups:
            alone = hunt.walk is None and not self._env.config.entries
            raise NotBootstrapped(NOBODY_KNOWN if alone else NOBODY_ANSWERED)
        return [r for r in results if r.record is not None and not r.record.is_tombstone]

    # --- one GET, step by step -----------------------------------------------------------------

    def _begin(
        self,
        locator: Locator,
        owner: OwnerId | None,
        consistency: Consistency,
        ignore_local: bool,
        *,
        last_resort: bool = False,
    ) -> Hunt:
        hunt = Hunt(locator, owner, consistency, asyncio.get_running_loop().time())
        if owner is not None:
            # Now: what is stored here while we ask is newer than what others had when they answered.
            seen = self._outcomes.newest_seen(locator.key(), owner)
            hunt.floor = max(seen, self._env.store.floor(locator.key(), owner))
        if not ignore_local:
            for kept in self._keeper.find(locator.key(), owner):
                self._take(hunt, self._env.identity.node_id, to_wire(kept))
            hunt.own = bool(hunt.records)
        try:
            hunt.walk = self._begin_walk(hunt, last_resort=last_resort)
        except NotBootstrapped:
            hunt.walk = None
        return hunt

    def _begin_walk(self, hunt: Hunt, *, paths: int | None = None, last_resort: bool = False) -> Walk:
        """Raises NotBootstrapped."""
        walk = self._lookups.begin(
            hunt.locator.key(),
            lambda query, known: self._question(hunt, query, known),
            lambda answer, path: self._on_answer(hunt, answer, path),
            end=self._env.config.path_end,
            parallel=1 if hunt.ends_at_first else None,
            paths=paths,
            last_resort=last_resort,
        )
        walk.may_gather = not hunt.is_topic_of_all
        if hunt.consistency == "majority" and not hunt.is_topic_of_all:
            walk.missing = lambda due: self._missing(hunt, due)
        return walk

    def _missing(self, hunt: Hunt, due: int) -> int | None:
        """How many besides the answers on their way would make a majority if all confirmed: questions more
        would mostly be wasted.  None where nothing valid was seen yet, or the count says nothing."""
        short = max(self._short(hunt), hunt.answers_to_skip) - due
        if due and short <= 0:
            return 0
        return short if short > 0 and hunt.held else None

    def _short(self, hunt: Hunt) -> int:
        """Confirmations still missing, roughly: by node, whoever holds something confirming it.  The rule
        itself decides what is enough."""
        assert hunt.walk is not None
        holders = len(hunt.held) + len(hunt.claimers())
        empty = len(hunt.groups) - holders
        known = min(self._env.params.k, hunt.walk.lookup.live)
        return (known - empty) // 2 + 1 - holders

    def _question(self, hunt: Hunt, query: Query[VerifiedContact], known: bytes) -> FindValue:
        """The record travels from a few; the others only say which they hold (section 4)."""
        key, owner = hunt.locator.key(), hunt.owner
        if hunt.is_topic_of_all or hunt.ends_at_first or hunt.records:
            return FindValue(key, owner, tuple(hunt.records)[:MAX_HAVE], known=known)
        brief = hunt.records_due >= (1 if self._lookups.is_busy else ASKED_IN_FULL)
        if not brief:
            hunt.in_full.append(NodeId(query.node_id))
        return FindValue(key, owner, known=known, brief=brief)

    def _time_limit(self, hunt: Hunt, timeout_s: float) -> _TimeLimit:
        return _TimeLimit(hunt, hunt.started + timeout_s)

    async def _search(self, hunt: Hunt, thorough: bool) -> None:
        """Walk until the rule holds or every path ended; in any doubt, once more with a higher k'; and
        through the whole region of the key where Sybils are suspected at it."""
        if hunt.walk is None:
            return
        await self._search_paths(hunt, hunt.walk, thorough)
        if not (hunt.ends_at_first and hunt.records):  # there, nothing is claimed that could be out-voted
            await self._search_region(hunt, hunt.walk)
        if not hunt.records:
            await self._search_anew(hunt, hunt.walk)

    async def _search_region(self, hunt: Hunt, walk: Walk) -> None:
        """On a Sybil alarm ask everybody around the key.  A confirmation may be the Sybils' own, and they
        can say that nothing is there."""
        sybils = self._lookups.sybils
        if sybils.widens and walk.is_stopped and sybils.suspicion(walk.lookup) is not None:
            # After an early end not all near nodes may be known: ended properly it may look like chance.
            hunt.is_patient, hunt.decided_on = True, 0
            walk.lookup.raise_end(self._env.config.path_end_doubt)
            await self._drive(hunt, walk)
        finding = sybils.alarm(walk.lookup)
        if finding is not None and sybils.widens:
            hunt.is_patient, hunt.decided_on, hunt.region = True, 0, finding.region_cpl
            await self._lookups.widen(walk, finding)
            await self._drive(hunt, walk)

    async def _search_anew(self, hunt: Hunt, before: Walk) -> None:
        """Nothing valid was seen: once more from the start, over more paths.  Where most of what a node knows
        are colluders, who deny together, four are too few (docs/attack-report.md)."""
        paths = self._env.config.paths_doubt
        is_disjoint = self._env.mode("disjoint_paths") is Mode.ENFORCE
        if not hunt.groups or not is_disjoint or paths <= self._env.config.paths or before.has_asked_all:
            return
        self._env.counters["lookups_anew"] += 1
        walk = hunt.walk = self._begin_walk(hunt, paths=paths)
        walk.go_on_from(before)
        await self._drive(hunt, walk)

    async def _search_paths(self, hunt: Hunt, walk: Walk, thorough: bool) -> None:
        if thorough:
            walk.lookup.raise_end(self._env.config.path_end_doubt)
        await self._drive(hunt, walk)
        if hunt.is_decided or thorough:
            return
        if not self._is_final(hunt, self._confirm(hunt, hunt.slot_of(hunt.owner))):
            self._env.counters["lookups_in_doubt"] += 1
            walk.lookup.raise_end(self._env.config.path_end_doubt)
            await self._drive(hunt, walk)

    async def _drive(self, hunt: Hunt, walk: Walk) -> None:
        await self._lookups.drive(walk)
        while not walk.is_stopped and self._chase(hunt):
            await self._lookups.drive(walk)

    def _chase(self, hunt: Hunt) -> bool:
        """Ask for records that some claim to hold and nobody sent; False where none are left to ask."""
        walk = hunt.walk
        assert walk is not None
        nodes = hunt.to_chase()
        for node in nodes:
            contact = self._contact(hunt, node)
            if contact is not None:
                have = tuple(hunt.records)[:MAX_HAVE]
                question = FindValue(hunt.locator.key(), hunt.owner, have, closer_than=NOBODY)
                self._lookups.ask_further(walk, contact, question, hunt.paths[node])
        return bool(nodes)

    def _on_answer(self, hunt: Hunt, answer: Answer, path: int) -> bool:
        """Take in one signed answer; True once the GET may end early."""
        body = answer.body
        assert isinstance(body, Values)
        node = answer.node_id
        hunt.groups[node] = answer.group
        hunt.paths[node] = path
        self._take_all(hunt, answer, body.records)
        for record_id in body.same:
            hunt.claimed(node, record_id)
        if body.cursor is not None:
            hunt.cursors.append((node, body.cursor))
        if hunt.claims and not hunt.records_due:
            self._chase(hunt)
        return self._may_end(hunt)

    def _may_end(self, hunt: Hunt) -> bool:
        """Whether the rule holds whatever those say who have not answered.

        An answer can add one confirmation and take one from the others, so the last count tells how many
        more it takes at least.
        """
        if hunt.consistency == "all" or hunt.is_topic_of_all or hunt.is_patient or not hunt.records:
            return False
        if hunt.is_decided:
            return True
        hunt.answers_to_skip -= 1
        if hunt.answers_to_skip > 0:
            return False
        if not hunt.ends_at_first and (short := self._short(hunt)) > 0:
            hunt.answers_to_skip = short
            return False
        confirmation = self._confirm(hunt, hunt.slot_of(hunt.owner), early=True)
        hunt.answers_to_skip = (confirmation.holding - 2 * confirmation.confirmations) // 2 + 1
        if self._is_final(hunt, confirmation):
            hunt.decided_on = len(hunt.records)
        return hunt.is_decided

    def _take_all(self, hunt: Hunt, answer: Answer, records: tuple[WireRecord, ...]) -> None:
        """The records of one answer, which speak for whoever sent them or against it."""
        errors = [(e, wire) for wire in records if (e := self._take(hunt, answer.node_id, wire))]
        if errors:
            self._guard.invalid(answer, *errors[0])
        elif records:
            self._guard.valid(answer)

    def _take(self, hunt: Hunt, node: NodeId, wire: WireRecord) -> RecordInvalid | None:
        """Believe a record only after every check; anything else is counted, and never counts.

        Gives back what speaks against the node that sent it.
        """
        try:
            record = hunt.checked.get(wire) or self._check(hunt, wire)
        except RecordInvalid as e:
            hunt.invalid += e.code != WireCode.EXPIRED
            self._env.counters[f"records_disbelieved.{e.code.name}"] += 1
            return None if e.code in BLAMELESS else e
        if node != self._env.identity.node_id:
            self._env.counters["records_fetched_from_others"] += 1
        hunt.saw(node, record)
        return None

    def _check(self, hunt: Hunt, wire: WireRecord) -> Record:
        """The record, if it is a true answer to what was asked.  Raises RecordInvalid."""
        records = self._env.records
        record = records.parse(wire)
        records.check_time(record, self._env.clock())
        if record.kind != hunt.locator.kind or record.key != hunt.locator.key():
            raise RecordInvalid("a record of another key than was asked for")
        if hunt.owner is not None and record.kind != Kind.CONTENT and record.owner_id != hunt.owner:
            raise RecordInvalid("a record of another owner than was asked for")
        records.verify(record)
        hunt.checked[wire] = record
        return record

    def _confirm(self, hunt: Hunt, slot: bytes, *, early: bool = False) -> Confirmation:
        """The rule over S; for an early end, or out of time, with the closest live nodes as pending."""
        own, k = self._env.identity.node_id, self._env.params.k
        unfinished = hunt.claimers() if early or hunt.timed_out else {}
        left_out = self._guard.left_out(hunt.groups) if hunt.walk and not hunt.walk.last_resort else ()
        members = [Member(n, g) for n, g in hunt.groups.items() if n not in unfinished and n not in left_out]
        pending = self._pending(hunt, unfinished) if early or hunt.timed_out else []
        if hunt.own:
            members.append(Member(own, self._env.own_group))
        key, per_group = hunt.locator.key(), self._env.answer_per_group
        electorate = closest_members(key, [*members, *pending], k, per_group, hunt.region)
        waiting = dict.fromkeys(m.node for m in pending)
        others_known = hunt.walk is not None or bool(self._env.config.entries)
        return confirm(
            [m for m in electorate if m.node not in waiting],
            hunt.holdings(slot),
            address_groups=self._env.params.address_groups,
            pending=[m for m in electorate if m.node in waiting],
            receipts=hunt.receipts.get(slot, ()),
            own=own,
            content=hunt.locator.kind == Kind.CONTENT,
            first=hunt.consistency == "first",
            others_known=others_known,
            timed_out=hunt.timed_out,
            saw_invalid=hunt.invalid > 0,
            weight=self._guard.weight,
        )

    def _pending(self, hunt: Hunt, unfinished: dict[NodeId, None]) -> list[Member]:
        """The closest live nodes still to answer: as far out as k may lie, passing over full groups."""
        if hunt.walk is None:
            return []
        k, per_group = self._env.params.k, self._env.answer_per_group
        n = k
        while True:
            found = hunt.walk.lookup.closest_known(n)
            known = [Member(c.node_id, hunt.groups.get(NodeId(c.node_id), c.group)) for c in found]
            if len(known) < n or per_group is None or len(spread(known, per_group)[0]) >= k:
                return [m for m in known if m.node not in hunt.groups or m.node in unfinished]
            n *= 2

    @staticmethod
    def _is_final(hunt: Hunt, confirmation: Confirmation) -> bool:
        """Whether no more need be asked: not where all that was found is older than what was seen here."""
        newest = confirmation.newest
        is_behind = newest is not None and newest.timestamp < hunt.floor
        return confirmation.verdict in (Verdict.CONFIRMED, Verdict.FIRST, Verdict.ALONE) and not is_behind

    async def _turn_pages(self, hunt: Hunt) -> None:
        """Fetch what did not fit into the first page of a crowded topic."""
        assert hunt.walk is not None or not hunt.cursors
        for node_id, cursor in list(hunt.cursors):
            contact = self._contact(hunt, node_id)
            at: bytes | None = cursor
            for _ in range(PAGES_MOST):
                if contact is None or at is None:
                    break
                question = FindValue(hunt.locator.key(), None, cursor=at)
                try:
                    answer = await self._peers.request(contact, question)
                except RemoteError:
                    break
                body = answer.body
                assert isinstance(body, Values)
                self._take_all(hunt, answer, body.records)
                at = body.cursor if body.cursor != at else None

    async def _repair(self, hunt: Hunt, slot: bytes, confirmation: Confirmation) -> None:
        """STORE the newest at the members lacking it; each receipt puts its unit into c and m."""
        newest = confirmation.newest
        assert newest is not None
        record = hunt.record(newest.record_id)
        self._env.counters["repairs"] += 1
        nodes = [NodeId(n) for n in confirmation.repair]
        outcomes = await asyncio.gather(*(self._repair_at(hunt, n, record) for n in nodes))
        receipts = hunt.receipts.setdefault(slot, {})
        receipts.update((n, None) for n, ok in zip(nodes, outcomes, strict=True) if ok)

    async def _repair_at(self, hunt: Hunt, node: NodeId, record: Record) -> bool:
        if node == self._env.identity.node_id:
            receipts = await self._keeper.keep([record.wire], "", replica=True)
            return receipts[0].code == WireCode.OK
        contact = self._contact(hunt, node)
        if contact is None:
            return False
        try:
            answer = await self._peers.request(contact, Store((record.wire,), True))
        except RemoteError:
            return False
        body = answer.body
        assert isinstance(body, Stored)
        skew_ms = self._env.params.limits.clock_skew_ms
        return any(promises(r, record, skew_ms) for r in body.receipts)

    @staticmethod
    def _contact(hunt: Hunt, node: NodeId) -> VerifiedContact | None:
        if hunt.walk is None:
            return None
        return next((a.contact for a in hunt.walk.lookup.answered() if a.node_id == node), None)


class _TimeLimit:
    """Ends the block at `at` (loop seconds) and notes on the hunt that it ran out of time."""

    def __init__(self, hunt: Hunt, at: float) -> None:
        self._hunt = hunt
        self._timeout = asyncio.timeout_at(at)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exc: object) -> bool:
        try:
            await self._timeout.__aexit__(*exc)  # type: ignore[arg-type]
        except TimeoutError:
            self._hunt.timed_out = True
            return True
        return False
