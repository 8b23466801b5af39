"""Any bytes are a record or a RecordInvalid; no change to a valid record goes unnoticed."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqdht.constants import DAY_MS, TESTNET
from pqdht.crypto import labels, puzzle
from pqdht.errors import DecodeError, RecordInvalid
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import OwnerIdentity, new_commit
from pqdht.peer_record import PeerRecord
from pqdht.records import (
    Content,
    Kind,
    Locator,
    Named,
    Record,
    RecordVerifier,
    Tbs,
    Topic,
    make_record,
)
from pqdht.testing.fake import fake_suite
from pqdht.wire.codec import Decoder, encode
from pqdht.wire.messages import WireRecord

SUITE = fake_suite(1)
TAG = labels.network_tag(TESTNET.name, TESTNET.genesis_salt, 1)
NOW = 20_000 * DAY_MS
WEEK = TESTNET.limits.ttl_max_s
OWNER = OwnerIdentity.generate(SUITE)
UNSOLVED = new_commit(SUITE, TAG, 20_000)
NODE = UNSOLVED.solved(
    puzzle.search_range(SUITE.provider, puzzle.salt(TAG), UNSOLVED.commit, 4, 0, 10_000) or b""
)
VERIFIER = RecordVerifier(SUITE, TESTNET, TAG, ContactVerifier(SUITE, TESTNET, TAG), cache_size=64)
decode_tbs = Decoder(Tbs, "tbs")

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64).filter(
    lambda n: len(n.encode()) <= 64
)
times = st.integers(0, 2**62)


def make(locator: Locator, value: bytes, ttl: int = 3600, timestamp: int = NOW, flags: int = 0) -> Record:
    return make_record(
        SUITE,
        TAG,
        OWNER,
        locator,
        value,
        ttl=ttl,
        timestamp=timestamp,
        flags=flags,
        params=TESTNET,
        node=NODE,
    )


def locators(value: bytes) -> st.SearchStrategy[Locator]:
    return st.one_of(
        st.just(Content.of(value)), names.map(lambda n: Named(OWNER.owner_id, n)), names.map(Topic)
    )


@st.composite
def records(draw: st.DrawFn) -> Record:
    value = draw(st.binary(max_size=300))
    ttl = draw(st.integers(TESTNET.limits.ttl_min_s, WEEK))
    return make(draw(locators(value)), value, ttl, draw(times), draw(st.sampled_from([0, 2])))


def parsed(wire: WireRecord) -> Record | None:
    try:
        return VERIFIER.parse(wire)
    except RecordInvalid:
        return None


def sign(tbs: bytes) -> WireRecord:
    return WireRecord(tbs, OWNER.signing.sign(labels.RECORD + tbs, labels.RECORD))


@given(records())
def test_what_is_made_parses_verifies_and_re_encodes(record: Record) -> None:
    again = VERIFIER.parse(record.wire)
    VERIFIER.verify(again)
    assert again == record
    assert encode(decode_tbs(record.wire.tbs)) == record.wire.tbs
    assert again.key == again.locator.key()


@given(st.binary(max_size=400), st.binary(max_size=80))
def test_any_bytes_are_refused_or_parsed(tbs: bytes, signature: bytes) -> None:
    assert parsed(WireRecord(tbs, signature)) is None
    assert parsed(sign(tbs)) is None


msgpack_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=40)
    | st.just(TAG),
    lambda inner: st.lists(inner, max_size=12) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=20,
)


@given(records(), st.data())
def test_any_field_replaced_by_anything_is_refused_or_a_right_record(
    record: Record, data: st.DataObject
) -> None:
    fields: list[Any] = msgspec.msgpack.decode(record.wire.tbs)
    at = data.draw(st.integers(0, len(fields) - 1))
    fields[at] = data.draw(msgpack_values)
    tbs = encode(fields)
    found = parsed(sign(tbs))
    if found is not None:
        assert encode(decode_tbs(tbs)) == tbs
        assert found.key == found.locator.key()
        assert TESTNET.limits.ttl_min_s <= found.ttl <= WEEK
        assert found.kind in (Kind.CONTENT, Kind.OWNER, Kind.TOPIC)


@given(records(), st.data())
def test_a_changed_byte_never_verifies(record: Record, data: st.DataObject) -> None:
    """The signature was not made anew: whatever still parses must fail."""
    whole = bytearray(record.wire.tbs + record.wire.signature)
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    split = len(record.wire.tbs)
    found = parsed(WireRecord(bytes(whole[:split]), bytes(whole[split:])))
    if found is not None:
        with pytest.raises(RecordInvalid):
            VERIFIER.verify(found)


@given(records(), st.data())
def test_a_cut_or_lengthened_record_never_parses(record: Record, data: st.DataObject) -> None:
    tbs, signature = record.wire.tbs, record.wire.signature
    cut = data.draw(st.integers(0, len(tbs) - 1))
    more = data.draw(st.binary(min_size=1, max_size=40))
    for changed in (tbs[:cut], tbs + more, more + tbs):
        assert parsed(sign(changed)) is None
        assert parsed(WireRecord(changed, signature)) is None
    assert parsed(WireRecord(tbs, signature + more)) is None
    assert parsed(WireRecord(tbs, signature[: cut % len(signature)])) is None


@given(records(), records())
def test_no_part_of_one_record_serves_another(one: Record, two: Record) -> None:
    if one.record_id == two.record_id:
        return
    found = parsed(WireRecord(one.wire.tbs, two.wire.signature))
    if found is not None:
        with pytest.raises(RecordInvalid):
            VERIFIER.verify(found)
    if one.key != two.key:
        a, b = decode_tbs(one.wire.tbs), decode_tbs(two.wire.tbs)
        assert parsed(sign(encode(msgspec.structs.replace(a, key=b.key)))) is None


@given(st.binary(max_size=200))
def test_any_value_is_a_peer_record_or_a_decode_error(value: bytes) -> None:
    try:
        record = PeerRecord.decode(value)
    except DecodeError:
        return
    assert PeerRecord.decode(record.encode()) == record


@given(msgpack_values, msgpack_values, msgpack_values, msgpack_values)
def test_any_peer_fields_are_a_peer_record_or_a_decode_error(a: Any, b: Any, c: Any, d: Any) -> None:
    try:
        record = PeerRecord.decode(encode([a, b, c, d]))
    except DecodeError:
        return
    assert PeerRecord.decode(record.encode()) == record
