"""The peer record: bounds on both sides, one encoding."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from pqdht.errors import ConfigError, DecodeError
from pqdht.ids import NodeId, OwnerId
from pqdht.peer_record import (
    MAX_ATTRIBUTE_KEY,
    MAX_ATTRIBUTE_VALUE,
    MAX_ATTRIBUTES,
    MAX_ENDPOINTS,
    PeerRecord,
    check_endpoint,
    parse_wireguard_key,
    peer_locator,
)
from pqdht.records import Named
from pqdht.wire.codec import encode

FULL = PeerRecord(
    ("203.0.113.5:51820", "[2001:db8::1]:51820", "vpn.example.org:51820"),
    b"w" * 32,
    {"region": "eu", "os": "linux"},
    NodeId(b"n" * 32),
)


@pytest.mark.parametrize("record", [FULL, PeerRecord(()), PeerRecord(("a:1",))])
def test_what_is_encoded_is_decoded(record: PeerRecord) -> None:
    assert PeerRecord.decode(record.encode()) == record


def test_equal_records_give_equal_bytes() -> None:
    one, two = ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    assert PeerRecord((), attributes=one).encode() == PeerRecord((), attributes=two).encode()


def test_it_is_the_owner_record_named_peer() -> None:
    owner = OwnerId(b"o" * 32)
    assert peer_locator(owner) == Named(owner, "peer")


def test_its_size_is_pinned() -> None:
    assert len(PeerRecord(("203.0.113.5:51820",), b"w" * 32, {}, NodeId(b"n" * 32)).encode()) == 89


@pytest.mark.parametrize("text", ["1.2.3.4:1", "[::1]:65535", "host:51820", "a.b-c_d.example:9"])
def test_endpoints_are_host_and_port(text: str) -> None:
    check_endpoint(text)
    assert PeerRecord.decode(PeerRecord((text,)).encode()).endpoints == (text,)


@pytest.mark.parametrize(
    "text",
    [
        *("", "host", "host:", ":1", "host:0", "host:65536", "host:999999", "::1:1", "[::1]", "[1.2.3.4]:1"),
        *("[zz]:1", "a b:1", "host:1\n", "tcp/1.2.3.4:1", "h" * 254 + ":1", "ho\x1bst:1"),
    ],
)
def test_other_endpoints_are_refused_on_both_sides(text: str) -> None:
    with pytest.raises(DecodeError, match="endpoint"):
        PeerRecord.decode(encode([[text]]))
    with pytest.raises(ConfigError, match="would be refused"):
        PeerRecord((text,)).encode()


@pytest.mark.parametrize(
    "record",
    [
        PeerRecord(("a:1",) * (MAX_ENDPOINTS + 1)),
        PeerRecord((), b"w" * 31),
        PeerRecord((), attributes={str(i): "" for i in range(MAX_ATTRIBUTES + 1)}),
        PeerRecord((), attributes={"": "x"}),
        PeerRecord((), attributes={"k" * (MAX_ATTRIBUTE_KEY + 1): "x"}),
        PeerRecord((), attributes={"k": "x" * (MAX_ATTRIBUTE_VALUE + 1)}),
        PeerRecord((), attributes={"k": "\ud800"}),
        PeerRecord((), node_id=NodeId(b"n" * 33)),
    ],
)
def test_what_is_out_of_bounds_is_a_local_error(record: PeerRecord) -> None:
    with pytest.raises(ConfigError, match="would be refused"):
        record.encode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\xc0",
        encode([]),
        encode([[], None, {}, None])[:-1],
        encode([[]]) + b"\0",
        encode([["a:1"] * (MAX_ENDPOINTS + 1)]),
        encode([[], b"short"]),
        encode([[], None, {"k": 1}]),
        encode([[], None, {1: "v"}]),
        encode([[], None, {str(i): "" for i in range(MAX_ATTRIBUTES + 1)}]),
        encode([[], None, {}, b"n" * 31]),
    ],
)
def test_hostile_values_are_decode_errors(value: bytes) -> None:
    with pytest.raises(DecodeError):
        PeerRecord.decode(value)


def test_a_later_version_may_append_fields() -> None:
    assert PeerRecord.decode(encode([["a:1"], None, {}, None, "later"])) == PeerRecord(("a:1",))


KEY = bytes(range(224, 256))


@pytest.mark.parametrize("given", [KEY, base64.b64encode(KEY).decode(), KEY.hex(), KEY.hex().upper()])
def test_a_wireguard_key_comes_as_bytes_or_as_wg_prints_it(given: bytes | str) -> None:
    assert parse_wireguard_key(given) == KEY


@pytest.mark.parametrize(
    "wrong",
    [
        *(b"", KEY[:31], KEY + b"\0", base64.b64encode(KEY)),
        *("", "short", "é" * 44, "zz" * 32, KEY.hex()[:62], base64.b64encode(KEY[:31]).decode()),
        base64.b64encode(KEY).decode() + "\n",
        base64.b64encode(KEY).decode()[:-2] + "9=",  # the same 32 bytes and a stray bit
        *(None, 5),
    ],
)
def test_what_is_no_wireguard_key_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="32 bytes") as e:
        parse_wireguard_key(wrong)
    assert e.value.fields["name"] == "wireguard_key"
