"""Payloads of handshake messages, what they say of a peer, and the strike register."""

from __future__ import annotations

import pytest

from pqdht.channel.hello import (
    MAX_EARLY,
    MAX_PAYLOAD,
    AddressPart,
    Hello,
    Payload,
    PeerHello,
    StrikeRegister,
    check_key,
    choose_version,
    decode_address_part,
    decode_payload,
    holds_none,
)
from pqdht.constants import MAX_ADDRESS_LENGTH, MAX_ADDRESSES, MINUTE_MS
from pqdht.errors import DecodeError, HandshakeFailed, WireCode
from pqdht.identity.keys import public_key_hash
from pqdht.ids import NodeId
from pqdht.wire.codec import encode
from pqdht.wire.contact import Contact
from tests.unit.channel.peers import NOW

BIG = 2**63 - 1
KEY = b"k" * 1952


def hello(key: bytes | None = KEY) -> Hello:
    return Hello(bytes(32), key, 2**32 - 1, bytes(8), bytes(32), 1, 255, BIG, BIG)


def peer() -> PeerHello:
    contact = Contact(public_key_hash(KEY), bytes(32), 1, bytes(8), bytes(32), kem_key=b"kem")
    return PeerHello(
        node_id=NodeId(bytes(32)),
        contact=contact,
        signing_key=b"",
        kem_key=b"kem",
        version=1,
        features=0,
        time=NOW,
        replayable=False,
    )


def test_the_largest_payload_fits() -> None:
    longest = "a" * MAX_ADDRESS_LENGTH
    part = AddressPart((longest,) * MAX_ADDRESSES, longest, bytes(32), None, bytes(64))
    payload = Payload(hello(b"k" * 2592), part, bytes(MAX_EARLY), 65_535, True)
    raw = encode(payload)
    assert len(raw) <= MAX_PAYLOAD
    assert decode_payload(raw) == payload


def test_sizes() -> None:
    assert len(encode(Payload())) == 6
    assert len(encode(hello())) == 2060
    assert len(encode(hello(None))) == 106
    assert len(encode(AddressPart((), ""))) == 6


@pytest.mark.parametrize(
    "payload",
    [
        Payload(early=bytes(MAX_EARLY + 1)),
        Payload(early=b""),
        Payload(addresses=AddressPart(("a",) * (MAX_ADDRESSES + 1), "")),
        Payload(addresses=AddressPart(("a" * (MAX_ADDRESS_LENGTH + 1),), "")),
        Payload(addresses=AddressPart((), "a" * (MAX_ADDRESS_LENGTH + 1))),
        Payload(addresses=AddressPart((), "", bytes(31))),
        Payload(addresses=AddressPart((), "", None, b"")),
        Payload(hello=Hello(bytes(31), None, 0, bytes(8), bytes(32), 1, 1, 0, 0)),
        Payload(hello=Hello(bytes(32), b"", 0, bytes(8), bytes(32), 1, 1, 0, 0)),
        Payload(hello=Hello(bytes(32), None, 2**32, bytes(8), bytes(32), 1, 1, 0, 0)),
        Payload(hello=Hello(bytes(32), None, 0, bytes(7), bytes(32), 1, 1, 0, 0)),
        Payload(hello=Hello(bytes(32), None, 0, bytes(8), bytes(32), 1, 256, 0, 0)),
        Payload(hello=Hello(bytes(32), None, 0, bytes(8), bytes(32), 1, 1, -1, 0)),
        Payload(code=65_536),
    ],
)
def test_out_of_bounds_is_refused(payload: Payload) -> None:
    with pytest.raises(DecodeError):
        decode_payload(encode(payload))


def test_a_later_version_may_append_fields() -> None:
    later = bytes([0x96]) + encode(Payload())[1:] + b"\xc0"
    assert decode_payload(later) == Payload()


