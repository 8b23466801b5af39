"""Decides which records this node keeps, and promises only what is on disk (section 5).

Every path by which a record enters goes through `Keeper.keep`: STORE from peers, our own PUT,
repair and replication.  A receipt is made only after the commit returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from ..constants import DAY_MS, MS
from ..errors import Closed, RecordInvalid, StorageError, StorageFull, WireCode
from ..identity.contact import VerdictCache
from ..ids import Key
from ..records import Candidate, Kind, Record, topic_order, topic_stake
from ..storage.base import Floor, StoredRecord, Usage
from ..wire.messages import Receipt, WireRecord
from .environment import Environment

NO_OWNER = bytes(32)
"""The owner slot of content records: whoever publishes them, there is one per key."""
SOUND_KEPT = 65_536
"""Stored records known to verify, by 16 bytes each."""
PASSED_ON = "via "
"""Before the group of a fellow holder that passes on a topic record: that has a quota of its own, and is not
one of the group's two places under the topic."""
STAKES_KEPT = 8192


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with one record: `put` where it is to be written."""

    code: WireCode
    expires: int = 0
    put: StoredRecord | None = None
    remove: tuple[tuple[bytes, bytes], ...] = ()
    more: int = 0
    """Records that `put` adds to what is on disk: 0 where it replaces one."""
    growth: int = 0
    """Bytes that it adds."""

    @property
    def is_new(self) -> bool:
        """Whether a record is written that only its owner could make, or the first of its content."""
        return self.put is not None and (self.more > 0 or self.put.kind != Kind.CONTENT)


class Keeper:
    """The only writer of the record store."""

    def __init__(self, env: Environment) -> None:
        self._env = env
        self._limits = env.params.limits
        self._pending: dict[tuple[bytes, bytes], Decision] = {}
        """Accepted, and on its way to the disk."""
        self._refreshed: dict[bytes, int] = {}
        self._sound = VerdictCache(SOUND_KEPT)
        self._stakes: dict[bytes, bytes | None] = {}
        """record id of a topic record -> the stake it shows"""

    # --- reading -------------------------------------------------------------------------------

    def find(self, key: bytes, owner: bytes | None = None) -> list[StoredRecord]:
        """Live records under a key (of one owner id), ascending by record id.

        All that is served, handed on or replicated comes from here, and only what verifies: what we sign
        can be held against us, and disks forget.
        """
        now = self._env.clock()
        found = self._env.store.get(key) if owner is None else self._find_owner(key, owner)
        return [r for r in found if r.expires > now and self._is_sound(r)]

    def _is_sound(self, kept: StoredRecord) -> bool:
        """Whether these very bytes verify, by every rule of today; looked up by a hash where they did."""
        mark = blake2b(
            b"".join((kept.key, kept.owner, kept.record_id, kept.signature, kept.tbs)), digest_size=16
        ).digest()
        known = self._sound.get(mark)
        if known is None:
            known = self._verifies(kept)
            self._sound.put(mark, known)
            self._env.counters["records_damaged"] += not known
        return known

    def _verifies(self, kept: StoredRecord) -> bool:
        records = self._env.records
        try:
            record = records.parse(WireRecord(kept.tbs, kept.signature))
            records.verify(record)
        except RecordInvalid:
            return False
        return (record.key, _slot(record), record.record_id) == (kept.key, kept.owner, kept.record_id)

    def _find_owner(self, key: bytes, owner: bytes) -> list[StoredRecord]:
        return self._env.store.get(key, owner) or self._env.store.get(key, NO_OWNER)

    def keys(self) -> list[Key]:
        """Every key held, ascending."""
        return [Key(k) for k in self._env.store.keys()]

    def was_refreshed(self, record_id: bytes, since_ms: int) -> bool:
        """Whether this very record was placed by somebody who matters since then, see `keep`."""
        return self._refreshed.get(record_id, 0) >= since_ms

    # --- writing -------------------------------------------------------------------------------

    async def keep(
        self,
        wires: Sequence[WireRecord],
        group: str,
        *,
        replica: bool = False,
        is_refresh: Callable[[bytes], bool] = lambda _: False,
        share: float = 1.0,
    ) -> list[Receipt]:
        """Check, decide, commit; one receipt per record, in order.  Never raises for a bad record.

        `share`: times the quota of its address group that the sender may fill.
        `is_refresh(key)`: whether the sender is one who places records for all holders of a key.
        Only then, or if the record is new here, does storing it count as its replication: anybody
        can send back what we hold, and would end its replication by that.
        """
        records: list[Record | None] = []
        decisions: list[Decision] = []
        for wire in wires:
            record, decision = self._judge(wire, _Sender(group, replica, is_refresh, share))
            records.append(record)
            decisions.append(decision)
            if decision.put is not None:
                self._pending[decision.put.key, decision.put.owner] = decision
        await self._commit(decisions)
        receipts: list[Receipt] = []
        for r, d in zip(records, decisions, strict=True):
            receipts.append(Receipt(r.record_id if r is not None else bytes(32), int(d.code), d.expires))
            if r is not None and d.code == WireCode.OK and (d.is_new or is_refresh(r.key)):
                self.note_refresh(r.record_id)
        return receipts

    async def _commit(self, decisions: list[Decision]) -> None:
        now = self._env.clock()
        puts = [d.put for d in decisions if d.put is not None]
        if not puts:
            return
        removes = [pair for d in decisions for pair in d.remove]
        floors = [
            Floor(p.key, p.owner, p.timestamp, now + self._limits.floor_ms)
            for p in puts
            if p.kind != Kind.CONTENT
        ]
        code = WireCode.OK
        try:
            await self._env.store.commit(puts, removes, floors)
        except StorageFull:
            code = WireCode.STORAGE_FULL
        except (StorageError, Closed):
            code = WireCode.INTERNAL
        for put in puts:
            pending = self._pending.get((put.key, put.owner))
            if pending is not None and pending.put is put:
                del self._pending[put.key, put.owner]
        if code != WireCode.OK:
            self._env.counters[f"commits_failed.{code.name}"] += 1
            for i, d in enumerate(decisions):
                if d.put is not None:
                    decisions[i] = Decision(code)
            return
        self._env.counters["records_stored"] += len(puts)

    def _judge(self, wire: WireRecord, sender: _Sender) -> tuple[Record | None, Decision]:
        now = self._env.clock()
        records = self._env.records
        record: Record | None = None
        try:
            record = records.parse(wire)
            records.check_time(record, now)
            records.verify(record)
        except RecordInvalid as e:
            self._env.counters[f"records_refused.{e.code.name}"] += 1
            return record, Decision(e.code)
        try:
            decision = self._decide(record, sender, now)
        except (StorageError, Closed):
            decision = Decision(WireCode.INTERNAL)
        if decision.code != WireCode.OK:
            self._env.counters[f"records_refused.{decision.code.name}"] += 1
        return record, decision

    def note_refresh(self, record_id: bytes) -> None:
        """This record was placed by who gives it to all its holders, or by ourselves."""
        self._refreshed.pop(record_id, None)
        self._refreshed[record_id] = self._env.clock()
        if len(self._refreshed) > 65_536:
            del self._refreshed[next(iter(self._refreshed))]

    def _decide(self, record: Record, sender: _Sender, now: int) -> Decision:
        owner = _slot(record)
        under_way = self._pending.get((record.key, owner))
        pending = under_way.put if under_way is not None else None
        held = pending or next(iter(self._env.store.get(record.key, owner)), None)
        if held is not None and (held.expires <= now or not self._is_sound(held)):
            held = None
        if held is not None and (
            held.record_id == record.record_id
            or (record.kind == Kind.CONTENT and held.expires >= record.expires)
        ):
            # What is still on its way to the disk is written once more: this receipt promises it too.
            return under_way or Decision(WireCode.OK, held.expires)
        if record.kind != Kind.CONTENT and (refusal := self._order(record, owner, held, sender.replica)):
            return Decision(refusal, held.expires if held is not None else 0)
        return self._room(record, owner, sender, held, now)

    def _order(
        self, record: Record, owner: bytes, held: StoredRecord | None, replica: bool
    ) -> WireCode | None:
        """The reason why this version may not follow what is held or remembered; None if it may."""
        floor = max(self._env.store.floor(record.key, owner), held.timestamp if held else 0)
        if record.timestamp < floor:
            return WireCode.OUTDATED
        if held is not None and held.timestamp == record.timestamp:
            self._env.counters["equivocations_seen"] += 1
            if held.record_id < record.record_id:
                return WireCode.EQUIVOCATION
        # Compare-and-set is per storer and best effort: replicas skip it, or a storer that missed one
        # version would refuse every later one.
        is_new = not replica and held is not None and record.previous is not None
        if is_new and held is not None and record.previous != held.record_id:
            return WireCode.CAS_MISMATCH
        return None

    def _room(
        self, record: Record, owner: bytes, sender: _Sender, held: StoredRecord | None, now: int
    ) -> Decision:
        """Quotas per owner, group, key and in all; the place of the version it replaces is free."""
        limits, store, group = self._limits, self._env.store, sender.group_for(record)
        more = 0 if held is not None else 1
        growth = record.size - (held.size if held is not None else 0)
        # Accepted records that are not on disk yet count too, or one STORE of many would pass any quota.
        others = [d for pair, d in self._pending.items() if pair != (record.key, owner)]
        if before := self._pending.get((record.key, owner)):
            more, growth = more + before.more, growth + before.growth
        mine = [d for d in others if d.put is not None and d.put.owner == owner]
        if owner != NO_OWNER and not _fits(
            store.usage_of_owner(owner), mine, more, growth, limits.records_per_owner, limits.bytes_per_owner
        ):
            return Decision(WireCode.QUOTA)
        if group:
            is_mine = held is not None and held.group == group
            mine = [d for d in others if d.put is not None and d.put.group == group]
            more_here, growth_here = (more, growth) if is_mine else (1, record.size)
            used = store.usage_of_group(group)
            most = int(limits.records_per_group * sender.share), int(limits.bytes_per_group * sender.share)
            if not _fits(used, mine, more_here, growth_here, *most):
                return Decision(WireCode.QUOTA)
        if store.usage().bytes + sum(d.growth for d in others) + growth > limits.bytes_total:
            return Decision(WireCode.STORAGE_FULL)
        remove: tuple[tuple[bytes, bytes], ...] = ()
        if record.kind == Kind.TOPIC and held is None:
            loser = self._topic_loser(record, now, group)
            if loser is None:
                return Decision(WireCode.TOPIC_FULL)
            remove = loser
        expires = min(record.expires, now + limits.ttl_max_s * MS)
        put = StoredRecord(
            key=record.key,
            owner=owner,
            record_id=record.record_id,
            kind=int(record.kind),
            timestamp=record.timestamp,
            expires=expires,
            group=group,
            node=record.node_id or b"",
            size=record.size,
            tbs=record.wire.tbs,
            signature=record.wire.signature,
        )
        return Decision(WireCode.OK, expires, put, remove, more, growth)

    def _topic_loser(
        self, record: Record, now: int, group: str = ""
    ) -> tuple[tuple[bytes, bytes], ...] | None:
        """Who makes room under a topic key: () if there is room, None if the newcomer ranks last.

        One record per node id, whoever owns it; when full: two of an address group, then stake, then a
        daily hash.  Never age or reputation.
        """
        kept = {r.owner: r for r in self._env.store.get(record.key)}
        for d in self._pending.values():
            if d.put is not None and d.put.key == record.key:
                for _, gone in d.remove:
                    kept.pop(gone, None)
                kept[d.put.owner] = d.put
        held = [r for r in kept.values() if r.expires > now]
        same_node = [r for r in held if r.node == record.node_id]
        if same_node:
            newest = max(same_node, key=lambda r: r.timestamp)
            if newest.timestamp >= record.timestamp:
                return None
            return tuple((r.key, r.owner) for r in same_node)
        if len(held) < self._limits.records_per_key:
            return ()
        assert record.node_id is not None
        newcomer = self._candidate(
            record.owner_id, record.node_id, group, record.record_id, record.wire.tbs, now
        )
        rivals = [self._candidate(r.owner, r.node, r.group, r.record_id, r.tbs, now) for r in held]
        last = topic_order(record.key, now // DAY_MS, [newcomer, *rivals])[-1]
        return None if last is newcomer else ((record.key, last.owner),)

    def _candidate(
        self, owner: bytes, node: bytes, group: str, record_id: bytes, tbs: bytes, now: int
    ) -> Candidate:
        if record_id not in self._stakes:
            if len(self._stakes) >= STAKES_KEPT:
                del self._stakes[next(iter(self._stakes))]
            self._stakes[record_id] = topic_stake(tbs)
        bits = self._env.contacts.stake_bits(node, self._stakes[record_id], now)
        counts = self._env.params.address_groups and not group.startswith(PASSED_ON)
        return Candidate(owner, node, group if counts else "", bits)


@dataclass(frozen=True, slots=True)
class _Sender:
    """Who brings records."""

    group: str
    replica: bool
    is_refresh: Callable[[bytes], bool]
    share: float

    def group_for(self, record: Record) -> str:
        """Whose quota a record counts against."""
        is_passed_on = record.kind == Kind.TOPIC and self.replica and self.is_refresh(record.key)
        return PASSED_ON + self.group if is_passed_on and self.group else self.group


def _slot(record: Record) -> bytes:
    """Who competes with whom under a key."""
    return NO_OWNER if record.kind == Kind.CONTENT else bytes(record.owner_id)


def promises(receipt: Receipt, record: Record, skew_ms: int) -> bool:
    """Whether a receipt says that this record will be kept until it expires, but for clocks."""
    kept = receipt.expires >= record.expires - skew_ms
    return receipt.record_id == record.record_id and receipt.code == WireCode.OK and kept


def _fits(used: Usage, mine: list[Decision], more: int, growth: int, records: int, size: int) -> bool:
    """Whether `more` records and `growth` bytes stay within a quota, after `mine` which are under way."""
    return (
        used.records + sum(d.more for d in mine) + more <= records
        and used.bytes + sum(d.growth for d in mine) + growth <= size
    )
