"""A key made under one provider loads, signs and decapsulates under the other: 1,000 round trips."""

from __future__ import annotations

import random

import pytest

from pqdht.crypto.api import Provider
from pqdht.crypto.openssl import OpenSSLProvider
from pqdht.errors import BadSignature

ROUNDS = 1000
KEYS = 25  # per algorithm; expanding an ML-DSA seed for liboqs takes 10 ms


# Only with liboqs: the fixture `provider` skips by name where it is missing.
pytestmark = pytest.mark.parametrize("provider", ["liboqs"], indirect=True)


@pytest.fixture
def pair(provider: Provider) -> tuple[Provider, Provider]:
    return OpenSSLProvider(), provider


def test_signatures(pair: tuple[Provider, Provider]) -> None:
    dice = random.Random(204)
    for name in ("ML-DSA-65", "ML-DSA-87"):
        signers = [p.signer(name) for p in pair]
        keys = []
        for i in range(KEYS):
            made = signers[i % 2].generate()
            both = [s.signing_key(made.seed) for s in signers]
            assert both[0].public == both[1].public == made.public
            assert both[0].seed == both[1].seed == made.seed
            keys.append((both, [s.verify_key(made.public) for s in signers]))
        for i in range(ROUNDS // 2):
            signing, verifying = keys[i % KEYS]
            message, ctx = dice.randbytes(dice.randrange(500)), dice.randbytes(dice.randrange(256))
            signature = signing[i % 2].sign(message, ctx)
            verifying[1 - i % 2].verify(signature, message, ctx)
            with pytest.raises(BadSignature):
                verifying[1 - i % 2].verify(signature, message + b"\0", ctx)


def test_encapsulations_with_keys_from_seeds(pair: tuple[Provider, Provider]) -> None:
    dice = random.Random(203)
    for i in range(ROUNDS):
        name = ("XWing", "MLKEM768", "MLKEM1024")[i % 3]
        one, other = (p.kem(name) for p in (pair if i % 2 else pair[::-1]))
        key = one.private_key(dice.randbytes(one.seed_size))
        same = other.private_key(key.seed)
        assert same.public == key.public
        ciphertext, secret = other.public_key(key.public).encapsulate()
        assert key.decapsulate(ciphertext) == same.decapsulate(ciphertext) == secret
        # Implicit rejection must agree as well, or a handshake would fail differently.
        noise = dice.randbytes(one.ciphertext_size)
        assert key.decapsulate(noise) == same.decapsulate(noise) != secret


def test_public_keys_accepted_by_one_are_accepted_by_the_other(pair: tuple[Provider, Provider]) -> None:
    """Random bytes are almost never in range; a random key with one edge coefficient decides."""
    dice = random.Random(7)
    accepted = 0
    for name in ("MLKEM768", "MLKEM1024"):
        base = pair[0].kem(name).generate().public
        for _ in range(300):
            ek = bytearray(base)
            i = 3 * dice.randrange((len(ek) - 32) // 3)
            value = int.from_bytes(ek[i : i + 3], "little")
            shift = dice.choice([0, 12])
            value = value & ~(0xFFF << shift) | dice.choice([0, 3328, 3329, 4095]) << shift
            ek[i : i + 3] = value.to_bytes(3, "little")
            answers = []
            for p in pair:
                try:
                    p.kem(name).public_key(bytes(ek))
                    answers.append("accepted")
                except Exception as e:
                    answers.append(type(e).__name__)
            assert answers in (["accepted"] * 2, ["DecodeError"] * 2)
            accepted += answers[0] == "accepted"
    assert 200 < accepted < 400
