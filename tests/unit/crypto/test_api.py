"""The suites: which algorithms, and sizes that no provider may change."""

from __future__ import annotations

import pytest

from pqdht.crypto.api import SUITES, Provider, make_suite

SIGNERS = {"ML-DSA-65": (32, 1952, 3309), "ML-DSA-87": (32, 2592, 4627)}
KEMS = {"XWing": (32, 1216, 1120), "MLKEM768": (64, 1184, 1088), "MLKEM1024": (64, 1568, 1568)}
ALGORITHMS = {
    1: ("ML-DSA-65", "ML-DSA-87", "XWing"),
    2: ("ML-DSA-87", "ML-DSA-87", "MLKEM1024"),
    3: ("ML-DSA-65", "ML-DSA-65", "MLKEM768"),
}


def test_suites(provider: Provider) -> None:
    assert set(SUITES) == set(ALGORITHMS)
    for number, names in ALGORITHMS.items():
        suite = make_suite(number, provider)
        assert (suite.node_signer.name, suite.owner_signer.name, suite.kem.name) == names
        assert suite.number == number
    with pytest.raises(ValueError, match="no suite 4"):
        make_suite(4, provider)


@pytest.mark.parametrize("name", SIGNERS)
def test_signer_sizes(provider: Provider, name: str) -> None:
    signer = provider.signer(name)
    key = signer.generate()
    assert (signer.seed_size, signer.public_size, signer.signature_size) == SIGNERS[name]
    assert (len(key.seed), len(key.public), len(key.sign(b"m", b"ctx"))) == SIGNERS[name]


@pytest.mark.parametrize("name", KEMS)
def test_kem_sizes(provider: Provider, name: str) -> None:
    kem = provider.kem(name)
    key = kem.generate()
    ciphertext, secret = kem.public_key(key.public).encapsulate()
    assert (kem.seed_size, kem.public_size, kem.ciphertext_size) == KEMS[name]
    assert (len(key.seed), len(key.public), len(ciphertext)) == KEMS[name]
    assert len(secret) == 32
    assert key.decapsulate(ciphertext) == secret


def test_random_bytes(provider: Provider) -> None:
    suite = make_suite(1, provider)
    assert [len(suite.random_bytes(n)) for n in (0, 1, 32)] == [0, 1, 32]
    assert suite.random_bytes(32) != suite.random_bytes(32)


@pytest.mark.parametrize("kind", ["kem", "signer"])
def test_unknown_algorithm(provider: Provider, kind: str) -> None:
    with pytest.raises(KeyError):
        getattr(provider, kind)("Kyber768")
