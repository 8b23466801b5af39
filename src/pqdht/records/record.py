"""What a record is: its wire form, where it stands, and every rule that needs neither clock nor keys.

tbs       = [version, suite, network_tag, kind, key, owner sig_pk, value, ttl, timestamp, flags, extra]
record    = [tbs, signature by the owner over label || tbs (ctx = label)]
record_id = H(label || tbs), never the signature
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Annotated, ClassVar

import msgspec

from ..constants import MAX_MESSAGE, MAX_NAME, MS, RECORD_VERSION, ParameterSet
from ..crypto import puzzle
from ..crypto.api import Suite
from ..crypto.labels import (
    CONTENT_KEY,
    OWNER_KEY,
    RECORD,
    RECORD_ID,
    TOPIC_KEY,
    TOPIC_NODE,
    VALUE_HASH,
    tagged_hash,
)
from ..errors import BadPuzzle, ConfigError, DecodeError, RecordInvalid, WireCode
from ..identity.contact import claimed_id
from ..identity.keys import NodeIdentity, OwnerIdentity, owner_id_of, public_key_hash
from ..ids import Key, NodeId, OwnerId, RecordId, parse_id, parse_owner_id
from ..wire.codec import U8, U16, U32, Bytes32, Decoder, Struct, encode
from ..wire.contact import Contact
from ..wire.messages import WireRecord

TOMBSTONE = 1
"""Flag: the owner deleted this value; empty, and lives as long as the network allows."""
SEALED = 2
"""Flag: the value is sealed to its recipients (private records); storers keep it like any other."""
KNOWN_FLAGS = TOMBSTONE | SEALED


class Kind(IntEnum):
    """Numbers are frozen.  From CERT on they are reserved: answered UNSUPPORTED and not stored."""

    CONTENT = 1
    OWNER = 2
    TOPIC = 3
    CERT = 4
    CRL = 5
    SUCCESSION = 6
    REVOCATION = 7


# --- wire forms --------------------------------------------------------------------------------

_Timestamp = Annotated[int, msgspec.Meta(ge=0, le=2**62)]
"""ms; bounded so that timestamp + ttl still fits in 63 bits."""
_Key = Annotated[bytes, msgspec.Meta(max_length=4096)]
_Signature = Annotated[bytes, msgspec.Meta(max_length=8192)]


class TopicNode(Struct, frozen=True):
    """The node a topic record is bound to; `signature` covers network, owner id and record key."""

    contact: Contact
    key: _Key
    signature: _Signature


class Extra(Struct, frozen=True):
    """What only some kinds carry: `name` (owner, topic), `previous` record id, `node` (topic)."""

    name: str | None = None
    previous: Bytes32 | None = None
    node: TopicNode | None = None


class _Head(Struct, frozen=True):
    """The part of a tbs that every version keeps."""

    version: U16
    suite: U16
    network_tag: bytes
    kind: U16


class Tbs(Struct, frozen=True):
    """What the owner signs."""

    version: U8
    suite: U8
    network_tag: Bytes32
    kind: U8
    key: Bytes32
    owner: _Key
    value: bytes
    ttl: U32
    timestamp: _Timestamp
    flags: U8
    extra: Extra


_decode_head = Decoder(_Head, "record")
_decode_tbs = Decoder(Tbs, "record")


# --- locators ----------------------------------------------------------------------------------


def _name_fault(name: object) -> str:
    """'' if `name` is 1..64 bytes of UTF-8, else what is wrong with it."""
    if not isinstance(name, str):
        return f"a record name is text (str), got {type(name).__name__}"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "a record name must be valid Unicode"
    return "" if 1 <= size <= MAX_NAME else f"a record name has 1 to {MAX_NAME} bytes of UTF-8, got {size}"


def _check_name(name: str) -> None:
    if fault := _name_fault(name):
        raise ConfigError(fault, name="name")


def _check_value(value: object) -> None:
    if not isinstance(value, bytes):
        hint = "; encode text first: value.encode()" if isinstance(value, str) else ""
        raise ConfigError(f"a value is bytes, got {type(value).__name__}{hint}", name="value")


@dataclass(frozen=True, slots=True)
class Named:
    """`owner`'s value called `name` (1..64 bytes of UTF-8).  Raises ConfigError for a bad id or name."""

    kind: ClassVar[Kind] = Kind.OWNER
    owner: OwnerId
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "owner", parse_owner_id(self.owner))
        _check_name(self.name)

    def key(self) -> Key:
        """H(label, owner_id, name)."""
        return Key(tagged_hash(OWNER_KEY, self.owner, self.name.encode()))


@dataclass(frozen=True, slots=True)
class Topic:
    """Who has anything to say on `name` (1..64 bytes of UTF-8).  Raises ConfigError for a bad name."""

    kind: ClassVar[Kind] = Kind.TOPIC
    name: str

    def __post_init__(self) -> None:
        _check_name(self.name)

    def key(self) -> Key:
        """H(label, name)."""
        return Key(tagged_hash(TOPIC_KEY, self.name.encode()))