def test_an_address_part_completes_what_is_known() -> None:
    part = AddressPart(("tcp/192.0.2.1:1",), "tcp/192.0.2.9:2", b"c" * 32, KEY)
    full = peer().with_address_part(encode(part))
    assert full.addresses == full.contact.addresses == ("tcp/192.0.2.1:1",)
    assert full.observed == "tcp/192.0.2.9:2"
    assert full.certificate == b"c" * 32
    assert full.signing_key == KEY
    assert full.with_address_part(encode(AddressPart((), ""))).signing_key == KEY


def test_an_address_part_cannot_swap_the_signing_key() -> None:
    with pytest.raises(HandshakeFailed) as failure:
        peer().with_address_part(encode(AddressPart((), "", None, b"another")))
    assert failure.value.fields["reason"] == "signing key"
    with pytest.raises(DecodeError):
        peer().with_address_part(b"\xff")
    with pytest.raises(DecodeError):
        decode_address_part(bytes(MAX_PAYLOAD + 1))


def test_check_key() -> None:
    check_key(KEY, public_key_hash(KEY))
    with pytest.raises(HandshakeFailed):
        check_key(KEY, bytes(32))


@pytest.mark.parametrize(
    ("ours", "theirs", "chosen"),
    [((1, 1), (1, 1), 1), ((1, 3), (2, 5), 3), ((2, 5), (1, 3), 3), ((1, 9), (4, 4), 4)],
)
def test_the_newest_common_version_is_chosen(
    ours: tuple[int, int], theirs: tuple[int, int], chosen: int
) -> None:
    assert choose_version(ours, theirs) == choose_version(theirs, ours) == chosen


@pytest.mark.parametrize("theirs", [(2, 3), (0, 0), (5, 1), (1, 0)])
def test_no_common_version(theirs: tuple[int, int]) -> None:
    with pytest.raises(HandshakeFailed) as failure:
        choose_version((1, 1), theirs)
    assert failure.value.fields["reason"] == "version"


def test_holds_none() -> None:
    assert holds_none(bytes(32)) is None


# --- strikes -----------------------------------------------------------------------------------

OK, REJECTED = WireCode.OK, WireCode.EARLY_REJECTED


def test_a_first_flight_is_served_once() -> None:
    strikes = StrikeRegister()
    assert strikes.strike(b"a", NOW, NOW) == OK
    assert strikes.strike(b"a", NOW, NOW) == REJECTED
    assert strikes.strike(b"a", NOW, NOW + 5 * MINUTE_MS) == REJECTED
    assert strikes.strike(b"b", NOW, NOW) == OK


def test_the_window_is_five_minutes_either_way() -> None:
    strikes = StrikeRegister()
    assert strikes.strike(b"a", NOW - 5 * MINUTE_MS, NOW) == OK
    assert strikes.strike(b"b", NOW + 5 * MINUTE_MS, NOW) == OK
    assert strikes.strike(b"c", NOW - 5 * MINUTE_MS - 1, NOW) == REJECTED
    assert strikes.strike(b"d", NOW + 5 * MINUTE_MS + 1, NOW) == REJECTED


def test_what_left_the_window_is_forgotten_and_stays_refused_when_the_clock_steps_back() -> None:
    strikes = StrikeRegister(window_ms=1000)
    assert strikes.strike(b"a", NOW, NOW) == OK
    assert strikes.strike(b"b", NOW + 2000, NOW + 2000) == OK
    assert len(strikes) == 1
    assert strikes.strike(b"a", NOW, NOW) == REJECTED


def test_at_capacity_the_window_shrinks_and_no_replay_gets_through() -> None:
    strikes = StrikeRegister(window_ms=1000, capacity=3)
    for n in range(5):
        assert strikes.strike(b"%d" % n, NOW + n, NOW) == OK
        assert len(strikes) <= 3
    for n in range(5):
        assert strikes.strike(b"%d" % n, NOW + n, NOW) == REJECTED
    assert strikes.strike(b"new but older than what was forgotten", NOW + 1, NOW) == REJECTED
    assert strikes.strike(b"new", NOW + 2, NOW) == OK
