"""What a node does by itself: walk, refresh, probe, replicate, republish, expire, remember.

Each chore is one coroutine run again and again with jitter; none may end the others by failing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial

from ..constants import MAX_PAGE, MAX_STORE_RECORDS, MS
from ..errors import Closed, PqdhtError, RemoteError
from ..identity.contact import VerifiedContact
from ..ids import Key, NodeId, distance, id_in_bucket
from ..kad.lookup import Candidate
from ..storage.base import StoredRecord
from ..trust.eclipse import WalkCheck
from ..trust.events import EventKind
from ..trust.modes import Mode
from ..wire.messages import FindNode, Nodes, Ping, Store
from .environment import Environment, split_bootstrap
from .guard import Guard
from .handlers import to_wire
from .keeper import Keeper
from .lookups import Lookups, Walk
from .peers import Peers
from .publisher import Publisher
from .routing import Routing
from .staking import Staker

log = logging.getLogger("pqdht.maintenance")

YOUNG_S = 1800.0
PROBE_S = 60.0
EXPIRE_S = 60.0
REMEMBER_S = 60.0
RETRY_S = 15.0
RELEASE_S = 30.0
REDRAW_S = 3600.0
WALKS_PER_CHECK = 4
"""Every so many walks one is done twice: from the table, and from elsewhere."""
STRANGERS_LEAST, STRANGERS_MOST = 3, 12
"""Nodes from which the second walk begins."""
STAKE_S = 15.0
REFRESH_ASKED = 2
REFRESH_MET = 4
"""Nodes asked for the refresh of a full bucket, and nodes dialled that they name, each of its own group."""
PEERS_AT_ONCE = 8
"""Peers asked, or given records, at a time: a slow one holds up only its own place, ..."""
GIVE_S = 600.0
"""... and no longer than this many seconds of giving; a round of probes takes `PROBE_S` at most."""
HANDERS = 2
"""Holders that give a newcomer its records: the closest may be dead, and nobody has noticed for minutes."""
KEYS_AT_ONCE = 64
"""Keys looked at in one turn of the event loop, about 2 ms."""

Chore = Callable[[], Awaitable[None]]


class Maintenance:
    """Owns the chores' tasks; `start` and `close` once each."""

    def __init__(
        self,
        env: Environment,
        peers: Peers,
        routing: Routing,
        keeper: Keeper,
        lookups: Lookups,
        publisher: Publisher,
        guard: Guard,
    ) -> None:
        self._env = env
        self._guard = guard
        self._peers = peers
        self._routing = routing
        self._keeper = keeper
        self._lookups = lookups
        self._publisher = publisher
        self._staker = Staker(env, peers.set_stake)
        self._tasks: list[asyncio.Task[None]] = []
        self._walks = WalkCheck(env.threshold("walk_check.overlap"))
        self._handovers: asyncio.Queue[VerifiedContact] = asyncio.Queue(maxsize=256)

    def start(self) -> None:
        """Begin all chores."""
        config = self._env.config
        chores: list[tuple[Chore, Callable[[], float]]] = [
            (self.walk, self._walk_interval),
            (self.refresh, lambda: PROBE_S),
            (self.probe, lambda: PROBE_S),
            (self.redraw, lambda: REDRAW_S),
            (self.release, lambda: RELEASE_S),
            (self.expire, lambda: EXPIRE_S),
            (self.remember, lambda: REMEMBER_S),
            (self.replicate, lambda: config.replicate_interval_s),
            (self._publisher.retry, lambda: RETRY_S),
            (self._publisher.republish, lambda: min(60.0, config.republish_interval_s)),
        ]
        if config.stake_bits:
            chores.append((self._staker.renew, lambda: STAKE_S))
        loop = asyncio.get_running_loop()
        self._started = loop.time()
        self._tasks = [loop.create_task(self._every(chore, interval)) for chore, interval in chores]
        self._tasks += [loop.create_task(self._hand_over_forever()) for _ in range(PEERS_AT_ONCE)]

    async def close(self) -> None:
        """Stop all chores."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _every(self, chore: Chore, interval: Callable[[], float]) -> None:
        while True:
            await asyncio.sleep(interval() * self._env.dice.uniform(0.75, 1.25))
            await self._guarded(chore)

    async def _guarded(self, chore: Chore) -> None:
        name = getattr(chore.func if isinstance(chore, partial) else chore, "__name__", str(chore))
        try:
            await chore()
        except PqdhtError as e:
            self._env.counters[f"chores_failed.{name}"] += 1
            log.info("%s: %s", name, e)
        except Exception:
            self._env.counters[f"chores_failed.{name}"] += 1
            log.exception("%s failed", name)

    # --- the table -----------------------------------------------------------------------------

    def _walk_interval(self) -> float:
        config = self._env.config
        young = asyncio.get_running_loop().time() - self._started < YOUNG_S
        return config.walk_interval_young_s if young else config.walk_interval_s

    async def walk(self) -> None:
        """A lookup of a random id: finds nodes outside our vicinity and feeds the size estimate."""
        self._env.counters["walks"] += 1
        target = self._env.dice.randbytes(32)
        walk = await self._lookups.find(target, end=self._env.config.path_end, is_sample=True)
        if (finding := self._lookups.sybils.look_around()) is not None and self._lookups.sybils.widens:
            around = await self._lookups.find(self._env.identity.node_id, end=self._env.config.path_end_doubt)
            await self._lookups.ask_region(around, finding)  # whoever they crowd out of our sight
        is_turn = self._env.counters["walks"] % WALKS_PER_CHECK == 0
        if is_turn and self._env.mode("walk_check") is not Mode.OFF:
            await self._check_walk(target, walk)

    async def _check_walk(self, target: bytes, ours: Walk) -> None:
        """Do the same walk from outside the table; where the two differ again and again, draw afresh.

        Whoever the second walk met waits in the candidate pool by then, so that a draw lets some of them in.
        """
        strangers = await self._strangers()
        if len(strangers) < STRANGERS_LEAST:
            return
        theirs = await self._lookups.find(target, end=self._env.config.path_end, seeds=strangers)
        k = self._env.params.k
        views = ([c.node_id for c in walk.lookup.closest(k)] for walk in (ours, theirs))
        figures = self._walks.observe(*views)
        if figures is not None:
            self._guard.report(EventKind.ECLIPSE_ALARM, "walk_check", **figures)
            if self._env.mode("walk_check") is Mode.ENFORCE:
                self._routing.table.redraw(asyncio.get_running_loop().time())

    async def _strangers(self) -> list[Candidate[VerifiedContact]]:
        """Nodes that our lookups do not begin at: candidates, and what our operator configured."""
        found = self._routing.pool(STRANGERS_MOST)
        for entry in self._env.config.entries:
            node_id, address = split_bootstrap(entry)
            if node_id != self._env.identity.node_id:
                with contextlib.suppress(RemoteError, Closed):
                    conn = await self._peers.connect_address(NodeId(node_id), address)
                    found.append(Candidate(node_id, self._routing.contact_of(conn), conn.group))
        return found

    async def refresh(self) -> None:
        """Look up a random id in each bucket that nobody looked into for an hour.

        A full bucket, far from us as such are, only needs newcomers to draw from: not worth a lookup.
        """
        now = asyncio.get_running_loop().time()
        own, table = self._env.identity.node_id, self._routing.table
        for cpl in table.buckets_to_refresh(now, self._env.config.refresh_idle_s):
            self._env.counters["refreshes"] += 1
            target = id_in_bucket(own, cpl, self._env.dice.randbytes(32))
            if table.is_bucket_full(cpl):
                await self._meet(target)
            else:
                await self._lookups.find(target, end=self._env.config.path_end)

    async def _meet(self, target: bytes) -> None:
        """Ask the closest to a target whom they know there, and make candidates of some we do not."""
        table = self._routing.table
        table.looked_up(target, asyncio.get_running_loop().time())
        strangers: dict[str, VerifiedContact] = {}
        for entry in self._routing.closest(target, REFRESH_ASKED):
            with contextlib.suppress(RemoteError, Closed):
                answer = await self._peers.request(entry.contact, FindNode(target))
                for found in self._routing.candidates(answer):
                    if found.node_id not in table:
                        strangers.setdefault(found.group, found.contact)
        met = self._env.dice.sample(list(strangers.values()), min(REFRESH_MET, len(strangers)))
        await self._side_by_side([partial(self._introduce, contact) for contact in met], PROBE_S)

    async def _introduce(self, contact: VerifiedContact) -> None:
        await self._probe(contact)
        conn = self._peers.sessions.get(contact.node_id)
        if conn is not None and conn.is_proven:  # it may have been open before: nobody told the table
            self._routing.answered(conn)

    async def probe(self) -> None:
        """Ping whoever in the table was silent for so long that we could not pass it on."""
        self._routing.drop_expired()
        now = asyncio.get_running_loop().time()
        limit = 0.6 * self._env.config.max_table_idle_s
        silent = [e for e in self._routing.table if now - e.last_heard >= limit]
        silent.sort(key=lambda e: (e.failures, e.last_heard))  # who failed before may not hold up others
        await self._side_by_side([partial(self._probe, e.contact) for e in silent], PROBE_S)

    async def _probe(self, contact: VerifiedContact) -> None:
        with contextlib.suppress(RemoteError, Closed):  # the peers' listener has counted it
            await self._peers.request(contact, Ping())

    async def _side_by_side(self, work: Iterable[Chore], most_s: float) -> None:
        """Do all, `PEERS_AT_ONCE` at a time, within `most_s` seconds; what is not done then is left."""
        places = asyncio.Semaphore(PEERS_AT_ONCE)

        async def one(chore: Chore) -> None:
            async with places:
                await chore()

        try:
            async with asyncio.timeout(most_s):
                await asyncio.gather(*map(one, work))
        except TimeoutError:
            self._env.counters["chores_cut_short"] += 1

    async def redraw(self) -> None:
        """Re-draw the half of each bucket that is not held by tenure (section 6)."""
        mode, now = self._env.mode("redraw"), asyncio.get_running_loop().time()
        if mode is Mode.ENFORCE:
            self._routing.table.redraw(now)
        elif mode is Mode.OBSERVE:
            self._env.counters["would_redraw"] += self._routing.table.drawn_anew(now)

    async def release(self) -> None:
        """Ask those whose quarantine is over for something that can be checked; free who answers well.

        Who is not in the table any more is freed as it is: nobody relies on it.
        """
        for node in self._guard.on_probation():
            entry = self._routing.table.get(node)
            if entry is not None:
                with contextlib.suppress(RemoteError, Closed):
                    answer = await self._peers.request(entry.contact, FindNode(self._env.dice.randbytes(32)))
                    told = self._routing.candidates(answer)
                    assert isinstance(answer.body, Nodes)
                    self._guard.probed(node, ok=bool(told) or not answer.body.contacts)
                    continue
            self._guard.probed(node, ok=entry is None)

    async def remember(self) -> None:
        """Keep the table's contacts, and what is thought of them, for the next start."""
        await self._routing.save()
        await self._guard.save()

    # --- records -------------------------------------------------------------------------------

    async def expire(self) -> None:
        """Drop what is past its time."""
        self._env.counters["records_expired"] += self._env.store.expire(self._env.clock())

    async def replicate(self) -> None:
        """Give each record to those of the k closest who may lack it, unless somebody just did."""
        since = self._env.clock() - int(self._env.config.replicate_interval_s * MS * 0.9)
        batches: dict[NodeId, tuple[VerifiedContact, list[StoredRecord]]] = {}
        async for key in self._each_key():
            closest = self._closest(key)
            if closest is None:
                continue
            for record in self._keeper.find(key):
                if self._keeper.was_refreshed(record.record_id, since):
                    continue
                self._keeper.note_refresh(record.record_id)
                for contact in closest:
                    batches.setdefault(contact.node_id, (contact, []))[1].append(record)
        await self._side_by_side([partial(self._give, *batch) for batch in batches.values()], GIVE_S)

    async def _each_key(self) -> AsyncIterator[Key]:
        """Every key held; others get their turn on the event loop in between."""
        for i, key in enumerate(self._keeper.keys()):
            if i % KEYS_AT_ONCE == KEYS_AT_ONCE - 1:
                await asyncio.sleep(0)
            yield key

    def _closest(self, key: bytes) -> list[VerifiedContact] | None:
        """The others among the k closest to a key, None if we are not one of them ourselves."""
        k = self._env.params.k
        found = [e.contact for e in self._routing.closest(key, k)]
        own = distance(self._env.identity.node_id, key)
        if len(found) == k and distance(found[-1].node_id, key) < own:
            return None
        return found[: k - 1]

    def hand_over_to(self, newcomer: VerifiedContact) -> None:
        """A node entered the table: queue it for the records it is now responsible for."""
        if not self._handovers.full():
            self._handovers.put_nowait(newcomer)

    async def _hand_over_forever(self) -> None:
        while True:
            newcomer = await self._handovers.get()
            await self._guarded(partial(self._hand_over, newcomer))

    async def _hand_over(self, newcomer: VerifiedContact) -> None:
        """Only the closest other holders hand over, so that a newcomer is not sent k copies."""
        mine: list[StoredRecord] = []
        async for key in self._each_key():
            closest = self._routing.closest(key, self._env.params.k + 1)
            ids = [e.node_id for e in closest]
            if newcomer.node_id not in ids[: self._env.params.k]:
                continue
            others = [i for i in ids if i != newcomer.node_id]
            own = distance(self._env.identity.node_id, key)
            if len(others) >= HANDERS and distance(others[HANDERS - 1], key) < own:
                continue
            mine.extend(self._keeper.find(key))
        if mine:
            self._env.counters["records_handed_over"] += len(mine)
            await self._side_by_side([partial(self._give, newcomer, mine)], GIVE_S)

    async def _give(self, to: VerifiedContact, records: list[StoredRecord]) -> None:
        """STORE in pages; a refusal (older, full, busy) is the other's right."""
        page: list[StoredRecord] = []
        size = 0
        for record in [*records, None]:
            full = record is None or size + record.size > MAX_PAGE or len(page) == MAX_STORE_RECORDS
            if full and page:
                try:
                    await self._peers.request(to, Store(tuple(map(to_wire, page)), True))
                except (RemoteError, Closed):
                    return
                self._env.counters["records_replicated"] += len(page)
                page, size = [], 0
            if record is not None:
                page.append(record)
                size += record.size