@dataclass(frozen=True, slots=True)
class Content:
    """A value by its hash (32 B), which is its key and its confirmation."""

    kind: ClassVar[Kind] = Kind.CONTENT
    hash: bytes

    def __post_init__(self) -> None:
        object.__setattr__(self, "hash", parse_id(self.hash, "content hash"))

    @classmethod
    def of(cls, value: bytes) -> Content:
        """Where `value` is found: H(label, value).  Raises ConfigError unless it is bytes."""
        _check_value(value)
        return cls(tagged_hash(CONTENT_KEY, value))

    def key(self) -> Key:
        return Key(self.hash)


Locator = Named | Topic | Content


# --- the record --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Record:
    """A parsed record: structurally right, not yet verified.  Times in ms, `ttl` in seconds."""

    kind: Kind
    key: Key
    locator: Locator
    owner_key: bytes = field(repr=False)
    owner_id: OwnerId
    value: bytes = field(repr=False)
    ttl: int
    timestamp: int
    flags: int
    previous: RecordId | None
    node: TopicNode | None = field(repr=False)
    node_id: NodeId | None
    """Topic records: the node they are bound to."""
    record_id: RecordId
    wire: WireRecord = field(repr=False)

    @property
    def expires(self) -> int:
        """ms since the epoch."""
        return self.timestamp + self.ttl * MS

    @property
    def is_tombstone(self) -> bool:
        """Whether the owner deleted the value."""
        return bool(self.flags & TOMBSTONE)

    @property
    def name(self) -> str | None:
        """Name of an owner or topic record."""
        return None if isinstance(self.locator, Content) else self.locator.name

    @property
    def size(self) -> int:
        """Bytes of tbs and signature."""
        return len(self.wire.tbs) + len(self.wire.signature)

    @cached_property
    def value_id(self) -> bytes:
        """H(label, flags, value), 32 B: two versions with equal values confirm each other."""
        return tagged_hash(VALUE_HASH, bytes([self.flags]), self.value)


def parse_record(wire: WireRecord, suite: Suite, params: ParameterSet, network_tag: bytes) -> Record:
    """Every rule that needs neither clock nor public-key cryptography.  Raises RecordInvalid.

    Codes: MALFORMED (not a record), UNSUPPORTED (version, kind), TOO_LARGE, else BAD_RECORD.
    """
    tbs = open_tbs(wire.tbs, suite, network_tag)
    _check_bounds(tbs, wire.signature, suite, params)
    owner_id = owner_id_of(tbs.owner)
    locator = _locate(tbs, owner_id)
    if locator.key() != tbs.key:
        raise RecordInvalid("the key is not the one this kind of record must stand under")
    node_id = _check_node(tbs.extra.node, suite, params, network_tag) if tbs.extra.node else None
    previous = tbs.extra.previous
    return Record(
        kind=locator.kind,
        key=Key(tbs.key),
        locator=locator,
        owner_key=tbs.owner,
        owner_id=owner_id,
        value=tbs.value,
        ttl=tbs.ttl,
        timestamp=tbs.timestamp,
        flags=tbs.flags,
        previous=None if previous is None else RecordId(previous),
        node=tbs.extra.node,
        node_id=node_id,
        record_id=RecordId(tagged_hash(RECORD_ID, wire.tbs)),
        wire=wire,
    )


def open_tbs(data: bytes, suite: Suite, network_tag: bytes) -> Tbs:
    """A tbs of this version, network and suite, in its one encoding.  Raises RecordInvalid."""
    if len(data) > MAX_MESSAGE:
        raise RecordInvalid(f"record of {len(data)} bytes, at most {MAX_MESSAGE}", code=WireCode.TOO_LARGE)
    try:
        head = _decode_head(data)
        if head.version != RECORD_VERSION:
            raise RecordInvalid(f"record version {head.version}", code=WireCode.UNSUPPORTED)
        if head.suite != suite.number:
            raise RecordInvalid(f"a record of suite {head.suite}, this network has {suite.number}")
        if head.network_tag != network_tag:
            raise RecordInvalid("a record of another network")
        if head.kind not in (Kind.CONTENT, Kind.OWNER, Kind.TOPIC):
            raise RecordInvalid(f"record kind {head.kind}", code=WireCode.UNSUPPORTED)
        tbs = _decode_tbs(data)
    except DecodeError as e:
        raise RecordInvalid(str(e), code=WireCode.MALFORMED) from None
    if encode(tbs) != data:
        raise RecordInvalid("the record is not in its one encoding", code=WireCode.MALFORMED)
    return tbs


def _check_size(data: bytes, size: int, what: str) -> None:
    if len(data) != size:
        raise RecordInvalid(f"{what} of {len(data)} bytes, must be {size}")


