"""HPKE with our three KEMs (draft-ietf-hpke-pq): pyca decrypts the known answers, our KEMs agree."""

from __future__ import annotations

import json
from hashlib import shake_256
from typing import Any

import cryptography_vectors
import pytest
from cryptography.hazmat.bindings._rust import openssl as rust_openssl
from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM1024PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from pqdht.crypto.api import Provider

NAMES = {0x647A: "XWing", 0x0042: "MLKEM1024", 0x0041: "MLKEM768"}
KEMS = {0x647A: hpke.KEM.MLKEM768_X25519, 0x0042: hpke.KEM.MLKEM1024, 0x0041: hpke.KEM.MLKEM768}
KDFS = {1: hpke.KDF.HKDF_SHA256, 2: hpke.KDF.HKDF_SHA384, 0x10: hpke.KDF.SHAKE128, 0x11: hpke.KDF.SHAKE256}
AEADS = {1: hpke.AEAD.AES_128_GCM, 2: hpke.AEAD.AES_256_GCM, 3: hpke.AEAD.CHACHA20_POLY1305}


def cases() -> list[dict[str, Any]]:
    with cryptography_vectors.open_vector_file("HPKE/hpke-pq-test-vectors.json", "r") as f:
        return [v for v in json.load(f) if v["kem_id"] in NAMES]


def private_key(kem_id: int, seed: bytes) -> Any:
    if kem_id == 0x0041:
        return MLKEM768PrivateKey.from_seed_bytes(seed)
    if kem_id == 0x0042:
        return MLKEM1024PrivateKey.from_seed_bytes(seed)
    expanded = shake_256(seed).digest(96)
    return hpke.MLKEM768X25519PrivateKey(
        MLKEM768PrivateKey.from_seed_bytes(expanded[:64]), X25519PrivateKey.from_private_bytes(expanded[64:])
    )


def test_every_kem_has_a_case() -> None:
    assert {v["kem_id"] for v in cases()} == set(NAMES)


@pytest.mark.parametrize("v", cases(), ids=lambda v: f"{v['kem_id']:#x}-{v['kdf_id']:#x}-{v['aead_id']:#x}")
def test_kem_part(provider: Provider, v: dict[str, Any]) -> None:
    """Our KEM keys are the HPKE keys, so an identity's KEM key can receive HPKE messages."""
    key = provider.kem(NAMES[v["kem_id"]]).private_key(bytes.fromhex(v["skRm"]))
    assert key.public.hex() == v["pkRm"]
    assert key.decapsulate(bytes.fromhex(v["enc"])).hex() == v["shared_secret"]


@pytest.mark.parametrize(
    "v",
    [v for v in cases() if v["kdf_id"] in KDFS],
    ids=lambda v: f"{v['kem_id']:#x}-{v['kdf_id']:#x}-{v['aead_id']:#x}",
)
def test_decryption(v: dict[str, Any]) -> None:
    suite = hpke.Suite(KEMS[v["kem_id"]], KDFS[v["kdf_id"]], AEADS[v["aead_id"]])
    first = v["encryptions"][0]
    plaintext = rust_openssl.hpke._decrypt_with_aad(
        suite,
        bytes.fromhex(v["enc"] + first["ct"]),
        private_key(v["kem_id"], bytes.fromhex(v["skRm"])),
        bytes.fromhex(v["info"]),
        bytes.fromhex(first["aad"]),
    )
    assert plaintext.hex() == first["pt"]
