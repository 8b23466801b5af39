"""Identities: ids as section 2 defines them, secrets that never show."""

from __future__ import annotations

from hashlib import sha3_256

import pytest

from pqdht.constants import DAY_MS, TESTNET
from pqdht.crypto import puzzle
from pqdht.crypto.api import Provider, make_suite
from pqdht.crypto.labels import KEY_HASH, NODE_ID, OWNER_ID, PUZZLE_COMMIT, network_tag
from pqdht.identity.keys import (
    NodeIdentity,
    OwnerIdentity,
    UnsolvedIdentity,
    born_day,
    new_commit,
    owner_id_of,
    public_key_hash,
)
from pqdht.testing.fake import fake_suite

SUITE = fake_suite(1)
TAG = network_tag(TESTNET.name, TESTNET.genesis_salt, 1)
BORN = 20_000
NONCE = b"\0\0\0\0\0\0\0\x07"


def assemble(seed: bytes = b"s" * 32, born: int = BORN, tag: bytes = TAG) -> NodeIdentity:
    return NodeIdentity.assemble(SUITE, tag, seed, b"k" * 32, born, NONCE)


def test_the_node_id_is_the_hash_of_everything_it_commits_to() -> None:
    node = assemble()
    signing_hash = sha3_256(KEY_HASH + node.signing.public).digest()
    kem_hash = sha3_256(KEY_HASH + node.kem.public).digest()
    commit = sha3_256(PUZZLE_COMMIT + TAG + signing_hash + kem_hash + BORN.to_bytes(4, "big")).digest()
    digest = SUITE.provider.puzzle_digest(commit + NONCE, puzzle.salt(TAG))
    assert node.signing_key_hash == public_key_hash(node.signing.public) == signing_hash
    assert node.kem_key_hash == kem_hash
    assert node.digest == digest
    assert node.node_id == sha3_256(NODE_ID + commit + digest).digest()


def test_assembling_from_the_same_seeds_gives_the_same_identity() -> None:
    assert assemble() == assemble()


@pytest.mark.parametrize(
    "other", [assemble(seed=b"t" * 32), assemble(born=BORN + 1), assemble(tag=b"x" * 32)]
)
def test_key_day_and_network_change_the_node_id(other: NodeIdentity) -> None:
    assert other.node_id != assemble().node_id


def test_what_is_solved_is_what_was_committed_to() -> None:
    unsolved = new_commit(SUITE, TAG, BORN)
    nonce = puzzle.search_range(SUITE.provider, puzzle.salt(TAG), unsolved.commit, 4, 0, 10_000)
    assert nonce is not None
    node = unsolved.solved(nonce)
    assert node.bits >= 4
    again = UnsolvedIdentity.from_seeds(SUITE, TAG, node.signing.seed, node.kem.seed, BORN)
    assert again == unsolved
    assert again.solved(nonce) == node


def test_new_commits_have_new_keys() -> None:
    assert new_commit(SUITE, TAG, BORN).commit != new_commit(SUITE, TAG, BORN).commit


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="31"):
        assemble(seed=b"s" * 31)
    with pytest.raises(ValueError, match="8 bytes"):
        new_commit(SUITE, TAG, BORN).solved(b"1234567")
    with pytest.raises(ValueError, match="33"):
        OwnerIdentity.from_seed(SUITE, b"s" * 33)


def test_the_contact_tells_what_others_may_know() -> None:
    node = assemble()
    contact = node.contact(("tcp/203.0.113.5:4733",), features=3, with_key=True)
    assert (contact.signing_key_hash, contact.kem_key_hash) == (node.signing_key_hash, node.kem_key_hash)
    assert (contact.born, contact.nonce, contact.digest) == (BORN, NONCE, node.digest)
    assert (contact.addresses, contact.features) == (("tcp/203.0.113.5:4733",), 3)
    assert contact.kem_key == node.kem.public
    assert node.contact().kem_key is None


def test_the_owner_id_is_the_hash_of_the_owner_key() -> None:
    owner = OwnerIdentity.generate(SUITE)
    assert owner.owner_id == owner_id_of(owner.public) == sha3_256(OWNER_ID + owner.public).digest()
    assert OwnerIdentity.from_seed(SUITE, owner.signing.seed) == owner
    assert OwnerIdentity.generate(SUITE) != owner


def test_no_repr_shows_a_secret() -> None:
    node = assemble(seed=b"S" * 32)
    shown = [node, new_commit(SUITE, TAG, BORN), OwnerIdentity.from_seed(SUITE, b"S" * 32)]
    for text in map(repr, shown):
        assert "SSSS" not in text
        assert "kkkk" not in text
        assert "seed" not in text
    assert repr(node.node_id) in repr(node)


def test_days_are_counted_from_the_epoch() -> None:
    assert (born_day(0), born_day(DAY_MS - 1), born_day(DAY_MS)) == (0, 0, 1)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_real_providers_agree_on_a_node_id(provider: Provider, number: int) -> None:
    """Made with OpenSSL, assembled with the provider under test: the same identity."""
    from pqdht.crypto.providers import get_provider

    made_with = make_suite(number, get_provider("openssl"))
    made = new_commit(made_with, TAG, BORN).solved(NONCE)
    suite = make_suite(number, provider)
    loaded = NodeIdentity.assemble(suite, TAG, made.signing.seed, made.kem.seed, BORN, NONCE)
    assert loaded == made
    assert loaded.kem.public == made.kem.public
