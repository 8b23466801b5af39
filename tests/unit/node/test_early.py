"""What of an answer travels in the handshake."""

from __future__ import annotations

from pqdht.channel.hello import MAX_EARLY
from pqdht.constants import PROTOCOL_VERSION
from pqdht.crypto.api import make_suite
from pqdht.crypto.batch import MAX_BATCH, depth
from pqdht.node.early import ENVELOPE_ROOM, fit_early
from pqdht.testing.fake import FakeProvider
from pqdht.wire.codec import encode
from pqdht.wire.contact import Contact
from pqdht.wire.messages import Envelope, Nodes, Pong, Values, WireRecord

SUITE = make_suite(1, FakeProvider(1))
ROOM = MAX_EARLY - SUITE.node_signer.signature_size - ENVELOPE_ROOM


def contacts(n: int, keys: int) -> tuple[Contact, ...]:
    return tuple(
        Contact(
            signing_key_hash=i.to_bytes(32, "big"),
            kem_key_hash=bytes(32),
            born=20_000,
            nonce=bytes(8),
            digest=bytes(32),
            addresses=("tcp/203.0.113.5:4733",),
            kem_key=bytes(1216) if i < keys else None,
        )
        for i in range(n)
    )


def values(record_bytes: int, n: int, keys: int) -> Values:
    return Values(bytes(32), (WireRecord(bytes(record_bytes), bytes(4627)),), (), contacts(n, keys))


def test_the_room_for_the_envelope_is_enough() -> None:
    proof = 68 + 32 * depth(MAX_BATCH) + SUITE.node_signer.signature_size
    some = bytes(32)
    largest = Envelope(
        PROTOCOL_VERSION, 255, bytes(8), some, some, some, 2**62, some, bytes(ROOM), bytes(proof)
    )
    assert len(encode(largest)) <= MAX_EARLY


def test_what_fits_stays_as_it_is() -> None:
    for body in (Pong(1), Nodes(bytes(32), contacts(20, 2))):
        assert fit_early(body, SUITE) is body


def test_a_record_and_all_contacts_fit_without_the_keys() -> None:
    body = values(2900, 20, 2)  # 200 bytes of value
    assert len(encode(body)) > ROOM
    fitted = fit_early(body, SUITE)
    assert isinstance(fitted, Values)
    assert fitted.records == body.records
    assert [c.signing_key_hash for c in fitted.contacts] == [c.signing_key_hash for c in body.contacts]
    assert all(c.kem_key is None for c in fitted.contacts)
    assert len(encode(fitted)) <= ROOM


def test_where_it_is_still_too_much_the_farthest_contacts_are_left_out() -> None:
    fitted = fit_early(values(6000, 20, 2), SUITE)
    assert isinstance(fitted, Values)
    assert 0 < len(fitted.contacts) < 20
    assert fitted.contacts[0].signing_key_hash == bytes(32)
    assert len(encode(fitted)) <= ROOM
    full = fit_early(values(ROOM - 4627 - 120, 20, 2), SUITE)
    assert isinstance(full, Values)
    assert full.contacts == ()
    assert len(encode(full)) <= ROOM


def test_what_cannot_fit_is_asked_again() -> None:
    assert fit_early(values(ROOM, 3, 0), SUITE) is None