def _check_bounds(tbs: Tbs, signature: bytes, suite: Suite, params: ParameterSet) -> None:
    limits = params.limits
    _check_size(tbs.owner, suite.owner_signer.public_size, "an owner key")
    _check_size(signature, suite.owner_signer.signature_size, "an owner signature")
    if len(tbs.value) > limits.max_value:
        raise RecordInvalid(
            f"value of {len(tbs.value)} bytes, at most {limits.max_value}", code=WireCode.TOO_LARGE
        )
    if not limits.ttl_min_s <= tbs.ttl <= limits.ttl_max_s:
        raise RecordInvalid(f"ttl of {tbs.ttl} s, must be {limits.ttl_min_s} to {limits.ttl_max_s}")
    if tbs.flags & ~KNOWN_FLAGS:
        raise RecordInvalid(f"unknown flags {tbs.flags & ~KNOWN_FLAGS:#x} in record version {tbs.version}")
    if tbs.flags & TOMBSTONE and (
        tbs.kind == Kind.CONTENT or tbs.flags != TOMBSTONE or tbs.value or tbs.ttl != limits.ttl_max_s
    ):
        raise RecordInvalid(f"a tombstone has a name, no value, no other flag and ttl {limits.ttl_max_s} s")


def _locate(tbs: Tbs, owner_id: OwnerId) -> Locator:
    """The locator the record's own fields give; whether its key agrees is for the caller."""
    extra = tbs.extra
    if tbs.kind == Kind.CONTENT:
        if extra != Extra():
            raise RecordInvalid("a content record has no name, predecessor or node")
        return Content.of(tbs.value)
    if extra.name is None:
        raise RecordInvalid("the record has no name")
    if fault := _name_fault(extra.name):
        raise RecordInvalid(fault)
    if (extra.node is not None) != (tbs.kind == Kind.TOPIC):
        raise RecordInvalid("topic records, and no others, name a node")
    return Topic(extra.name) if tbs.kind == Kind.TOPIC else Named(owner_id, extra.name)


def _check_node(node: TopicNode, suite: Suite, params: ParameterSet, network_tag: bytes) -> NodeId:
    contact = node.contact
    if contact.addresses or contact.kem_key is not None:
        raise RecordInvalid("the contact in a topic record has no addresses and no KEM key")
    _check_size(node.key, suite.node_signer.public_size, "a node key")
    _check_size(node.signature, suite.node_signer.signature_size, "a node signature")
    if public_key_hash(node.key) != contact.signing_key_hash:
        raise RecordInvalid("the node key is not the one the node id commits to")
    try:
        puzzle.check_bits(contact.digest, params.puzzle_bits(contact.born))
    except BadPuzzle as e:
        raise RecordInvalid(str(e)) from None
    return claimed_id(network_tag, contact)


def topic_stake(tbs: bytes) -> bytes | None:
    """The stake that a topic record shows, unchecked; None where it shows none.  `tbs` parsed before."""
    node = _decode_tbs(tbs).extra.node
    return node.contact.stake if node is not None else None


def topic_claim(network_tag: bytes, owner_id: OwnerId, key: Key) -> bytes:
    """What the node signs: this owner may speak for me under this key."""
    return b"".join((TOPIC_NODE, network_tag, owner_id, key))


def make_record(
    suite: Suite,
    network_tag: bytes,
    owner: OwnerIdentity,
    locator: Locator,
    value: bytes,
    *,
    ttl: int,
    timestamp: int,
    params: ParameterSet,
    flags: int = 0,
    previous: RecordId | None = None,
    node: NodeIdentity | None = None,
    stake: bytes | None = None,
) -> Record:
    """Sign a value.  `ttl` in seconds, `timestamp` in ms; a topic needs the `node` it is bound to, and shows
    its `stake`.

    Raises ConfigError for what no storer would accept (type, size, ttl, flags, a locator of another owner
    or another value).  A tombstone is value b"", flags TOMBSTONE, ttl `limits.ttl_max_s`.
    """
    _check_value(value)
    key = locator.key()
    proof: TopicNode | None = None
    if isinstance(locator, Topic) and node is not None:
        claim = topic_claim(network_tag, owner.owner_id, key)
        signature = node.signing.sign(claim, TOPIC_NODE)
        proof = TopicNode(node.contact(stake=stake), node.signing.public, signature)
    name = None if isinstance(locator, Content) else locator.name
    try:
        tbs = encode(
            Tbs(
                RECORD_VERSION,
                suite.number,
                network_tag,
                int(locator.kind),
                key,
                owner.public,
                value,
                ttl,
                timestamp,
                flags,
                Extra(name, previous, proof),
            )
        )
        wire = WireRecord(tbs, owner.signing.sign(RECORD + tbs, RECORD))
        return parse_record(wire, suite, params, network_tag)
    except (RecordInvalid, OverflowError) as e:
        raise ConfigError(f"this record would be refused: {e}", name="record") from None
