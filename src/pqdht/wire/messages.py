"""Every message: one frozen struct each, in the order of the table in section 4.

A body travels as opaque bytes inside the `Envelope`, is hashed and passed on byte for byte as
received, and is decoded by type only by who acts on it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import IntEnum
from typing import Annotated, Any

import msgspec

from ..constants import (
    KNOWN_PREFIX,
    MAX_CONTACTS,
    MAX_FINDS,
    MAX_HAVE,
    MAX_KNOWN,
    MAX_MESSAGE,
    MAX_PRAISED,
    MAX_STORE_RECORDS,
    PROTOCOL_VERSION,
    PROTOCOL_VERSION_MIN,
)
from ..errors import DecodeError
from .codec import U8, U16, U63, Bytes32, Decoder, Struct, encode
from .contact import Contact

U64Bytes = Annotated[bytes, msgspec.Meta(min_length=8, max_length=8)]


class MessageType(IntEnum):
    """Numbers are frozen.  Those without a struct here are reserved: they answer UNSUPPORTED."""

    PING = 1
    PONG = 2
    FIND_NODE = 3
    NODES = 4
    FIND_VALUE = 5
    VALUES = 6
    STORE = 7
    STORED = 8
    CERTIFICATE = 9
    CERTIFICATES = 10
    BOOTSTRAP_LIST = 11
    BOOTSTRAP_NODES = 12
    LOOKUP = 13
    FORWARDED = 14
    REPORT = 15
    REPORTED = 16
    RELAY = 17
    CIRCUIT = 18
    WATCH = 19
    ERROR = 20
    FIND_VALUES = 21
    VALUES_LIST = 22


class Envelope(Struct, frozen=True):
    """What is signed and what identifies it. `signature` is a batch proof, or empty where unsigned."""

    version: U8
    type: U16
    rpc_id: U64Bytes
    sender: Bytes32
    receiver: Bytes32
    request: Bytes32
    sent_at: U63
    binding: Bytes32
    body: Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE)]
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]


class WireRecord(Struct, frozen=True):
    """A record: the signed bytes and the signature over them."""

    tbs: Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE)]
    signature: Annotated[bytes, msgspec.Meta(max_length=8192)]


class Ping(Struct, frozen=True):
    """Are you there?"""


class Pong(Struct, frozen=True):
    """Here I am; `time` is my clock in ms."""

    time: U63


Known = Annotated[bytes, msgspec.Meta(max_length=KNOWN_PREFIX * MAX_KNOWN)]
"""Contacts the asker has: the first `KNOWN_PREFIX` bytes of each id, one after the other."""


class FindNode(Struct, frozen=True):
    """Who is close to `target`?

    `closer_than`: only contacts closer than this distance (32 B, big-endian).  `keys_below`: KEM keys
    only for contacts closer than this distance.  `known`: leave these contacts out.
    """

    target: Bytes32
    closer_than: Bytes32 | None = None
    keys_below: Bytes32 | None = None
    known: Known = b""


Contacts = Annotated[tuple[Contact, ...], msgspec.Meta(max_length=MAX_CONTACTS)]


class Nodes(Struct, frozen=True):
    """The closest live contacts; repeats the target, so that the asker sees its question was asked."""

    target: Bytes32
    contacts: Contacts


class FindValue(Struct, frozen=True):
    """Which records stand under `key` (of one `owner`, or of all)?

    `have`: ids the asker holds already, answered as `same`.  `cursor`: continues a page.  `brief`:
    answer with ids only, another was asked for the records.
    """

    key: Bytes32
    owner: Bytes32 | None = None
    have: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_HAVE)] = ()
    cursor: Bytes32 | None = None
    closer_than: Bytes32 | None = None
    known: Known = b""
    brief: bool = False


class Values(Struct, frozen=True):
    """Records, contacts, and `same`: ids of records that are held here too and are not sent, as the asker
    has them or asked to be brief; `cursor` where more follow."""

    key: Bytes32
    records: Annotated[tuple[WireRecord, ...], msgspec.Meta(max_length=MAX_STORE_RECORDS)]
    same: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_HAVE)]
    contacts: Contacts
    cursor: Bytes32 | None = None


class FindValues(Struct, frozen=True):
    """Several questions in one message, without cursors."""

    questions: Annotated[tuple[FindValue, ...], msgspec.Meta(min_length=1, max_length=MAX_FINDS)]


class ValuesList(Struct, frozen=True):
    """An answer to each, in order; where records do not fit any more, their ids alone (`same`)."""

    answers: Annotated[tuple[Values, ...], msgspec.Meta(min_length=1, max_length=MAX_FINDS)]


class Store(Struct, frozen=True):
    """Keep these, please.

    `replica`: handed on by a storer or a reader rather than written anew, so that compare-and-set
    is not applied; the owner's signature is all the authority there is either way.
    """

    records: Annotated[tuple[WireRecord, ...], msgspec.Meta(min_length=1, max_length=MAX_STORE_RECORDS)]
    replica: bool = False


class Receipt(Struct, frozen=True):
    """One record's fate: `code` is a WireCode; `expires` (ms) is when the storer will drop it."""

    record_id: Bytes32
    code: U16
    expires: U63


