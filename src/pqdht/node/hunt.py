"""What one GET has seen so far: every valid record, and who holds which."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ..config import Consistency
from ..ids import NodeId, OwnerId
from ..kad.quorum import Holding, Version
from ..records import Kind, Locator, Record, topic_rank
from ..wire.messages import WireRecord
from .lookups import Walk


@dataclass(slots=True)
class Hunt:
    """One GET under way.  A *slot* is who competes with whom: an owner with itself, content with all."""

    locator: Locator
    owner: OwnerId | None
    consistency: Consistency
    started: float
    records: dict[bytes, Record] = field(default_factory=dict)
    """record id -> valid record"""
    checked: dict[WireRecord, Record] = field(default_factory=dict)
    """Valid records by their bytes: many nodes send the same ones."""
    held: dict[NodeId, dict[bytes, Record]] = field(default_factory=dict)
    """node -> record id -> record"""
    groups: dict[NodeId, str] = field(default_factory=dict)
    """node -> address group, of all that answered"""
    paths: dict[NodeId, int] = field(default_factory=dict)
    receipts: dict[bytes, dict[NodeId, None]] = field(default_factory=dict)
    """slot -> nodes that signed a receipt in the repair round"""
    claims: dict[bytes, dict[NodeId, None]] = field(default_factory=dict)
    """record id -> who says it holds this record, which nobody has sent yet"""
    in_full: list[NodeId] = field(default_factory=list)
    """Who was asked for records rather than ids."""
    chased: dict[NodeId, None] = field(default_factory=dict)
    """Who was asked to send what it claims to hold."""
    answers_to_skip: int = 0
    """Answers that cannot yet confirm anything, going by the last count."""
    decided_on: int = 0
    """How many records were known when the rule held."""
    cursors: list[tuple[NodeId, bytes]] = field(default_factory=list)
    floor: int = 0
    """The highest timestamp stored or seen here when the GET began, where one owner's value is asked for."""
    own: bool = False
    """Whether this node held a copy before the GET."""
    invalid: int = 0
    timed_out: bool = False
    is_patient: bool = False
    """No early end: the nodes around the key are suspect."""
    region: int | None = None
    """After a Sybil alarm: every node that shares so many bits with the key is of the electorate."""
    walk: Walk | None = None

    @property
    def is_topic_of_all(self) -> bool:
        """A topic asked for without an owner: nobody's answer ends it."""
        return self.locator.kind == Kind.TOPIC and self.owner is None

    @property
    def ends_at_first(self) -> bool:
        """Whether one valid record is enough."""
        return self.locator.kind == Kind.CONTENT or self.consistency == "first"

    @property
    def is_decided(self) -> bool:
        """Whether the rule held, and no other record came since."""
        return 0 < self.decided_on == len(self.records)

    def slot_of(self, owner: OwnerId | None) -> bytes:
        """The slot a caller asks about; of a topic without an owner the first."""
        if self.locator.kind == Kind.CONTENT:
            return b""
        return bytes(owner) if owner is not None else next(iter(self.slots()), b"")

    def slots(self) -> list[bytes]:
        """Every slot with a record, ascending."""
        return sorted({self._slot(r) for r in self.records.values()})

    def slots_to_list(
        self, day: int, most: int, stake_bits: Callable[[bytes, bytes | None], int] = lambda node, stake: 0
    ) -> list[bytes]:
        """Of a topic: per node id the slot it wrote last, and of those the `most` best ranked; ascending.

        `stake_bits(node id, stake)`.  Who wrote from which address group only storers know.
        A node id costs a puzzle and an owner costs nothing, so one node may not fill the list.
        """
        newest: dict[bytes, Record] = {}
        for record in self.records.values():
            newest[record.owner_id] = max(newest.get(record.owner_id, record), record, key=_age)
        written: dict[bytes, Record] = {}
        for record in newest.values():
            node = bytes(record.node_id or record.owner_id)
            written[node] = max(written.get(node, record), record, key=_age)

        def rank(node: bytes) -> tuple[int, bytes]:
            proof = written[node].node
            bits = stake_bits(node, proof.contact.stake) if proof is not None else 0
            return topic_rank(self.locator.key(), node, day, bits)

        best = sorted(written, key=rank)[:most]
        return sorted(self._slot(written[node]) for node in best)

    @staticmethod
    def _slot(record: Record) -> bytes:
        return b"" if record.kind == Kind.CONTENT else bytes(record.owner_id)

    def record(self, record_id: bytes) -> Record:
        """A record seen in this GET."""
        return self.records[record_id]

    def saw(self, node: NodeId, record: Record) -> None:
        """A node sent a valid record: all who claimed to hold it do."""
        record_id = bytes(record.record_id)
        if record_id not in self.records:
            self.records[record_id] = record
            self.answers_to_skip = 0
        for holder in (node, *self.claims.pop(record_id, ())):
            self.held.setdefault(holder, {})[record_id] = record

    def claimed(self, node: NodeId, record_id: bytes) -> None:
        """A node says that it holds a record.  It counts once the record itself was seen and is valid."""
        record = self.records.get(record_id)
        if record is not None:
            self.saw(node, record)
        else:
            self.claims.setdefault(record_id, {})[node] = None

    @property
    def records_due(self) -> int:
        """How many were asked for records and are not late with them."""
        return sum(self.walk.lookup.is_due(node) for node in self.in_full) if self.walk is not None else 0

    def claimers(self) -> dict[NodeId, None]:
        """Who claims to hold something that was not seen yet: their answers are not complete."""
        return {node: None for nodes in self.claims.values() for node in nodes}

    def to_chase(self) -> list[NodeId]:
        """Whom to ask for the records nobody sent: one claimer of each, then all the others at once."""
        chosen: dict[NodeId, None] = {}
        for nodes in self.claims.values():
            left = [n for n in nodes if n not in self.chased]
            is_first = len(left) == len(nodes)
            chosen |= dict.fromkeys(left[:1] if is_first else left)
        self.chased |= chosen
        return list(chosen)

    def holdings(self, slot: bytes) -> list[Holding]:
        """Who holds which version in a slot."""
        return [
            Holding(node, Version(r.timestamp, bytes(r.record_id), r.value_id))
            for node, records in self.held.items()
            for r in records.values()
            if self._slot(r) == slot
        ]

    def newest_of(self, node: NodeId, slot: bytes) -> Record | None:
        """The newest version a node sent in a slot."""
        mine = [r for r in self.held.get(node, {}).values() if self._slot(r) == slot]
        return max(mine, key=lambda r: r.timestamp, default=None)


def _age(record: Record) -> tuple[int, bytes]:
    return record.timestamp, record.record_id
