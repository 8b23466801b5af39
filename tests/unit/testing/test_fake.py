"""The fake suite keeps the lengths and the errors of the real ones, and repeats itself."""

from __future__ import annotations

from typing import Any

import pytest

from pqdht.crypto.api import SUITES, Provider
from pqdht.errors import BadSignature, DecodeError
from pqdht.testing.fake import FakeProvider, fake_suite

SIGNERS = ("ML-DSA-65", "ML-DSA-87")
KEMS = ("MLKEM768", "MLKEM1024", "XWing")


@pytest.mark.parametrize("name", SIGNERS)
def test_signer_lengths_are_those_of_the_real_one(name: str, provider: Provider) -> None:
    def lengths(p: Provider) -> list[Any]:
        s = p.signer(name)
        key = s.generate()
        signature = key.sign(b"message", b"ctx")
        made = [len(key.seed), len(key.public), len(signature)]
        assert made == [s.seed_size, s.public_size, s.signature_size]
        return [s.name, *made]

    assert lengths(FakeProvider(1)) == lengths(provider)


@pytest.mark.parametrize("name", KEMS)
def test_kem_lengths_are_those_of_the_real_one(name: str, provider: Provider) -> None:
    def lengths(p: Provider) -> list[Any]:
        k = p.kem(name)
        key = k.generate()
        ciphertext, secret = k.public_key(key.public).encapsulate()
        made = [len(key.seed), len(key.public), len(ciphertext)]
        assert made == [k.seed_size, k.public_size, k.ciphertext_size]
        return [k.name, *made, len(secret)]

    assert lengths(FakeProvider(1)) == lengths(provider)


def test_puzzle_digest_length_and_dependence(provider: Provider) -> None:
    fake = FakeProvider(1)
    digest = fake.puzzle_digest(b"s" * 40, b"t" * 16)
    assert len(digest) == len(provider.puzzle_digest(b"s" * 40, b"t" * 16))
    assert fake.puzzle_digest(b"s" * 40, b"u" * 16) != digest
    assert fake.puzzle_digest(b"r" * 40, b"t" * 16) != digest
    assert FakeProvider(2).puzzle_digest(b"s" * 40, b"t" * 16) == digest


@pytest.mark.parametrize("name", SIGNERS)
def test_verify_notices_every_change(name: str) -> None:
    signer = FakeProvider(1).signer(name)
    key = signer.generate()
    verify = signer.verify_key(key.public)
    signature = key.sign(b"message", b"ctx")
    verify.verify(signature, b"message", b"ctx")
    flipped = [bytes((*signature[:i], signature[i] ^ 1, *signature[i + 1 :])) for i in (0, 31, 32, -2)]
    for wrong in (*flipped, signature[:-1], signature + b"\0", b""):
        with pytest.raises(BadSignature):
            verify.verify(wrong, b"message", b"ctx")
    for message, ctx in ((b"messagf", b"ctx"), (b"message", b"cty"), (b"xmessage", b"ct"), (b"", b"")):
        with pytest.raises(BadSignature):
            verify.verify(signature, message, ctx)
    others = [signer.generate().public, key.public[:-1] + b"\1", b"\1" + key.public[1:]]
    for other in others:
        with pytest.raises(BadSignature):
            signer.verify_key(other).verify(signature, b"message", b"ctx")


def test_context_and_message_do_not_run_together() -> None:
    key = FakeProvider(1).signer("ML-DSA-65").generate()
    assert key.sign(b"bc", b"a") != key.sign(b"c", b"ab")
    with pytest.raises(ValueError, match="256 bytes"):
        key.sign(b"message", bytes(256))


@pytest.mark.parametrize("name", KEMS)
def test_only_the_right_key_and_ciphertext_give_the_secret(name: str) -> None:
    kem = FakeProvider(1).kem(name)
    key, other = kem.generate(), kem.generate()
    ciphertext, secret = kem.public_key(key.public).encapsulate()
    assert key.decapsulate(ciphertext) == secret
    assert other.decapsulate(ciphertext) != secret
    assert key.decapsulate(ciphertext[:-1] + b"\1") != secret
    assert kem.public_key(key.public).encapsulate()[0] != ciphertext
    for wrong in (ciphertext[:-1], ciphertext + b"\0", b""):
        with pytest.raises(DecodeError):
            key.decapsulate(wrong)


def test_wrong_lengths_raise_what_the_api_documents() -> None:
    provider = FakeProvider(1)
    for name in KEMS:
        kem = provider.kem(name)
        for size in (0, kem.public_size - 1, kem.public_size + 1):
            with pytest.raises(DecodeError, match="must be"):
                kem.public_key(bytes(size))
        with pytest.raises(DecodeError, match="range"):
            kem.public_key(b"\xff" * kem.public_size)
        with pytest.raises(ValueError, match="must be"):
            kem.private_key(bytes(kem.seed_size + 1))
    for name in SIGNERS:
        signer = provider.signer(name)
        with pytest.raises(DecodeError, match="must be"):
            signer.verify_key(bytes(signer.public_size + 1))
        with pytest.raises(ValueError, match="must be"):
            signer.signing_key(bytes(signer.seed_size - 1))
    with pytest.raises(KeyError):
        provider.kem("RSA")
    with pytest.raises(KeyError):
        provider.signer("RSA")


def test_keys_come_back_from_their_seeds_under_any_provider() -> None:
    for number in SUITES:
        mine, theirs = fake_suite(number, 1), fake_suite(number, 2)
        key = mine.node_signer.generate()
        assert theirs.node_signer.signing_key(key.seed).public == key.public
        kem_key = mine.kem.generate()
        ciphertext, secret = mine.kem.public_key(kem_key.public).encapsulate()
        assert theirs.kem.private_key(kem_key.seed).decapsulate(ciphertext) == secret


def test_same_seed_same_bytes() -> None:
    def draw(seed: int) -> list[bytes]:
        suite = fake_suite(1, seed)
        key = suite.kem.generate()
        ciphertext, _ = suite.kem.public_key(key.public).encapsulate()
        return [key.seed, ciphertext, suite.random_bytes(32), suite.owner_signer.generate().public]

    assert draw(7) == draw(7)
    assert all(a != b for a, b in zip(draw(7), draw(8), strict=True))
    # pinned: a replay recorded today is a replay tomorrow, on any machine
    assert fake_suite(1, 7).random_bytes(8).hex() == "38b4e652e44da7f2"


def test_the_suites_name_the_same_algorithms() -> None:
    names = [(s.node_signer.name, s.owner_signer.name, s.kem.name) for s in map(fake_suite, SUITES)]
    assert names == [
        ("ML-DSA-65", "ML-DSA-87", "XWing"),
        ("ML-DSA-87", "ML-DSA-87", "MLKEM1024"),
        ("ML-DSA-65", "ML-DSA-65", "MLKEM768"),
    ]
    with pytest.raises(ValueError, match="no suite 4"):
        fake_suite(4)
