"""PUT: make a record, place it, count the receipts; and keep one's own records alive (section 5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine
from dataclasses import replace
from typing import Any

from ..constants import MS
from ..errors import (
    Closed,
    DecodeError,
    NotBootstrapped,
    PeerError,
    PqdhtError,
    QuorumNotReached,
    RecordInvalid,
    Refused,
    RemoteError,
    WireCode,
)
from ..identity.contact import VerifiedContact
from ..identity.keys import OwnerIdentity
from ..ids import ID_BITS, Key, RecordId, distance
from ..kad.quorum import Member, PutTally, closest_members
from ..records import Kind, Locator, Record, Topic, make_record
from ..trust.modes import Mode
from ..wire.codec import encode
from ..wire.messages import FindValue, Store, Stored
from .environment import Environment
from .exchange import Answer
from .gathering import Gathering
from .guard import Guard
from .keeper import Keeper, promises
from .lookups import Lookups, Walk
from .publication import FINAL, STATE, Journal, Placement, Publication, decode_journal
from .results import PutResult, StoreReceipt
from .routing import Routing

log = logging.getLogger("pqdht.publisher")

WIDE_SHARE = 4
"""Beyond the k closest, a record goes to the k / 4 closest of every path (5 where k is 20), to about k
more over 4 paths.  A fixed 5 would store everything everywhere where k and the network are small."""
UNREACHED = "UNREACHABLE"
TOO_SHORT = "TOO_SHORT"
"""Code OK, but it would be dropped before the record expires."""
YOUNG_S = 600.0
"""A node up for less does not know its surroundings well yet: what it places then it places once more."""


class Publisher:
    """Everything this node's owners write."""

    def __init__(
        self,
        env: Environment,
        gathering: Gathering,
        routing: Routing,
        keeper: Keeper,
        lookups: Lookups,
        guard: Guard,
    ) -> None:
        self._env = env
        self._guard = guard
        self._gathering = gathering
        self._routing = routing
        self._keeper = keeper
        self._lookups = lookups
        self._owners: dict[bytes, OwnerIdentity] = {env.owner.owner_id: env.owner}
        self._own: dict[tuple[bytes, bytes], Publication] = {}
        self._background: dict[asyncio.Task[None], None] = {}
        self._started = asyncio.get_running_loop().time()

    # --- making records ------------------------------------------------------------------------

    async def put(
        self,
        locator: Locator,
        value: bytes,
        *,
        owner: OwnerIdentity,
        ttl_s: int,
        flags: int = 0,
        previous: bytes | None = None,
        renew: bool = False,
    ) -> PutResult:
        """Sign a new version and place it.  Raises RecordInvalid, QuorumNotReached, NotBootstrapped."""
        publication = await self._sign(locator, value, owner, ttl_s, flags, previous, renew)
        return await self.place(publication)

    async def _sign(
        self,
        locator: Locator,
        value: bytes,
        owner: OwnerIdentity,
        ttl_s: int,
        flags: int,
        previous: bytes | None,
        renew: bool,
    ) -> Publication:
        self._owners[owner.owner_id] = owner
        slot = (bytes(locator.key()), bytes(owner.owner_id))
        last = self._own.get(slot) or self._journalled(self._name(*slot))
        now = self._env.clock()
        timestamp = now if last is None else max(now, last.record.timestamp + 1, last.last + 1)
        lasting = ttl_s
        if last is not None and last.record.expires > timestamp + ttl_s * MS:
            # A new version must not expire before what it replaces, or the old one would return.
            needed = -(-(last.record.expires - timestamp) // MS)
            lasting = max(lasting, min(needed, self._env.params.limits.ttl_max_s))
        record = make_record(
            self._env.suite,
            self._env.network_tag,
            owner,
            locator,
            value,
            ttl=lasting,
            timestamp=timestamp,
            flags=flags,
            previous=RecordId(previous) if previous is not None else None,
            node=self._env.identity if isinstance(locator, Topic) else None,
            stake=self._env.stake,
            params=self._env.params,
        )
        publication = Publication(record, owner, ttl_s, renew, replaced=last)
        self._own[slot] = publication
        try:
            await self._save(publication)
        except BaseException:
            if self._own[slot] is publication:  # never sent, so its timestamp is free
                del self._own[slot]
                if last is not None:
                    self._own[slot] = last
            raise
        return publication

    # --- placing -------------------------------------------------------------------------------

    async def place(self, publication: Publication) -> PutResult:
        """Store at the k closest live nodes, the k / 4 closest of every path, every peer met within W, and on
        a Sybil alarm in the key's whole region; done when `need` of the k closest signed a receipt."""
        started = asyncio.get_running_loop().time()
        record = publication.record
        try:
            self._env.records.verify(record)  # the journal's disk may have forgotten something
        except RecordInvalid:
            self._env.counters["publications_damaged"] += 1
            publication.is_refused, publication.confirmed = True, False
            raise
        whose = None if record.kind == Kind.CONTENT else record.owner_id
        try:
            # FIND_NODE would do too, but these are gathered where many PUTs are under way.
            walk: Walk | None = await self._lookups.find(
                record.key,
                end=self._env.config.path_end_doubt,
                make=lambda _, known: FindValue(record.key, whose, known=known, brief=True),
            )
        except NotBootstrapped:
            if self._env.config.entries:
                raise
            walk = None  # the first node of a network stands alone
        placement = self._plan(record, walk, await self._lookups.search_region(walk) if walk else None)
        placement.is_superseded = lambda: not self._is_current(publication)
        await self._keep_own(placement)
        for contact, group, counts in placement.targets:
            self._spawn(self._store_at(placement, contact, group, counts))
        if placement.waiting > 0 and not placement.tally.reached:
            try:
                async with asyncio.timeout(self._env.config.lookup_timeout_s):
                    await placement.reached.wait()
            except TimeoutError:
                pass  # the tally says what is missing
        result = self._result(publication, placement, walk, started)
        if placement.is_refused:
            await self._withdraw(publication, result)
        if not placement.tally.reached:
            publication.confirmed = False
            publication.put_off(asyncio.get_running_loop().time())
            skewed = sum(r.code == WireCode.CLOCK_SKEW.name for r in result.receipts)
            hint = "; storers say this clock is ahead: set it right" if skewed >= result.need else ""
            hint += "; they come from too few address groups" if result.confirmed >= result.need else ""
            raise QuorumNotReached(
                f"{result.confirmed} of {result.need} needed receipts; the record is queued and is"
                f" retried by itself while this node runs{hint}",
                result=result,
                need=result.need,
                confirmed=result.confirmed,
            )
        publication.confirmed, publication.replaced, publication.tries = True, None, 0
        publication.is_placed_young = not publication.placed_at and started - self._started < YOUNG_S
        publication.placed_at = self._env.clock()
        await self._save(publication)
        return result

    async def _withdraw(self, publication: Publication, result: PutResult) -> None:
        """So many refused for good that no quorum can come: take it out of the queue. Raises Refused."""
        publication.is_refused, publication.confirmed = True, False
        before, slot = publication.replaced, self._slot(publication)
        if self._own.get(slot) is publication and before is not None and not before.is_refused:
            before.last = publication.record.timestamp
            publication = self._own[slot] = before
        await self._save(publication)
        codes = sorted({r.code for r in result.receipts if r.code in FINAL})
        stands = WireCode.CAS_MISMATCH.name in codes or WireCode.OUTDATED.name in codes
        remedy = "another version stands there: get it and decide again" if stands else "it cannot be stored"
        said = ", ".join(codes)
        raise Refused(f"storers refuse this record ({said}); {remedy}", result=result, codes=codes)

    def _is_current(self, publication: Publication) -> bool:
        """Whether no newer version of ours took its place meanwhile."""
        return self._own.get(self._slot(publication)) is publication

    @staticmethod
    def _slot(publication: Publication) -> tuple[bytes, bytes]:
        return bytes(publication.record.key), bytes(publication.record.owner_id)

    def _plan(self, record: Record, walk: Walk | None, region_cpl: int | None = None) -> Placement:
        env, own = self._env, self._env.identity.node_id
        k = env.params.k
        answered = walk.lookup.answered() if walk is not None else []
        left_out = self._guard.left_out([c.node_id for c in answered])
        answered = [c for c in answered if c.node_id not in left_out]
        groups = {c.node_id: walk.answers[c.node_id].group for c in answered} if walk is not None else {}
        near = [Member(n, g) for n, g in groups.items()]
        if env.addresses or walk is None:  # nobody could ever read it from a node without an address
            near.append(Member(own, env.own_group))
        closest = closest_members(record.key, near, k, env.answer_per_group)
        members = dict(closest)
        wide = walk.lookup.closest_on_every_path(-(-k // WIDE_SHARE)) if walk is not None else []
        chosen = dict.fromkeys([*members, *(c.node_id for c in wide)])
        # After an alarm receipts of the k closest may all be lies: what is beyond them decides.
        radius = (1 << ID_BITS - region_cpl) - 1 if region_cpl is not None else 0
        if env.mode("region") is Mode.ENFORCE:
            radius = max(radius, self._routing.sizes.region(asyncio.get_running_loop().time()) or 0)
        placement = Placement(record, PutTally(closest, k, env.params.address_groups))
        placement.targets = [
            (c.contact, groups[c.node_id], c.node_id in members)
            for c in answered
            if c.node_id in chosen or distance(c.node_id, record.key) <= radius
        ]
        placement.waiting = len(placement.targets) + (1 if own in members else 0)
        return placement

    async def _keep_own(self, placement: Placement) -> None:
        own = self._env.identity.node_id
        if own not in placement.tally.members:
            return
        (receipt,) = await self._keeper.keep([placement.record.wire], "", is_refresh=lambda _: True)
        code = WireCode(receipt.code).name
        placement.add(StoreReceipt(own, self._env.own_group, code, receipt.expires, True))

    async def _store_at(self, placement: Placement, to: VerifiedContact, group: str, counts: bool) -> None:
        said = StoreReceipt(to.node_id, group, UNREACHED, 0, counts)
        try:
            # Longer than a question's: the other side writes to its disk, and nobody waits for the slowest.
            limit_s = self._env.config.request_timeout_s
            answer = await self._gathering.request(to, Store((placement.record.wire,)), limit_s)
            placement.bytes += answer.bytes
            said = self._read(placement.record, answer, said)
        except PeerError as e:
            if e.code != WireCode.OK:  # an ERROR that says OK is no receipt
                said = replace(said, code=e.code.name)
        except RemoteError:
            pass
        finally:  # also where this node is closed meanwhile
            placement.add(said)

    def _read(self, record: Record, answer: Answer, said: StoreReceipt) -> StoreReceipt:
        """The receipt for our record in a STORED, with what proves it; as it was if there is none."""
        body = answer.body
        assert isinstance(body, Stored)
        receipt = next((r for r in body.receipts if r.record_id == record.record_id), None)
        if receipt is None:
            return said
        code = code_name(receipt.code)
        if code == WireCode.OK.name and not promises(receipt, record, self._env.params.limits.clock_skew_ms):
            code = TOO_SHORT
        return replace(
            said, code=code, expires=receipt.expires, envelope=answer.envelope, request=answer.request
        )

    def _result(
        self, publication: Publication, placement: Placement, walk: Walk | None, started: float
    ) -> PutResult:
        return PutResult(
            locator=publication.record.locator,
            key=Key(publication.record.key),
            record=publication.record,
            need=placement.tally.need,
            confirmed=placement.tally.confirmed,
            receipts=tuple(placement.receipts),
            time_s=asyncio.get_running_loop().time() - started,
            bytes=placement.bytes + (walk.bytes if walk is not None else 0),
        )

    # --- keeping alive -------------------------------------------------------------------------

    async def retry(self) -> None:
        """Place again what has not reached its quorum."""
        for publication in list(self._own.values()):
            is_done = publication.confirmed or publication.is_refused
            is_due = not is_done and publication.record.expires > self._env.clock()
            is_due = is_due and publication.retry_at <= asyncio.get_running_loop().time()
            if is_due and self._is_current(publication):
                self._env.counters["puts_retried"] += 1
                await self._one_of_many(self.place(publication))

    async def republish(self) -> None:
        """Place again what was placed long ago; renew announcements at half their life."""
        for slot, publication in list(self._own.items()):
            if self._is_current(publication):
                await self._one_of_many(self._refresh(slot, publication))

    async def _one_of_many(self, work: Awaitable[object]) -> None:
        """What befalls one record does not hold up those behind it, unless it befalls all.

        Raises NotBootstrapped and Closed.
        """
        try:
            await work
        except QuorumNotReached:
            pass  # queued; `retry` goes on with it
        except (NotBootstrapped, Closed):
            raise
        except PqdhtError as e:
            self._env.counters["puts_failed"] += 1
            log.warning("an own record could not be placed again: %s", e)

    async def _refresh(self, slot: tuple[bytes, bytes], publication: Publication) -> None:
        now, record = self._env.clock(), publication.record
        usual = self._env.config.republish_interval_s
        if publication.renew and now >= record.timestamp + publication.ttl_s * MS // 2:
            owner, ttl_s = publication.owner, publication.ttl_s
            await self.put(record.locator, record.value, owner=owner, ttl_s=ttl_s, renew=True)
        elif record.expires <= now:
            await self._forget(slot, publication)
        elif publication.confirmed and now - publication.placed_at >= publication.interval_ms(usual):
            self._env.counters["records_republished"] += 1
            await self.place(publication)

    def last(self, locator: Locator, owner: bytes) -> Record | None:
        """The last version this node wrote there, None if never (or long expired)."""
        publication = self._own.get((bytes(locator.key()), owner))
        return publication.record if publication is not None else None

    # --- the journal ---------------------------------------------------------------------------

    async def _save(self, publication: Publication) -> None:
        """Write it to the journal, unless a newer version is there."""
        if not self._is_current(publication):
            return
        record = publication.record
        journal = Journal(
            record.wire,
            publication.ttl_s,
            publication.renew,
            publication.confirmed,
            publication.is_refused,
            publication.last,
        )
        await self._env.store.save_state(self._name(record.key, record.owner_id), encode(journal))

    async def _forget(self, slot: tuple[bytes, bytes], publication: Publication) -> None:
        """After the floor's time nobody remembers the timestamp, so we need not either."""
        if publication.record.expires + self._env.params.limits.floor_ms <= self._env.clock():
            del self._own[slot]
            await self._env.store.save_state(self._name(*slot), b"")

    @staticmethod
    def _name(key: bytes, owner: bytes) -> str:
        return f"{STATE}{key.hex()}/{owner.hex()}"

    def load(self) -> None:
        """Take up the own records of an earlier run; those of owners not held now stay on disk."""
        for name in self._env.store.list_states(STATE):
            publication = self._journalled(name)
            if publication is not None:
                record = publication.record
                self._own[bytes(record.key), bytes(record.owner_id)] = publication

    def _journalled(self, name: str) -> Publication | None:
        """What the journal says of one slot, None where it says nothing or its owner is not held."""
        blob = self._env.store.load_state(name)
        if not blob:
            return None
        try:
            journal = decode_journal(blob)
            record = self._env.records.parse(journal.record)
        except (DecodeError, RecordInvalid):
            self._env.counters["publications_damaged"] += 1
            return None
        owner = self._owners.get(record.owner_id)
        if owner is None:
            return None
        return Publication(
            record,
            owner,
            journal.ttl_s,
            journal.renew,
            journal.confirmed,
            is_refused=journal.is_refused,
            last=journal.last,
        )

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._background[task] = None
        task.add_done_callback(lambda t: self._background.pop(t, None))

    async def close(self) -> None:
        """Let the STOREs under way finish, for two seconds at most."""
        if self._background:
            await asyncio.wait(list(self._background), timeout=2.0)
        for task in list(self._background):
            task.cancel()


def code_name(code: int) -> str:
    """The name of a wire code, also of one from a newer version."""
    return WireCode(code).name if code in WireCode._value2member_map_ else f"CODE_{code}"
