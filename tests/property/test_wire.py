"""Properties of the parsers: any input is accepted whole or raises DecodeError."""

from __future__ import annotations

import ipaddress
from typing import Any

import msgspec
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pqdht.constants import MAX_ADDRESS_LENGTH, MAX_ADDRESSES
from pqdht.errors import DecodeError
from pqdht.wire import messages as m
from pqdht.wire.address import Address, parse_address
from pqdht.wire.codec import Decoder, Struct, encode
from pqdht.wire.contact import Contact

ids = st.binary(min_size=32, max_size=32)
maybe_ids = st.none() | ids
u16 = st.integers(0, 2**16 - 1)
u63 = st.integers(0, 2**63 - 1)


def few(items: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, min_size=least, max_size=4).map(tuple)


contacts = st.builds(
    Contact,
    signing_key_hash=ids,
    kem_key_hash=ids,
    born=st.integers(0, 2**32 - 1),
    nonce=st.binary(min_size=8, max_size=8),
    digest=ids,
    addresses=st.lists(st.text(max_size=40), max_size=MAX_ADDRESSES).map(tuple),
    kem_key=st.none() | st.binary(min_size=1, max_size=64),
    features=u63,
    stake=st.none() | st.binary(max_size=64),
)
records = st.builds(m.WireRecord, tbs=st.binary(max_size=300), signature=st.binary(max_size=64))
receipts = st.builds(m.Receipt, record_id=ids, code=u16, expires=u63)
bodies: st.SearchStrategy[m.Body] = st.one_of(
    st.builds(m.Ping),
    st.builds(m.Pong, u63),
    st.builds(m.FindNode, ids, maybe_ids, maybe_ids),
    st.builds(m.Nodes, ids, few(contacts)),
    st.builds(m.FindValue, ids, maybe_ids, few(ids), maybe_ids, maybe_ids),
    st.builds(m.Values, ids, few(records), few(ids), few(contacts), maybe_ids),
    st.builds(m.Store, few(records, least=1), st.booleans()),
    st.builds(m.Stored, few(receipts), u63),
    st.builds(m.Error, u16, u63, u63),
)
envelopes = st.builds(
    m.Envelope,
    version=st.integers(0, 255),
    type=u16,
    rpc_id=st.binary(min_size=8, max_size=8),
    sender=ids,
    receiver=ids,
    request=ids,
    sent_at=u63,
    binding=ids,
    body=st.binary(max_size=300),
    signature=st.binary(max_size=300),
)
messages: st.SearchStrategy[Struct] = st.one_of(envelopes, contacts, bodies)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats()
anything = st.recursive(
    scalars | st.text() | st.binary() | ids,
    lambda inner: st.lists(inner, max_size=10) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=30,
)
KINDS: list[type[Struct]] = [m.Envelope, Contact, *m.Body.__args__]
DECODERS: list[Decoder[Any]] = [Decoder(kind, kind.__name__) for kind in KINDS]


def decodes_whole_or_refuses(data: bytes) -> None:
    """Whatever is accepted is a value that survives the wire again."""
    for decode in DECODERS:
        try:
            accepted = decode(data)
        except DecodeError:
            continue
        assert decode(encode(accepted)) == accepted


@given(messages)
def test_every_message_survives_the_wire(message: Struct) -> None:
    decode = DECODERS[KINDS.index(type(message))]
    assert decode(encode(message)) == message


@given(bodies)
def test_a_body_and_its_number_belong_together(body: m.Body) -> None:
    assert m.decode_body(m.message_type(body), encode(body)) == body


@given(messages, st.data())
def test_a_message_cut_anywhere_is_refused(message: Struct, data: st.DataObject) -> None:
    whole = encode(message)
    cut = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(DecodeError):
        DECODERS[KINDS.index(type(message))](whole[:cut])


@given(messages, st.binary(min_size=1, max_size=20))
def test_trailing_bytes_are_refused(message: Struct, tail: bytes) -> None:
    with pytest.raises(DecodeError):
        DECODERS[KINDS.index(type(message))](encode(message) + tail)


@given(messages, st.lists(anything, min_size=1, max_size=3))
def test_a_later_version_may_append_anything(message: Struct, more: list[Any]) -> None:
    array = msgspec.msgpack.decode(encode(message))
    assert DECODERS[KINDS.index(type(message))](msgspec.msgpack.encode(array + more)) == message


@given(st.binary(max_size=300))
@example(b"")
@example(b"\x90")
def test_arbitrary_bytes(data: bytes) -> None:
    decodes_whole_or_refuses(data)


@given(anything)
def test_arbitrary_values(value: object) -> None:
    decodes_whole_or_refuses(msgspec.msgpack.encode(value))


@given(messages, st.data())
def test_a_message_with_a_byte_changed(message: Struct, data: st.DataObject) -> None:
    damaged = bytearray(encode(message))
    damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    decodes_whole_or_refuses(bytes(damaged))


# --- addresses ---------------------------------------------------------------------------------

schemes = st.from_regex(r"[a-z][a-z0-9]{1,15}", fullmatch=True).filter(lambda s: s != "relay")
labels = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
ips = st.ip_addresses().map(lambda ip: getattr(ip, "ipv4_mapped", None) or ip)
hosts = ips.map(str) | st.lists(labels, min_size=1, max_size=4).map(".".join)
queries = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)
addresses = st.builds(Address, schemes, hosts, st.integers(0, 0xFFFF), queries)
nearly = st.text(st.sampled_from("tcp/[]:.?-0123456789abcdefx%@ \n\0é"), max_size=60).map("tcp/".__add__)


@given(addresses)
def test_every_address_survives_its_text(address: Address) -> None:
    again = parse_address(str(address))
    assert again == address
    assert str(again) == str(address)


@given(st.text(max_size=MAX_ADDRESS_LENGTH + 1) | nearly | addresses.map(str).map(str.upper))
def test_any_text_is_parsed_to_one_form_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except DecodeError:
        return
    assert parse_address(str(address)) == address
    assert address.group
    assert address.wide_group


@given(st.ip_addresses(v=4), st.integers(0, 255), st.integers(0, 0xFFFF))
def test_a_v4_neighbour_is_of_the_same_group_however_it_is_written(
    ip: ipaddress.IPv4Address, last: int, port: int
) -> None:
    neighbour = ipaddress.IPv4Address(int(ip) & ~0xFF | last)
    group = parse_address(f"tcp/{ip}:1").group
    assert parse_address(f"udp/{neighbour}:{port}").group == group
    assert parse_address(f"tcp/[::ffff:{neighbour}]:{port}").group == group


@given(st.ip_addresses(v=6), st.integers(0, 2**96 - 1))
def test_a_v6_holder_of_one_32_prefix_has_one_wide_group(ip: ipaddress.IPv6Address, low: int) -> None:
    assume(int(ip) >> 96)  # the all-zero prefix holds the IPv4-mapped addresses
    other = ipaddress.IPv6Address(int(ip) >> 96 << 96 | low)
    first, second = parse_address(f"tcp/[{ip}]:1"), parse_address(f"tcp/[{other}]:1")
    assert first.wide_group == second.wide_group
    assert (first.group == second.group) == (int(ip) >> 80 == int(other) >> 80)
