"""The size of every message, pinned: a byte more on the wire is a decision, not an accident.

`SAMPLES` are messages as they really travel (suite 1, millisecond times, day numbers of this decade);
`SIZES` says how many bytes each takes.  docs/protocol.md carries the same numbers under the same names.
"""

from __future__ import annotations

from pqdht.constants import MAX_PRAISED, MAX_STORE_RECORDS
from pqdht.wire.codec import Struct, encode
from pqdht.wire.contact import Contact
from pqdht.wire.messages import (
    Envelope,
    Error,
    Evidence,
    FindNode,
    FindValue,
    FindValues,
    MessageType,
    Nodes,
    Ping,
    Pong,
    Receipt,
    Report,
    Reported,
    Store,
    Stored,
    Values,
    ValuesList,
    WireRecord,
)

ID = bytes(range(32))
NOW_MS = 1_790_000_000_000
XWING_KEY = 1216
ML_DSA_65_PROOF = 32 + 2 + 2 + 32 + 3309
"""A batch of one: tree id, N, index, r, no path, the root signature."""
ML_DSA_87_SIGNATURE = 4627

CONTACT = Contact(ID, ID, 20_717, bytes(8), ID, ("tcp/203.0.113.5:4733",))
KEYED_CONTACT = Contact(ID, ID, 20_717, bytes(8), ID, ("tcp/203.0.113.5:4733",), bytes(XWING_KEY))
RECORD = WireRecord(bytes(3000), bytes(ML_DSA_87_SIGNATURE))
RECEIPT = Receipt(ID, 0, NOW_MS)


def envelope(body: bytes, signature: bytes) -> Envelope:
    """An envelope of this decade around a body."""
    return Envelope(1, MessageType.PING, bytes(8), ID, ID, bytes(32), NOW_MS, bytes(32), body, signature)


SAMPLES: dict[str, Struct] = {
    "contact": CONTACT,
    "contact with KEM key": KEYED_CONTACT,
    "record of 3000 B": RECORD,
    "receipt": RECEIPT,
    "envelope, unsigned, empty body": envelope(b"", b""),
    "envelope, signed, empty body": envelope(b"", bytes(ML_DSA_65_PROOF)),
    "PING": Ping(),
    "PONG": Pong(NOW_MS),
    "FIND_NODE": FindNode(ID),
    "FIND_NODE, 24 known": FindNode(ID, known=bytes(96)),
    "FIND_NODE, both bounds": FindNode(ID, ID, ID),
    "NODES, none": Nodes(ID, ()),
    "NODES, 20 contacts, 2 keys": Nodes(ID, (KEYED_CONTACT,) * 2 + (CONTACT,) * 18),
    "FIND_VALUE": FindValue(ID),
    "FIND_VALUE, of one owner, one held": FindValue(ID, ID, (ID,), ID, ID),
    "VALUES, none": Values(ID, (), (), ()),
    "VALUES, one record": Values(ID, (RECORD,), (), ()),
    "VALUES, one same, 20 contacts": Values(ID, (), (ID,), (CONTACT,) * 20, ID),
    "FIND_VALUES, 16 of one owner, 24 known": FindValues((FindValue(ID, ID, known=bytes(96)),) * 16),
    "VALUES_LIST, 16 held, one sent": ValuesList(
        (Values(ID, (), (ID,), ()),) * 15 + (Values(ID, (RECORD,), (), ()),)
    ),
    "STORE, one record": Store((RECORD,)),
    "STORED, one receipt": Stored((RECEIPT,), NOW_MS),
    "STORED, most receipts": Stored((RECEIPT,) * MAX_STORE_RECORDS, NOW_MS),
    "REPORT, of a VALUES with one record": Report(
        Evidence(
            1,
            Contact(ID, ID, 20_717, bytes(8), ID),
            bytes(1952),
            encode(envelope(encode(Values(ID, (RECORD,), (), ())), bytes(ML_DSA_65_PROOF))),
            encode(envelope(encode(FindValue(ID)), b"")),
        )
    ),
    "REPORT, praise of 16": Report(None, (ID,) * MAX_PRAISED),
    "REPORTED": Reported(0),
    "ERROR": Error(5),
    "ERROR with times": Error(1, 60_000, NOW_MS),
}

SIZES: dict[str, int] = {
    "contact": 141,
    "contact with KEM key": 1359,
    "record of 3000 B": 7634,
    "receipt": 45,
    "envelope, unsigned, empty body": 162,
    "envelope, signed, empty body": 3540,
    "PING": 1,
    "PONG": 10,
    "FIND_NODE": 39,
    "FIND_NODE, 24 known": 135,
    "FIND_NODE, both bounds": 105,
    "NODES, none": 36,
    "NODES, 20 contacts, 2 keys": 5294,
    "FIND_VALUE": 42,
    "FIND_VALUE, of one owner, one held": 175,
    "VALUES, none": 39,
    "VALUES, one record": 7673,
    "VALUES, one same, 20 contacts": 2928,
    "FIND_VALUES, 16 of one owner, 24 known": 2740,
    "VALUES_LIST, 16 held, one sent": 8772,
    "STORE, one record": 7637,
    "STORED, one receipt": 56,
    "STORED, most receipts": 2893,
    "REPORT, of a VALUES with one record": 13503,
    "REPORT, praise of 16": 549,
    "REPORTED": 2,
    "ERROR": 4,
    "ERROR with times": 14,
}
