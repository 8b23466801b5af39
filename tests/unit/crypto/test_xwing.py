"""X-Wing over each provider, against the draft's vectors and on odd X25519 inputs."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha3_256, shake_256
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pqdht.crypto.api import Kem, KemPrivateKey, Provider
from pqdht.crypto.xwing import XWing, XWingPublicKey
from pqdht.errors import DecodeError
from tests.unit.crypto import vectors

LABEL = bytes.fromhex("5c2e2f2f5e5c")


class FixedMlkem:
    """An ML-KEM-768 whose encapsulation gives one known answer (neither provider takes coins)."""

    name, seed_size, public_size, ciphertext_size = "MLKEM768", 64, 1184, 1088

    def __init__(self, real: Kem, ciphertext: bytes, secret: bytes) -> None:
        self._real = real
        self._answer = ciphertext, secret

    def generate(self) -> KemPrivateKey:
        return self._real.generate()

    def private_key(self, seed: bytes) -> KemPrivateKey:
        return self._real.private_key(seed)

    def public_key(self, public: bytes) -> FixedMlkem:
        self._real.public_key(public)
        return self

    def encapsulate(self) -> tuple[bytes, bytes]:
        return self._answer


def draft() -> Iterator[dict[str, bytes]]:
    cases: list[dict[str, Any]] = vectors.shared("xwing_draft.json")
    assert len(cases) == 3
    for case in cases:
        yield {name: bytes.fromhex(value) for name, value in case.items()}


def test_draft_key_generation_and_decapsulation(provider: Provider) -> None:
    for v in draft():
        key = provider.kem("XWing").private_key(v["seed"])
        assert key.public == v["pk"]
        assert key.seed == v["sk"]
        assert key.decapsulate(v["ct"]) == v["ss"]


def test_draft_encapsulation(provider: Provider) -> None:
    """With the vector's coins: X25519's from eseed; ML-KEM's part is the vector's, its secret ours."""
    mlkem = provider.kem("MLKEM768")
    for v in draft():
        ct_m = v["ct"][:1088]
        ss_m = mlkem.private_key(shake_256(v["seed"]).digest(96)[:64]).decapsulate(ct_m)
        public = XWingPublicKey(FixedMlkem(mlkem, ct_m, ss_m), v["pk"])
        ephemeral = X25519PrivateKey.from_private_bytes(v["eseed"][32:])
        assert public._encapsulate(ephemeral) == (v["ct"], v["ss"])


def test_round_trips(provider: Provider) -> None:
    kem = provider.kem("XWing")
    key = kem.generate()
    public = kem.public_key(key.public)
    seen = set()
    for _ in range(20):
        ciphertext, secret = public.encapsulate()
        assert key.decapsulate(ciphertext) == secret
        assert kem.private_key(key.seed).decapsulate(ciphertext) == secret
        seen.add((ciphertext, secret))
    assert len(seen) == 20


# Points of order 1, 2, 4 and 8 and their non-canonical forms (RFC 7748; Cremers and Jackson, 2019).
LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


@pytest.mark.parametrize("point", LOW_ORDER, ids=[p.hex()[:6] for p in LOW_ORDER])
def test_low_order_points_give_zeros_not_errors(provider: Provider, point: bytes) -> None:
    """As in the draft, and the same under both providers: the secret is ML-KEM's with ss_X = 0."""
    kem, mlkem = provider.kem("XWing"), provider.kem("MLKEM768")
    key = kem.private_key(bytes(range(32)))
    expanded = shake_256(key.seed).digest(96)
    inner = mlkem.private_key(expanded[:64])
    ct_m, ss_m = mlkem.public_key(inner.public).encapsulate()
    expected = sha3_256(ss_m + bytes(32) + point + key.public[1184:] + LABEL).digest()
    assert key.decapsulate(ct_m + point) == expected

    ciphertext, secret = kem.public_key(key.public[:1184] + point).encapsulate()
    ss_m = inner.decapsulate(ciphertext[:1088])
    assert secret == sha3_256(ss_m + bytes(32) + ciphertext[1088:] + point + LABEL).digest()


@pytest.mark.parametrize("change", [0, 500, 1087, 1088, 1119])
def test_any_changed_byte_changes_the_secret(provider: Provider, change: int) -> None:
    kem = provider.kem("XWing")
    key = kem.generate()
    ciphertext, secret = kem.public_key(key.public).encapsulate()
    bad = bytearray(ciphertext)
    bad[change] ^= 1
    assert key.decapsulate(bytes(bad)) != secret


def test_bad_input(provider: Provider) -> None:
    kem = provider.kem("XWing")
    key = kem.generate()
    for n in (0, 31, 33, 64):
        with pytest.raises(ValueError, match="seed is 32 bytes"):
            kem.private_key(bytes(n))
    for n in (0, 1215, 1217):
        with pytest.raises(DecodeError, match="1216"):
            kem.public_key((key.public + b"\0")[:n])
    for n in (0, 1088, 1119, 1121):
        with pytest.raises(DecodeError, match="1120"):
            key.decapsulate(bytes(n))
    with pytest.raises(DecodeError, match="out of range"):
        kem.public_key(b"\xff\xff" + key.public[2:])


def test_is_a_kem(provider: Provider) -> None:
    kem: Kem = XWing(provider.kem("MLKEM768"), provider.random_bytes)
    assert kem.name == "XWing"
