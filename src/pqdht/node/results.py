"""What `SecureDHT` returns: each answer carries its evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..ids import Key, NodeId, OwnerId, RecordId
from ..kad.quorum import Verdict
from ..records import Locator, Record
from ..wire.address import Address


@dataclass(frozen=True, slots=True)
class Evidence:
    """One node's signed answer, verifiable by anybody who has the node's key."""

    node: NodeId
    group: str
    path: int
    holds: RecordId | None
    """The newest record of this owner that the node sent, None where it sent none."""
    envelope: bytes
    """The answer envelope, byte for byte."""
    request: bytes
    """The request envelope it answers, byte for byte."""
    reputation: float = 0.5
    """What this node thought of the answerer then: what decides between tied versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GetResult:
    """The answer to one GET for one owner.

    `confirmations` of `units` units (address groups, or nodes) that hold any version hold the
    returned one.  `time_s` seconds, `bytes` sent and received for this GET.
    """

    value: bytes | None
    owner: OwnerId | None
    verdict: Verdict
    record: Record | None = None
    confirmations: int = 0
    holders: int = 0
    responders: int = 0
    dissent: tuple[NodeId, ...] = ()
    """Nodes that answered with another version, or with none."""
    groups: int = 0
    paths: int = 0
    queries: int = 0
    repaired: int = 0
    rollback_from: int | None = None
    """Timestamp (ms) of a newer version seen here earlier, which somebody now keeps back."""
    time_s: float = 0.0
    bytes: int = 0
    evidence: tuple[Evidence, ...] = field(default=(), repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON-friendly, without the evidence bytes."""
        record = self.record
        return {
            "value": None if self.value is None else self.value.hex(),
            "owner": self.owner.hex() if self.owner else None,
            "verdict": self.verdict.value,
            "confirmations": self.confirmations,
            "holders": self.holders,
            "responders": self.responders,
            "dissent": [n.hex() for n in self.dissent],
            "groups": self.groups,
            "paths": self.paths,
            "queries": self.queries,
            "repaired": self.repaired,
            "rollback_from": self.rollback_from,
            "time_s": round(self.time_s, 6),
            "bytes": self.bytes,
            "timestamp": record.timestamp if record else None,
            "expires": record.expires if record else None,
            "record_id": record.record_id.hex() if record else None,
        }


@dataclass(frozen=True, slots=True)
class StoreReceipt:
    """What one node said to STORE.

    `code`: OK for a promise; else the refusal, TOO_SHORT (a promise that ends before the record
    does), or UNREACHABLE (no receipt came).
    """

    node: NodeId
    group: str
    code: str
    expires: int
    counts: bool
    """Whether it belongs to the k closest, whose receipts make the quorum."""
    envelope: bytes = field(default=b"", repr=False)
    """The answer envelope, byte for byte: what proves the promise; empty for ourselves."""
    request: bytes = field(default=b"", repr=False)
    """The request envelope it answers, byte for byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PutResult:
    """The answer to one PUT."""

    locator: Locator
    key: Key
    record: Record
    need: int
    confirmed: int
    receipts: tuple[StoreReceipt, ...]
    time_s: float = 0.0
    bytes: int = 0

    def as_dict(self) -> dict[str, Any]:
        """JSON-friendly."""
        return {
            "key": self.key.hex(),
            "record_id": self.record.record_id.hex(),
            "owner": self.record.owner_id.hex(),
            "timestamp": self.record.timestamp,
            "expires": self.record.expires,
            "need": self.need,
            "confirmed": self.confirmed,
            "receipts": [
                {"node": r.node.hex(), "code": r.code, "expires": r.expires, "counts": r.counts}
                for r in self.receipts
            ],
            "time_s": round(self.time_s, 6),
            "bytes": self.bytes,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerInfo:
    """Where a peer is found: its signed peer record, opened."""

    owner: OwnerId
    node_id: NodeId | None
    endpoints: tuple[str, ...]
    wireguard_key: bytes | None
    attributes: dict[str, str]
    result: GetResult

    def as_dict(self) -> dict[str, Any]:
        """JSON-friendly."""
        return {
            "owner": self.owner.hex(),
            "node_id": self.node_id.hex() if self.node_id else None,
            "endpoints": list(self.endpoints),
            "wireguard_key": self.wireguard_key.hex() if self.wireguard_key else None,
            "attributes": self.attributes,
            "result": self.result.as_dict(),
        }


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """A node found by `find_node`, or one in the table."""

    node_id: NodeId
    addresses: tuple[Address, ...]
    group: str
    rtt_s: float | None = None
    reputation: float = 0.5
    """What we think of it: 0.0 to 1.0, 0.5 where nothing is known."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-friendly."""
        return {
            "node_id": self.node_id.hex(),
            "addresses": [str(a) for a in self.addresses],
            "group": self.group,
            "rtt_s": self.rtt_s,
            "reputation": self.reputation,
        }
