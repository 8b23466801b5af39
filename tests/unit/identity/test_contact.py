"""Contacts: every refusal, what the cache may and may not remember, what is passed on."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest

from pqdht.constants import DAY_MS, MAIN, TESTNET
from pqdht.crypto import puzzle
from pqdht.crypto.labels import network_tag
from pqdht.errors import BadPuzzle, DecodeError
from pqdht.identity.contact import ContactVerifier, VerdictCache, VerifiedContact, check_born, claimed_id
from pqdht.identity.keys import NodeIdentity, _commit, new_commit
from pqdht.ids import leading_zero_bits
from pqdht.testing.fake import fake_suite
from pqdht.wire.codec import encode
from pqdht.wire.contact import Contact

SUITE = fake_suite(1)
TAG = network_tag(TESTNET.name, TESTNET.genesis_salt, 1)
BORN = 20_000
NOW = BORN * DAY_MS + 5
PUBLIC = replace(TESTNET, private_addresses=False)


def solve(bits: int = 4) -> NodeIdentity:
    unsolved = new_commit(SUITE, TAG, BORN)
    nonce = puzzle.search_range(SUITE.provider, puzzle.salt(TAG), unsolved.commit, bits, 0, 1 << 20)
    assert nonce is not None
    return unsolved.solved(nonce)


NODE = solve()


def change(contact: Contact, **fields: object) -> Contact:
    return msgspec.structs.replace(contact, **fields)


@pytest.fixture
def verifier() -> ContactVerifier:
    return ContactVerifier(SUITE, TESTNET, TAG)


def test_a_right_contact_is_verified(verifier: ContactVerifier) -> None:
    found = verifier.verify(NODE.contact(("tcp/127.1.2.3:4733",), with_key=True), NOW)
    assert found.node_id == NODE.node_id == verifier.claimed_id(NODE.contact())
    assert found.bits == NODE.bits
    assert found.kem_key == NODE.kem.public
    assert [str(a) for a in found.addresses] == ["tcp/127.1.2.3:4733"]
    assert (found.group, found.wide_group) == ("127.1.2.0/24", "127.1.2.0/24")
    assert found.dropped == ()


def test_only_a_verifier_makes_one(verifier: ContactVerifier) -> None:
    found = verifier.verify(NODE.contact(), NOW)
    with pytest.raises(TypeError, match="ContactVerifier"):
        VerifiedContact(found.node_id, found.contact, (), (), found._rules, object())
    with pytest.raises((TypeError, ValueError)):
        replace(found, node_id=bytes(32))  # type: ignore[call-arg, arg-type]


def test_both_keys_day_and_network_are_bound(verifier: ContactVerifier) -> None:
    right = NODE.contact()
    for wrong in (
        change(right, signing_key_hash=bytes(32)),
        change(right, kem_key_hash=bytes(32)),
        change(right, born=BORN - 1),
        change(right, nonce=b"\xff" * 8),
        change(right, digest=bytes(32)),
    ):
        with pytest.raises(BadPuzzle, match="digest"):
            verifier.verify(wrong, NOW)
    other_network = ContactVerifier(SUITE, TESTNET, b"x" * 32)
    with pytest.raises(BadPuzzle, match="digest"):
        other_network.verify(right, NOW)
    assert claimed_id(b"x" * 32, right) != NODE.node_id


def test_an_easy_puzzle_is_refused_before_any_argon2() -> None:
    hard = ContactVerifier(SUITE, replace(TESTNET, puzzle_schedule=((0, 60),)), TAG)
    with pytest.raises(BadPuzzle, match=f"{NODE.bits} bits"):
        hard.verify(NODE.contact(), NOW)
    assert hard.argon2_runs == 0


def test_the_schedule_follows_the_day_of_birth() -> None:
    bits = leading_zero_bits(NODE.digest)
    harder_tomorrow = replace(TESTNET, puzzle_schedule=((0, bits), (BORN + 1, 200)))
    verifier = ContactVerifier(SUITE, harder_tomorrow, TAG)
    assert verifier.verify(NODE.contact(), NOW + DAY_MS).node_id == NODE.node_id
    with pytest.raises(BadPuzzle):
        verifier.check_bits(change(NODE.contact(), born=BORN + 1))


def test_the_born_window_is_37_days_back_and_one_ahead() -> None:
    check_born(BORN, NOW + 37 * DAY_MS)
    check_born(BORN, NOW - DAY_MS)
    with pytest.raises(BadPuzzle, match="38 days old") as old:
        check_born(BORN, NOW + 38 * DAY_MS)
    with pytest.raises(BadPuzzle, match="2 days ahead") as ahead:
        check_born(BORN, NOW - 2 * DAY_MS)
    assert (old.value.fields["age"], ahead.value.fields["age"]) == (38, -2)


def test_the_born_window_is_never_cached(verifier: ContactVerifier) -> None:
    verifier.verify(NODE.contact(), NOW)
    with pytest.raises(BadPuzzle, match="38 days old"):
        verifier.verify(NODE.contact(), NOW + 38 * DAY_MS)


def test_the_digest_is_checked_once_right_or_wrong(verifier: ContactVerifier) -> None:
    wrong = change(NODE.contact(), digest=bytes(32))
    for _ in range(3):
        verifier.verify(NODE.contact(), NOW)
        with pytest.raises(BadPuzzle, match="digest"):
            verifier.verify(wrong, NOW)
    assert (verifier.argon2_runs, verifier.hits) == (2, 4)


def test_another_nonce_is_another_claim(verifier: ContactVerifier) -> None:
    """The id does not name the nonce, so the cache key must: a wrong nonce may not ride on a right one."""
    verifier.verify(NODE.contact(), NOW)
    with pytest.raises(BadPuzzle, match="digest"):
        verifier.verify(change(NODE.contact(), nonce=b"\xff" * 8), NOW)
    verifier.verify(NODE.contact(), NOW)


def test_a_digest_checked_elsewhere_is_remembered(verifier: ContactVerifier) -> None:
    contact = NODE.contact()
    assert verifier.known(contact) is None
    verifier.check_digest(contact)
    verifier.remember(contact, True)
    assert verifier.known(contact) is True
    verifier.verify(contact, NOW)
    assert (verifier.argon2_runs, verifier.hits) == (1, 1)


def test_a_kem_key_must_have_the_length_and_be_the_one_committed_to(verifier: ContactVerifier) -> None:
    with pytest.raises(BadPuzzle, match="KEM key"):
        verifier.verify(change(NODE.contact(), kem_key=solve().kem.public), NOW)
    with pytest.raises(DecodeError, match="1216 bytes"):
        verifier.verify(change(NODE.contact(), kem_key=b"short"), NOW)
    found = verifier.verify(NODE.contact(), NOW)
    assert found.kem_key is None
    assert found.with_key(NODE.kem.public).kem_key == NODE.kem.public
    with pytest.raises(BadPuzzle, match="KEM key"):
        found.with_key(solve().kem.public)
    with pytest.raises(DecodeError, match="1216 bytes"):
        found.with_key(b"")


def test_what_is_no_kem_key_is_refused_though_committed_to() -> None:
    """Whoever makes an id may commit to anything; encapsulating to it must not fail later."""

    class NoKey:
        public = NODE.kem.public[:32] + b"\xff" * (len(NODE.kem.public) - 32)
        seed = b""

        def decapsulate(self, ciphertext: bytes) -> bytes:
            raise NotImplementedError

    unsolved = _commit(SUITE, TAG, NODE.signing, NoKey(), BORN)
    nonce = puzzle.search_range(SUITE.provider, puzzle.salt(TAG), unsolved.commit, 4, 0, 1 << 20)
    assert nonce is not None
    bad = unsolved.solved(nonce)
    verifier = ContactVerifier(SUITE, TESTNET, TAG)
    for _ in range(2):
        with pytest.raises(DecodeError, match="range"):
            verifier.verify(bad.contact(with_key=True), NOW)
    assert verifier.argon2_runs == 0
    with pytest.raises(DecodeError, match="range"):
        verifier.verify(bad.contact(), NOW).with_key(NoKey.public)


def test_long_addresses_are_dropped_so_that_a_contact_stays_small(verifier: ContactVerifier) -> None:
    long = [f"obfs4/203.0.113.{i}:443?{'c' * 200}" for i in range(4)]
    found = verifier.verify(NODE.contact((*long[:3], "tcp/203.0.113.9:4733")), NOW)
    assert [str(a) for a in found.addresses] == [*long[:2], "tcp/203.0.113.9:4733"]
    assert found.dropped == (long[2],)
    most = verifier.verify(NODE.contact(("obfs4/1.1.1.1:1?" + "c" * (477 - 16),)), NOW)
    assert len(most.addresses) == 1
    assert len(encode(most.to_wire(with_key=False))) <= 600
    assert verifier.verify(NODE.contact(("obfs4/1.1.1.1:1?" + "c" * (478 - 16),)), NOW).addresses == ()


def test_bad_addresses_are_dropped_and_noted() -> None:
    texts = ("tcp/8.8.8.8:4733", "nonsense", "tcp/10.0.0.1:4733", "tcp/[2A00:1450::1]:4733")
    found = ContactVerifier(SUITE, PUBLIC, TAG).verify(NODE.contact(texts), NOW)
    assert [str(a) for a in found.addresses] == ["tcp/8.8.8.8:4733", "tcp/[2a00:1450::1]:4733"]
    assert found.dropped == ("nonsense", "tcp/10.0.0.1:4733")
    assert found.contact.addresses == ("tcp/8.8.8.8:4733", "tcp/[2a00:1450::1]:4733")


@pytest.mark.parametrize("text", ["tcp/0.0.0.0:4733", "tcp/[::]:1", "udp/224.0.0.1:4733", "tcp/127.0.0.1:0"])
def test_nobody_can_be_dialled_there_even_on_a_test_network(verifier: ContactVerifier, text: str) -> None:
    assert verifier.verify(NODE.contact((text,)), NOW).dropped == (text,)


@pytest.mark.parametrize(
    "text", ["tcp/127.0.0.1:1", "tcp/192.168.1.1:1", "tcp/169.254.0.1:1", "tcp/[::1]:1", "tcp/[fe80::1]:1"]
)
def test_private_addresses_belong_to_test_networks_only(verifier: ContactVerifier, text: str) -> None:
    assert verifier.verify(NODE.contact((text,)), NOW).dropped == ()
    assert ContactVerifier(SUITE, PUBLIC, TAG).verify(NODE.contact((text,)), NOW).addresses == ()


def test_a_relay_is_an_address_without_a_group(verifier: ContactVerifier) -> None:
    relay = f"relay/{'0' * 64}/{'1' * 64}"
    found = verifier.verify(NODE.contact((relay, "tcp/[2001:db8:1:2::3]:4")), NOW)
    assert [str(a) for a in found.addresses] == [relay, "tcp/[2001:db8:1:2::3]:4"]
    assert (found.group, found.wide_group) == ("2001:db8:1::/48", "2001:db8::/32")
    alone = found.with_addresses([relay])
    assert (alone.group, alone.wide_group) == ("", "")


def test_new_addresses_stand_under_the_same_rules() -> None:
    found = ContactVerifier(SUITE, PUBLIC, TAG).verify(NODE.contact(), NOW)
    texts = [f"tcp/8.8.{i}.8:1" for i in range(5)] + ["tcp/8.8.0.8:1", "tcp/10.0.0.1:1"]
    moved = found.with_addresses(texts)
    assert [str(a) for a in moved.addresses] == texts[:4]
    assert moved.dropped == ("tcp/8.8.4.8:1", "tcp/10.0.0.1:1")
    assert moved.node_id == found.node_id


def test_the_key_is_passed_on_only_where_asked_for(verifier: ContactVerifier) -> None:
    found = verifier.verify(NODE.contact(("tcp/127.0.0.1:1", "junk"), with_key=True), NOW)
    assert found.to_wire(with_key=True) == NODE.contact(("tcp/127.0.0.1:1",), with_key=True)
    assert found.to_wire(with_key=False) == NODE.contact(("tcp/127.0.0.1:1",))


def test_main_asks_16_bits() -> None:
    tag = network_tag(MAIN.name, MAIN.genesis_salt, 1)
    with pytest.raises(BadPuzzle, match="asks 16"):
        ContactVerifier(SUITE, MAIN, tag).verify(change(NODE.contact(), digest=b"\0\1" + bytes(30)), NOW)


def test_wrong_claims_cannot_push_out_right_ones() -> None:
    cache = VerdictCache(4)
    right = [bytes([i]) for i in range(4)]
    for key in right:
        cache.put(key, True)
    for i in range(100):
        cache.put(b"wrong%d" % i, False)
    assert [cache.get(key) for key in right] == [True] * 4
    assert cache.get(b"wrong99") is False
    assert cache.get(b"wrong0") is None


def test_the_cache_is_bounded_and_forgets_the_least_recently_used() -> None:
    cache = VerdictCache(2)
    cache.put(b"a", True)
    cache.put(b"b", True)
    assert cache.get(b"a") is True
    cache.put(b"c", True)
    assert [cache.get(k) for k in (b"a", b"b", b"c")] == [True, None, True]


def test_the_bounded_cache_of_a_verifier_is_only_slower_never_wrong() -> None:
    verifier = ContactVerifier(SUITE, TESTNET, TAG, cache_size=1)
    other = solve()
    for node in (NODE, other, NODE):
        assert verifier.verify(node.contact(), NOW).node_id == node.node_id
    assert verifier.argon2_runs == 3


def test_a_contact_told_again_is_not_made_again_until_it_is_pushed_out() -> None:
    verifier = ContactVerifier(SUITE, TESTNET, TAG, cache_size=1)
    told = NODE.contact(("tcp/127.1.1.1:1",))
    first = verifier.verify(told, NOW)
    assert verifier.verify(change(told), NOW) is first
    elsewhere = verifier.verify(change(told, addresses=("tcp/127.1.2.1:1",)), NOW)
    assert elsewhere.addresses != first.addresses
    assert verifier.verify(told, NOW) == first
    assert verifier.verify(told, NOW) is not first


def test_the_size_of_a_contact_is_pinned() -> None:
    """Section 2 says about 160 bytes without key."""
    assert len(encode(NODE.contact())) == 120
    assert len(encode(NODE.contact(("tcp/203.0.113.5:4733",)))) == 141
    four = tuple(f"tcp/203.0.113.{i}:4733" for i in range(100, 104))
    assert len(encode(NODE.contact(four))) == 212
    assert len(encode(NODE.contact(with_key=True))) == 120 + 2 + 1216
