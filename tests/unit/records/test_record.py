"""Every structural rule of a record, and the code its breach is answered with."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from hashlib import sha3_256
from typing import Any

import msgspec
import pytest

from pqdht.constants import DAY_MS, DAY_S, MAX_MESSAGE, MAX_NAME, TESTNET
from pqdht.crypto import labels, puzzle
from pqdht.errors import ConfigError, RecordInvalid, WireCode
from pqdht.identity.keys import NodeIdentity, OwnerIdentity, new_commit
from pqdht.ids import OwnerId, RecordId
from pqdht.records import (
    SEALED,
    TOMBSTONE,
    Content,
    Kind,
    Locator,
    Named,
    Record,
    Tbs,
    Topic,
    make_record,
    parse_record,
)
from pqdht.testing.fake import fake_suite
from pqdht.wire.codec import Decoder, encode
from pqdht.wire.messages import WireRecord

SUITE = fake_suite(1)
TAG = labels.network_tag(TESTNET.name, TESTNET.genesis_salt, 1)
NOW = 20_000 * DAY_MS
OWNER = OwnerIdentity.generate(SUITE)
OTHER = OwnerIdentity.generate(SUITE)
VALUE = b"a value"
WEEK = 7 * DAY_S
decode_tbs = Decoder(Tbs, "tbs")


def solve() -> NodeIdentity:
    unsolved = new_commit(SUITE, TAG, 20_000)
    nonce = puzzle.search_range(SUITE.provider, puzzle.salt(TAG), unsolved.commit, 4, 0, 10_000)
    assert nonce is not None
    return unsolved.solved(nonce)


NODE = solve()
CONTENT, NAMED, TOPIC = Content.of(VALUE), Named(OWNER.owner_id, "peer"), Topic("vpn")
LOCATORS: list[Locator] = [CONTENT, NAMED, TOPIC]


def make(locator: Locator, value: bytes = VALUE, owner: OwnerIdentity = OWNER, **fields: Any) -> Record:
    given: dict[str, Any] = {"ttl": 3600, "timestamp": NOW, "params": TESTNET, "node": NODE} | fields
    return make_record(SUITE, TAG, owner, locator, value, **given)


def sign(tbs: bytes, owner: OwnerIdentity = OWNER) -> WireRecord:
    return WireRecord(tbs, owner.signing.sign(labels.RECORD + tbs, labels.RECORD))


def forge(locator: Locator, by: OwnerIdentity = OWNER, /, **fields: Any) -> WireRecord:
    """A record with some fields changed, signed again by its owner: only the rules can stop it."""
    tbs = decode_tbs(make(locator).wire.tbs)
    return sign(encode(msgspec.structs.replace(tbs, **fields)), by)


def forge_node(**fields: Any) -> WireRecord:
    extra = decode_tbs(make(TOPIC).wire.tbs).extra
    assert extra.node is not None
    node = msgspec.structs.replace(extra.node, **fields)
    return forge(TOPIC, extra=msgspec.structs.replace(extra, node=node))


def parse(wire: WireRecord) -> Record:
    return parse_record(wire, SUITE, TESTNET, TAG)


def refused(wire: WireRecord, code: WireCode = WireCode.BAD_RECORD) -> str:
    with pytest.raises(RecordInvalid) as refusal:
        parse(wire)
    assert refusal.value.code is code
    return str(refusal.value)


# --- what is right -----------------------------------------------------------------------------


@pytest.mark.parametrize("locator", LOCATORS)
def test_what_is_made_is_what_is_parsed(locator: Locator) -> None:
    record = make(locator)
    assert parse(record.wire) == record
    assert (record.kind, record.key, record.locator) == (locator.kind, locator.key(), locator)
    assert (record.owner_key, record.owner_id) == (OWNER.public, OWNER.owner_id)
    assert (record.value, record.ttl, record.timestamp) == (VALUE, 3600, NOW)
    assert record.expires == NOW + 3_600_000
    assert record.size == len(record.wire.tbs) + len(record.wire.signature)
    assert not record.is_tombstone
    assert record.node_id == (NODE.node_id if locator is TOPIC else None)
    assert record.name == {CONTENT: None, NAMED: "peer", TOPIC: "vpn"}[locator]


def test_keys_are_the_hashes_of_section_5() -> None:
    assert CONTENT.key() == sha3_256(labels.CONTENT_KEY + VALUE).digest()
    assert NAMED.key() == sha3_256(labels.OWNER_KEY + OWNER.owner_id + b"peer").digest()
    assert TOPIC.key() == sha3_256(labels.TOPIC_KEY + b"vpn").digest()
    assert Named(OTHER.owner_id, "peer").key() != NAMED.key()


def test_the_record_id_covers_the_tbs_and_not_the_signature() -> None:
    record = make(NAMED)
    assert record.record_id == sha3_256(labels.RECORD_ID + record.wire.tbs).digest()
    other_signature = WireRecord(record.wire.tbs, bytes(len(record.wire.signature)))
    assert parse(other_signature).record_id == record.record_id


def test_equal_values_have_equal_value_ids_and_a_flag_makes_another() -> None:
    first, second = make(NAMED), make(NAMED, timestamp=NOW + 1)
    assert first.record_id != second.record_id
    assert first.value_id == second.value_id
    assert make(NAMED, flags=SEALED).value_id != first.value_id
    assert make(NAMED, value=b"else").value_id != first.value_id


def test_a_tombstone_is_empty_and_lives_as_long_as_the_network_allows() -> None:
    grave = make(NAMED, b"", flags=TOMBSTONE, ttl=WEEK)
    assert grave.is_tombstone
    assert make(TOPIC, b"", flags=TOMBSTONE, ttl=WEEK).is_tombstone
    assert refused(forge(NAMED, value=b"", ttl=WEEK - 1, flags=TOMBSTONE))
    assert refused(forge(NAMED, value=b"x", ttl=WEEK, flags=TOMBSTONE))
    assert refused(forge(NAMED, value=b"", ttl=WEEK, flags=TOMBSTONE | SEALED))
    nothing = Content.of(b"")
    assert refused(forge(CONTENT, key=nothing.key(), value=b"", ttl=WEEK, flags=TOMBSTONE))


def test_a_predecessor_may_be_named() -> None:
    before = make(NAMED)
    after = make(NAMED, timestamp=NOW + 1, previous=before.record_id)
    assert parse(after.wire).previous == before.record_id


def test_the_repr_is_short() -> None:
    assert len(repr(make(TOPIC, b"v" * 5000))) < 800


@pytest.mark.parametrize(
    ("number", "content", "named", "topic"),
    [(1, 7313, 7317, 12704), (2, 7313, 7317, 14662), (3, 5355, 5359, 10746)],
)
def test_the_overhead_of_a_record_is_pinned(number: int, content: int, named: int, topic: int) -> None:
    """Bytes besides a value of 200 bytes under the name "peer": almost all of it keys and signatures."""
    suite = fake_suite(number)
    tag = labels.network_tag(TESTNET.name, TESTNET.genesis_salt, number)
    owner = OwnerIdentity.generate(suite)
    node = new_commit(suite, tag, 20_000).solved(bytes(8))
    free = replace(TESTNET, puzzle_schedule=((0, 0),))
    sizes = [
        make_record(
            suite, tag, owner, where, bytes(200), ttl=3600, timestamp=NOW, params=free, node=node
        ).size
        - 200
        for where in (Content.of(bytes(200)), Named(owner.owner_id, "peer"), Topic("peer"))
    ]
    assert sizes == [content, named, topic]


# --- names -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "a" * MAX_NAME, "é" * 32, "名前", "\0"])
def test_names_of_1_to_64_bytes_are_taken(name: str) -> None:
    assert parse(make(Named(OWNER.owner_id, name)).wire).name == name
    assert parse(make(Topic(name)).wire).name == name


@pytest.mark.parametrize("name", ["", "a" * (MAX_NAME + 1), "é" * 33])
def test_other_names_are_refused_on_both_sides(name: str) -> None:
    for where in (lambda: Topic(name), lambda: Named(OWNER.owner_id, name)):
        with pytest.raises(ConfigError, match="1 to 64 bytes"):
            where()
    for locator in (NAMED, TOPIC):
        extra = decode_tbs(make(locator).wire.tbs).extra
        hostile = forge(locator, extra=msgspec.structs.replace(extra, name=name))
        assert "1 to 64 bytes" in refused(hostile)


def test_a_name_must_be_unicode() -> None:
    with pytest.raises(ConfigError, match="Unicode"):
        Topic("\ud800")


def test_a_content_hash_has_32_bytes() -> None:
    with pytest.raises(ConfigError, match="31"):
        Content(bytes(31))
    with pytest.raises(ConfigError, match="64 hex digits"):
        Content("x" * 32)  # type: ignore[arg-type]
    assert Content("00" * 32) == Content(bytes(32))  # type: ignore[arg-type]


@pytest.mark.parametrize("owner", [b"", bytes(31), "x" * 32, None])
def test_an_owner_id_has_32_bytes(owner: Any) -> None:
    with pytest.raises(ConfigError, match="owner id"):
        Named(owner, "x")
    assert Named(bytes(32).hex(), "x") == Named(OwnerId(bytes(32)), "x")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [b"x", None, 5])
def test_a_name_is_text(name: Any) -> None:
    for place in (Topic, partial(Named, OwnerId(bytes(32)))):
        with pytest.raises(ConfigError, match="text"):
            place(name)


@pytest.mark.parametrize("value", ["x", None, 5, bytearray()])
def test_a_value_is_bytes(value: Any) -> None:
    with pytest.raises(ConfigError, match="a value is bytes"):
        Content.of(value)
    with pytest.raises(ConfigError, match="a value is bytes"):
        make(Topic("t"), value)


# --- what is not a record at all ---------------------------------------------------------------


@pytest.mark.parametrize("tbs", [b"", b"\xc1", b"\x90", b"\x91\x01", b"\x80", b"\xc0", b"not msgpack"])
def test_what_is_not_a_record_is_malformed(tbs: bytes) -> None:
    assert refused(sign(tbs), WireCode.MALFORMED)


@pytest.mark.parametrize("locator", LOCATORS)
def test_truncated_and_lengthened_records_are_malformed(locator: Locator) -> None:
    tbs = make(locator).wire.tbs
    for end in [*range(0, len(tbs), 97), len(tbs) - 1]:
        assert refused(sign(tbs[:end]), WireCode.MALFORMED)
    assert refused(sign(tbs + b"\0"), WireCode.MALFORMED)


def test_a_record_has_one_encoding() -> None:
    tbs = make(NAMED).wire.tbs
    assert tbs[:2] == b"\x9b\x01"
    assert "one encoding" in refused(sign(b"\xdc\x00\x0b" + tbs[1:]), WireCode.MALFORMED)  # array16
    assert "one encoding" in refused(sign(tbs[:1] + b"\xcc\x01" + tbs[2:]), WireCode.MALFORMED)  # uint8
    more = b"\x9c" + tbs[1:] + b"\xc0"  # a field that version 1 does not have
    assert "one encoding" in refused(sign(more), WireCode.MALFORMED)
    fields = msgspec.msgpack.decode(tbs)
    fields[-1] = [*fields[-1], None]  # the same inside `extra`
    assert "one encoding" in refused(sign(encode(fields)), WireCode.MALFORMED)


@pytest.mark.parametrize(
    "fields", [{"version": 0}, {"version": 2}, {"version": 255}, {"kind": 0}, {"kind": 99}]
)
def test_unknown_versions_and_kinds_are_unsupported(fields: dict[str, Any]) -> None:
    assert refused(forge(NAMED, **fields), WireCode.UNSUPPORTED)


@pytest.mark.parametrize("kind", [Kind.CERT, Kind.CRL, Kind.SUCCESSION, Kind.REVOCATION])
def test_reserved_kinds_are_unsupported(kind: Kind) -> None:
    assert refused(forge(NAMED, kind=int(kind)), WireCode.UNSUPPORTED)


def test_a_later_version_may_have_any_shape_and_is_unsupported_not_malformed() -> None:
    later = encode([2, 1, TAG, 2, {"something": "else"}])
    assert refused(sign(later), WireCode.UNSUPPORTED)


def test_records_of_another_network_or_suite_are_refused() -> None:
    assert "another network" in refused(forge(NAMED, network_tag=bytes(32)))
    assert "suite 2" in refused(forge(NAMED, suite=2))


# --- bounds ------------------------------------------------------------------------------------


def test_a_value_may_be_as_large_as_the_limit_and_no_larger() -> None:
    most = TESTNET.limits.max_value
    assert len(parse(make(NAMED, bytes(most)).wire).value) == most
    assert refused(forge(NAMED, value=bytes(most + 1)), WireCode.TOO_LARGE)
    assert refused(sign(bytes(MAX_MESSAGE + 1)), WireCode.TOO_LARGE)


@pytest.mark.parametrize("ttl", [60, WEEK])
def test_the_shortest_and_the_longest_ttl_are_taken(ttl: int) -> None:
    assert parse(make(NAMED, ttl=ttl).wire).ttl == ttl


@pytest.mark.parametrize("ttl", [0, 59, WEEK + 1, 2**32 - 1])
def test_other_ttls_are_refused(ttl: int) -> None:
    assert "ttl" in refused(forge(NAMED, ttl=ttl))


@pytest.mark.parametrize("timestamp", [-1, 2**62 + 1, 2**63, 2**64 - 1])
def test_a_timestamp_leaves_room_for_the_ttl(timestamp: int) -> None:
    assert refused(forge(NAMED, timestamp=timestamp), WireCode.MALFORMED)


@pytest.mark.parametrize("flags", [4, 128, 4 | TOMBSTONE])
def test_unknown_flags_are_refused(flags: int) -> None:
    assert "unknown flags" in refused(forge(NAMED, flags=flags))


@pytest.mark.parametrize("size", [0, 1, 2591, 2593])
def test_an_owner_key_has_its_length(size: int) -> None:
    assert "owner key" in refused(forge(NAMED, owner=bytes(size)))


@pytest.mark.parametrize("size", [0, 32, 4626, 4628])
def test_an_owner_signature_has_its_length(size: int) -> None:
    assert "owner signature" in refused(WireRecord(make(NAMED).wire.tbs, bytes(size)))


# --- keys and kinds ----------------------------------------------------------------------------


@pytest.mark.parametrize("locator", LOCATORS)
def test_a_record_replayed_under_another_key_is_refused(locator: Locator) -> None:
    assert "key" in refused(forge(locator, key=bytes(32)))


def test_an_owner_record_replayed_by_another_owner_is_refused() -> None:
    assert "key" in refused(forge(NAMED, OTHER, owner=OTHER.public))


def test_an_owner_record_under_another_name_is_refused() -> None:
    extra = decode_tbs(make(NAMED).wire.tbs).extra
    assert "key" in refused(forge(NAMED, extra=msgspec.structs.replace(extra, name="other")))


def test_a_content_record_with_another_value_is_refused() -> None:
    assert "key" in refused(forge(CONTENT, value=b"another"))


def test_anybody_may_publish_content() -> None:
    assert parse(make(CONTENT, owner=OTHER).wire).key == CONTENT.key()


def test_each_kind_carries_its_own_extras_and_no_others() -> None:
    named, topic = (decode_tbs(make(where).wire.tbs).extra for where in (NAMED, TOPIC))
    nameless = msgspec.structs.replace(named, name=None)
    assert "no name" in refused(forge(NAMED, extra=nameless))
    assert "no name" in refused(forge(TOPIC, extra=msgspec.structs.replace(topic, name=None)))
    assert "node" in refused(forge(NAMED, extra=topic))
    assert "node" in refused(forge(TOPIC, extra=named))
    for extra in (named, topic, msgspec.structs.replace(nameless, previous=bytes(32))):
        assert "content record" in refused(forge(CONTENT, extra=extra))


# --- the node of a topic record ----------------------------------------------------------------


def test_the_contact_in_a_topic_record_is_bare() -> None:
    contact = NODE.contact(("tcp/127.0.0.1:1",))
    assert "no addresses" in refused(forge_node(contact=contact))
    assert "no KEM key" in refused(forge_node(contact=NODE.contact(with_key=True)))


def test_the_node_key_is_the_one_the_node_id_commits_to() -> None:
    assert "commits to" in refused(forge_node(key=solve().signing.public))
    assert "node key" in refused(forge_node(key=NODE.signing.public[:-1]))


def test_a_node_signature_has_its_length() -> None:
    assert "node signature" in refused(forge_node(signature=bytes(10)))


def test_an_easy_node_puzzle_is_refused() -> None:
    contact = msgspec.structs.replace(NODE.contact(), digest=b"\xff" * 32)
    assert "bits" in refused(forge_node(contact=contact))


# --- making ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("locator", "fields"),
    [
        (NAMED, {"value": bytes(TESTNET.limits.max_value + 1)}),
        (NAMED, {"ttl": 59}),
        (NAMED, {"ttl": -1}),
        (NAMED, {"ttl": 2**40}),
        (NAMED, {"timestamp": -1}),
        (NAMED, {"timestamp": 2**70}),
        (NAMED, {"flags": 8}),
        (NAMED, {"flags": TOMBSTONE}),
        (NAMED, {"previous": RecordId(b"short")}),
        (NAMED, {"owner": OTHER}),
        (TOPIC, {"node": None}),
        (Content.of(b"another value"), {}),
        (CONTENT, {"previous": RecordId(bytes(32))}),
        (Named(OwnerId(bytes(32)), "peer"), {}),
    ],
)
def test_what_nobody_would_store_is_a_local_error(locator: Locator, fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="would be refused"):
        make(locator, **fields)
