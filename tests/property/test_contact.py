"""Any contact is verified or refused by a documented error; only the one that was solved is verified."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pqdht.constants import DAY_MS, MAX_ADDRESSES, TESTNET
from pqdht.crypto import puzzle
from pqdht.crypto.labels import network_tag
from pqdht.errors import BadPuzzle, DecodeError
from pqdht.identity.contact import ContactVerifier, VerifiedContact
from pqdht.identity.keys import new_commit
from pqdht.testing.fake import fake_suite
from pqdht.wire.codec import Decoder, encode
from pqdht.wire.contact import Contact

SUITE = fake_suite(1)
TAG = network_tag(TESTNET.name, TESTNET.genesis_salt, 1)
NOW = 20_000 * DAY_MS
UNSOLVED = new_commit(SUITE, TAG, 20_000)
NODE = UNSOLVED.solved(
    puzzle.search_range(SUITE.provider, puzzle.salt(TAG), UNSOLVED.commit, 4, 0, 10_000) or b""
)
PUBLIC = replace(TESTNET, private_addresses=False)
decode = Decoder(Contact, "contact")

ids = st.binary(min_size=32, max_size=32)
hosts = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
    st.sampled_from(["a.example", "x"]),
)
addresses = st.one_of(
    st.builds("tcp/{}:{}".format, hosts, st.integers(0, 70_000)),
    st.text(max_size=20),
    st.just("tcp/127.0.0.1:1"),
)
few_addresses = st.lists(addresses, max_size=MAX_ADDRESSES).map(tuple)
changes: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "signing_key_hash": ids,
        "kem_key_hash": ids,
        "born": st.integers(0, 2**32 - 1),
        "nonce": st.binary(min_size=8, max_size=8),
        "digest": ids | st.just(bytes(32)),
        "addresses": few_addresses,
        "kem_key": st.binary(min_size=1, max_size=40) | st.just(NODE.kem.public),
        "features": st.integers(0, 2**63 - 1),
    },
)
BOUND = ("signing_key_hash", "kem_key_hash", "born", "nonce", "digest")


def verify(contact: Contact, private: bool = True) -> VerifiedContact | None:
    verifier = ContactVerifier(SUITE, TESTNET if private else PUBLIC, TAG, cache_size=8)
    first = second = None
    with suppress(BadPuzzle, DecodeError):
        first = verifier.verify(contact, NOW)
    with suppress(BadPuzzle, DecodeError):
        second = verifier.verify(contact, NOW)
    assert first == second, "the cache changed the answer"
    return first


@given(changes)
def test_what_the_id_commits_to_cannot_be_changed(changed: dict[str, Any]) -> None:
    right = NODE.contact()
    contact = msgspec.structs.replace(right, **changed)
    found = verify(contact)
    untouched = all(getattr(contact, f) == getattr(right, f) for f in BOUND)
    right_key = contact.kem_key in (None, NODE.kem.public)
    assert (found is not None) == (untouched and right_key)
    if found is not None:
        assert found.node_id == NODE.node_id


@given(few_addresses, st.booleans())
def test_every_address_is_used_dropped_or_a_repetition(texts: tuple[str, ...], private: bool) -> None:
    found = verify(NODE.contact(texts), private)
    assert found is not None
    assert len(found.addresses) + len(found.dropped) <= len(texts)
    assert set(found.dropped) <= set(texts)
    assert found.contact.addresses == tuple(str(a) for a in found.addresses)
    assert len(set(found.contact.addresses)) == len(found.addresses)
    if not private:
        assert all(a.is_public for a in found.addresses)


@given(few_addresses, st.booleans(), st.booleans())
def test_what_is_passed_on_verifies_elsewhere_as_the_same(
    texts: tuple[str, ...], private: bool, with_key: bool
) -> None:
    found = verify(NODE.contact(texts, with_key=True), private)
    assert found is not None
    wire = decode(encode(found.to_wire(with_key)))
    elsewhere = verify(wire, private)
    assert elsewhere is not None
    assert elsewhere.dropped == ()
    assert (elsewhere.node_id, elsewhere.addresses) == (found.node_id, found.addresses)
    assert (elsewhere.kem_key is not None) == with_key