class Stored(Struct, frozen=True):
    """A signed promise per record; `time` is the storer's clock in ms (for CLOCK_SKEW)."""

    receipts: Annotated[tuple[Receipt, ...], msgspec.Meta(max_length=MAX_STORE_RECORDS)]
    time: U63


class Evidence(Struct, frozen=True):
    """One signed envelope of the offender's, and what anybody needs to recompute that it breaks `rule`.

    `contact`: the preimages of the offender's id, without addresses and KEM key.  `request`: the question
    that the envelope answers, its signature left out; empty where the envelope is a question itself.
    `place`: which record or contact of the body breaks the rule, counted from 0 through the whole body.
    """

    rule: U8
    contact: Contact
    signing_key: Annotated[bytes, msgspec.Meta(min_length=1, max_length=4096)]
    envelope: Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE)]
    request: Annotated[bytes, msgspec.Meta(max_length=MAX_MESSAGE)] = b""
    place: U16 = 0


class Report(Struct, frozen=True):
    """What I know of others: a proof of an offence, or node ids that I have had good answers from."""

    evidence: Evidence | None = None
    praised: Annotated[tuple[Bytes32, ...], msgspec.Meta(max_length=MAX_PRAISED)] = ()


class Reported(Struct, frozen=True):
    """`code` is a WireCode: OK (taken, or known already), BAD_RECORD (proves nothing), UNSUPPORTED (a rule or
    version not known here), EXPIRED (of an id that is past its time), BUSY (too often)."""

    code: U16


class Error(Struct, frozen=True):
    """No: `code` is a WireCode, `retry_after` in ms, `time` the answerer's clock in ms."""

    code: U16
    retry_after: U63 = 0
    time: U63 = 0


Body = (
    Ping
    | Pong
    | FindNode
    | Nodes
    | FindValue
    | Values
    | FindValues
    | ValuesList
    | Store
    | Stored
    | Report
    | Reported
    | Error
)

_STRUCTS: dict[int, type[Struct]] = {
    MessageType.PING: Ping,
    MessageType.PONG: Pong,
    MessageType.FIND_NODE: FindNode,
    MessageType.NODES: Nodes,
    MessageType.FIND_VALUE: FindValue,
    MessageType.VALUES: Values,
    MessageType.STORE: Store,
    MessageType.STORED: Stored,
    MessageType.REPORT: Report,
    MessageType.REPORTED: Reported,
    MessageType.ERROR: Error,
    MessageType.FIND_VALUES: FindValues,
    MessageType.VALUES_LIST: ValuesList,
}

ANSWERS: dict[int, MessageType] = {
    MessageType.PING: MessageType.PONG,
    MessageType.FIND_NODE: MessageType.NODES,
    MessageType.FIND_VALUE: MessageType.VALUES,
    MessageType.FIND_VALUES: MessageType.VALUES_LIST,
    MessageType.STORE: MessageType.STORED,
    MessageType.REPORT: MessageType.REPORTED,
}
"""Request type -> the type of its answer (ERROR may always stand in)."""

EARLY_TYPES = frozenset({MessageType.PING, MessageType.FIND_NODE, MessageType.FIND_VALUE})
"""Requests that may travel in a handshake message: none of them changes anything."""


class MessageSet:
    """What a node speaks: its envelope versions, and the messages it has a struct for.

    Handed in with the rest of a node's parts, so that a later version is another value of this class
    and two versions live side by side in one test.  Never changed once made.
    """

    __slots__ = ("_decoders", "_numbers", "answers", "early", "versions")

    def __init__(
        self,
        versions: tuple[int, int],
        structs: Mapping[int, type[Struct]],
        answers: Mapping[int, int],
        early: Collection[int],
    ) -> None:
        """`versions`: oldest and newest.  `answers`: request number -> its answer's.  `early`: requests that
        may travel in a handshake message."""
        self.versions = versions
        self.answers = answers
        self.early = early
        self._numbers = {struct: int(number) for number, struct in structs.items()}
        self._decoders: dict[int, Decoder[Any]] = {
            int(number): Decoder(struct, struct.__name__) for number, struct in structs.items()
        }

    def number(self, body: Body) -> int:
        """The number of a body's type."""
        return self._numbers[type(body)]

    def is_known(self, number: int) -> bool:
        """Whether there is a struct for the message number."""
        return number in self._decoders

    def encode(self, body: Body) -> bytes:
        """A body's bytes."""
        return encode(body)

    def decode(self, number: int, body: bytes) -> Body:
        """A body by its type number. Raises DecodeError (unknown numbers too: ask `is_known` first)."""
        try:
            decode = self._decoders[number]
        except KeyError:
            raise DecodeError(f"unknown message type {number}", type=number) from None
        decoded: Body = decode(body)
        return decoded


MESSAGES = MessageSet((PROTOCOL_VERSION_MIN, PROTOCOL_VERSION), _STRUCTS, ANSWERS, EARLY_TYPES)
"""This version's."""

is_known = MESSAGES.is_known
decode_body = MESSAGES.decode


def message_type(body: Body) -> MessageType:
    """The number of a body's type in this version."""
    return MessageType(MESSAGES.number(body))


decode_envelope = Decoder(Envelope, "envelope")
encode_envelope = encode
