"""wire.messages: numbers, sizes and field orders are frozen; every body is whole or refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pqdht.constants import (
    KNOWN_PREFIX,
    MAX_CONTACTS,
    MAX_FINDS,
    MAX_HAVE,
    MAX_KNOWN,
    MAX_MESSAGE,
    MAX_STORE_RECORDS,
)
from pqdht.errors import DecodeError
from pqdht.wire import messages as m
from pqdht.wire.codec import Decoder, Struct, encode

from .sizes import CONTACT, ID, NOW_MS, RECEIPT, RECORD, SAMPLES, SIZES, envelope

BODIES: dict[str, Any] = {name: s for name, s in SAMPLES.items() if isinstance(s, m.Body)}
EARLY = {m.MessageType.PING, m.MessageType.FIND_NODE, m.MessageType.FIND_VALUE}
REQUESTS = EARLY | {m.MessageType.STORE, m.MessageType.FIND_VALUES, m.MessageType.REPORT}


def decoder(struct: Struct) -> Decoder[Any]:
    return Decoder(type(struct), "sample")


def plain(struct: Struct) -> list[Any]:
    """The arrays a struct travels as, without their types."""
    array: list[Any] = msgspec.msgpack.decode(encode(struct))
    return array


def test_every_size_is_pinned() -> None:
    assert {name: len(encode(s)) for name, s in SAMPLES.items()} == SIZES


def test_every_message_has_a_sample() -> None:
    assert {type(b) for b in BODIES.values()} == set(m.Body.__args__)


def test_the_numbers_are_frozen() -> None:
    assert {t.name: int(t) for t in m.MessageType} == {
        "PING": 1,
        "PONG": 2,
        "FIND_NODE": 3,
        "NODES": 4,
        "FIND_VALUE": 5,
        "VALUES": 6,
        "STORE": 7,
        "STORED": 8,
        "CERTIFICATE": 9,
        "CERTIFICATES": 10,
        "BOOTSTRAP_LIST": 11,
        "BOOTSTRAP_NODES": 12,
        "LOOKUP": 13,
        "FORWARDED": 14,
        "REPORT": 15,
        "REPORTED": 16,
        "RELAY": 17,
        "CIRCUIT": 18,
        "WATCH": 19,
        "ERROR": 20,
        "FIND_VALUES": 21,
        "VALUES_LIST": 22,
    }


FIELDS: dict[type[Struct], str] = {
    m.Envelope: "version type rpc_id sender receiver request sent_at binding body signature",
    m.WireRecord: "tbs signature",
    m.Ping: "",
    m.Pong: "time",
    m.FindNode: "target closer_than keys_below known",
    m.Nodes: "target contacts",
    m.FindValue: "key owner have cursor closer_than known brief",
    m.Values: "key records same contacts cursor",
    m.FindValues: "questions",
    m.ValuesList: "answers",
    m.Store: "records replica",
    m.Receipt: "record_id code expires",
    m.Stored: "receipts time",
    m.Error: "code retry_after time",
}


@pytest.mark.parametrize("kind", FIELDS, ids=lambda k: k.__name__)
def test_the_field_order_is_frozen(kind: type[Struct]) -> None:
    assert " ".join(kind.__struct_fields__) == FIELDS[kind]


@pytest.mark.parametrize("name", BODIES)
def test_a_body_decodes_by_its_number(name: str) -> None:
    body = BODIES[name]
    number = m.message_type(body)
    assert number.name == name.split(",")[0].split(" ")[0]
    assert m.is_known(number)
    assert m.decode_body(number, encode(body)) == body


def test_reserved_and_unknown_numbers_are_refused() -> None:
    known = {m.message_type(b) for b in BODIES.values()}
    for number in [n for n in range(300) if n not in known] + [-1, 2**16]:
        assert not m.is_known(number)
        with pytest.raises(DecodeError, match=f"unknown message type {number}"):
            m.decode_body(number, encode(m.Ping()))


def test_each_request_has_one_answer_and_no_early_request_changes_anything() -> None:
    assert set(m.ANSWERS) == REQUESTS
    assert all(answer == asked + 1 for asked, answer in m.ANSWERS.items())
    assert set(m.EARLY_TYPES) == EARLY


@pytest.mark.parametrize("name", SAMPLES)
def test_truncated_anywhere_is_refused(name: str) -> None:
    whole = encode(SAMPLES[name])
    decode = decoder(SAMPLES[name])
    # every cut of a small message; of a large one, those near its ends and some between
    cuts = [c for c in range(len(whole)) if c < 200 or c > len(whole) - 200 or c % 97 == 0]
    for cut in cuts:
        with pytest.raises(DecodeError):
            decode(whole[:cut])


@pytest.mark.parametrize("name", SAMPLES)
@pytest.mark.parametrize("tail", [b"\0", b"\xc0", b"\x90"], ids=["zero", "nil", "array"])
def test_trailing_bytes_are_refused(name: str, tail: bytes) -> None:
    with pytest.raises(DecodeError, match="trailing"):
        decoder(SAMPLES[name])(encode(SAMPLES[name]) + tail)


def lengthened(value: Any) -> Any:
    """Every array inside a message that is a struct of ours, with unknown fields appended."""
    if isinstance(value, Struct):
        fields = [lengthened(getattr(value, f)) for f in value.__struct_fields__]
        return [*fields, {"new": [1, b"x"]}, None]
    return [lengthened(v) for v in value] if isinstance(value, tuple) else value


@pytest.mark.parametrize("name", SAMPLES)
def test_longer_arrays_of_a_later_version_decode(name: str) -> None:
    later = msgspec.msgpack.encode(lengthened(SAMPLES[name]))
    assert decoder(SAMPLES[name])(later) == SAMPLES[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_field_of_a_wrong_type_is_refused(name: str) -> None:
    array = plain(SAMPLES[name])
    for i in range(len(array)):
        for wrong in (1.5, {"a": 1}):
            with pytest.raises(DecodeError):
                decoder(SAMPLES[name])(msgspec.msgpack.encode([*array[:i], wrong, *array[i + 1 :]]))


@pytest.mark.parametrize("name", SAMPLES)
def test_ids_of_another_length_are_refused(name: str) -> None:
    array = plain(SAMPLES[name])
    ids = [i for i, v in enumerate(array) if isinstance(v, bytes) and len(v) in (8, 32)]
    for i in ids:
        for wrong in (array[i][:-1], array[i] + b"\0", b""):
            with pytest.raises(DecodeError):
                decoder(SAMPLES[name])(msgspec.msgpack.encode([*array[:i], wrong, *array[i + 1 :]]))


@pytest.mark.parametrize("name", SAMPLES)
def test_required_fields_have_no_defaults(name: str) -> None:
    required = [f for f in msgspec.structs.fields(SAMPLES[name]) if f.required]
    array = plain(SAMPLES[name])[: len(required)]
    decoder(SAMPLES[name])(msgspec.msgpack.encode(array))
    if required:
        with pytest.raises(DecodeError):
            decoder(SAMPLES[name])(msgspec.msgpack.encode(array[:-1]))


EMPTY = m.WireRecord(b"", b"")
AT_LIMIT: dict[str, tuple[Struct, Struct]] = {
    "contacts in NODES": (
        m.Nodes(ID, (CONTACT,) * MAX_CONTACTS),
        m.Nodes(ID, (CONTACT,) * (MAX_CONTACTS + 1)),
    ),
    "contacts in VALUES": (
        m.Values(ID, (), (), (CONTACT,) * MAX_CONTACTS),
        m.Values(ID, (), (), (CONTACT,) * (MAX_CONTACTS + 1)),
    ),
    "records in VALUES": (
        m.Values(ID, (EMPTY,) * MAX_STORE_RECORDS, (), ()),
        m.Values(ID, (EMPTY,) * (MAX_STORE_RECORDS + 1), (), ()),
    ),
    "same in VALUES": (
        m.Values(ID, (), (ID,) * MAX_HAVE, ()),
        m.Values(ID, (), (ID,) * (MAX_HAVE + 1), ()),
    ),
    "have in FIND_VALUE": (
        m.FindValue(ID, have=(ID,) * MAX_HAVE),
        m.FindValue(ID, have=(ID,) * (MAX_HAVE + 1)),
    ),
    "known in FIND_NODE": (
        m.FindNode(ID, known=bytes(KNOWN_PREFIX * MAX_KNOWN)),
        m.FindNode(ID, known=bytes(KNOWN_PREFIX * MAX_KNOWN + 1)),
    ),
    "questions in FIND_VALUES": (
        m.FindValues((m.FindValue(ID),) * MAX_FINDS),
        m.FindValues((m.FindValue(ID),) * (MAX_FINDS + 1)),
    ),
    "no question in FIND_VALUES": (m.FindValues((m.FindValue(ID),)), m.FindValues(())),
    "answers in VALUES_LIST": (
        m.ValuesList((m.Values(ID, (), (), ()),) * MAX_FINDS),
        m.ValuesList((m.Values(ID, (), (), ()),) * (MAX_FINDS + 1)),
    ),
    "records in STORE": (
        m.Store((EMPTY,) * MAX_STORE_RECORDS),
        m.Store((EMPTY,) * (MAX_STORE_RECORDS + 1)),
    ),
    "no record in STORE": (m.Store((RECORD,)), m.Store(())),
    "receipts": (
        m.Stored((RECEIPT,) * MAX_STORE_RECORDS, NOW_MS),
        m.Stored((RECEIPT,) * (MAX_STORE_RECORDS + 1), NOW_MS),
    ),
    "record signature": (m.WireRecord(b"", bytes(8192)), m.WireRecord(b"", bytes(8193))),
    "envelope signature": (envelope(b"", bytes(8192)), envelope(b"", bytes(8193))),
    "time": (m.Pong(2**63 - 1), m.Pong(2**63)),
    "code": (m.Error(2**16 - 1), m.Error(2**16)),
    "negative time": (m.Pong(0), m.Pong(-1)),
}


@pytest.mark.parametrize(("last_good", "first_bad"), AT_LIMIT.values(), ids=AT_LIMIT.keys())
def test_each_limit_is_inclusive(last_good: Struct, first_bad: Struct) -> None:
    assert decoder(last_good)(encode(last_good)) == last_good
    with pytest.raises(DecodeError):
        decoder(first_bad)(encode(first_bad))


def test_a_message_over_the_limit_is_refused_unread() -> None:
    room = MAX_MESSAGE - len(encode(envelope(b"", b""))) - 1  # the body's length takes a byte more
    largest = encode(envelope(bytes(room), b""))
    assert len(largest) == MAX_MESSAGE
    assert m.decode_envelope(largest).body == bytes(room)
    with pytest.raises(DecodeError, match=f"at most {MAX_MESSAGE}"):
        m.decode_envelope(encode(envelope(bytes(room + 1), b"")))
    with pytest.raises(DecodeError, match=f"at most {MAX_MESSAGE}"):
        m.decode_body(m.MessageType.PING, encode(m.Ping()) * (MAX_MESSAGE + 1))


def test_a_body_passes_through_its_envelope_byte_for_byte() -> None:
    odd = b"\xdc\x00\x01\xcf\0\0\0\0\0\0\0\x05"  # PONG in the longest spelling
    assert m.decode_body(m.MessageType.PONG, odd) == m.Pong(5)
    again = m.decode_envelope(m.encode_envelope(envelope(odd, b"sig")))
    assert (again.body, again.signature) == (odd, b"sig")
