"""FIPS 203 and FIPS 204 known answers and edge vectors, the same under each provider.

A vector that one provider accepted and another refused would let honest nodes accuse each other.
"""

from __future__ import annotations

from typing import Any

import pytest

from pqdht.crypto.api import Provider
from pqdht.errors import BadSignature, DecodeError
from tests.unit.crypto import vectors

KEMS = [("MLKEM768", "768"), ("MLKEM1024", "1024")]
SIGNERS = [("ML-DSA-65", "65"), ("ML-DSA-87", "87")]


@pytest.mark.parametrize(("name", "size"), KEMS)
def test_mlkem_nist(provider: Provider, name: str, size: str) -> None:
    kem = provider.kem(name)
    cases = list(vectors.nist(f"MLKEM/kat_MLKEM_{size}.rsp", 100))
    for v in cases:
        key = kem.private_key(v["d"] + v["z"])
        assert key.public == v["pk"]
        assert key.decapsulate(v["ct"]) == v["ss"]
        assert key.decapsulate(v["ct_n"]) == v["ss_n"]  # implicit rejection
        kem.public_key(v["pk"])
    assert len(cases) == 100


@pytest.mark.parametrize(("name", "size"), KEMS)
def test_mlkem_wycheproof_decapsulation(provider: Provider, name: str, size: str) -> None:
    kem = provider.kem(name)
    count = 0
    for _, t in vectors.wycheproof(f"mlkem_{size}"):
        count += 1
        if t["result"] == "valid":
            key = kem.private_key(bytes.fromhex(t["seed"]))
            assert key.decapsulate(bytes.fromhex(t["c"])).hex() == t["K"], t["tcId"]
            assert key.public.hex() == t["ek"], t["tcId"]
        else:
            with pytest.raises((ValueError, DecodeError)):
                kem.private_key(bytes.fromhex(t["seed"])).decapsulate(bytes.fromhex(t["c"]))
    assert count > 150


@pytest.mark.parametrize(("name", "size"), KEMS)
def test_mlkem_wycheproof_key_generation(provider: Provider, name: str, size: str) -> None:
    kem = provider.kem(name)
    count = 0
    for _, t in vectors.wycheproof(f"mlkem_{size}_keygen_seed"):
        count += 1
        assert kem.private_key(bytes.fromhex(t["seed"])).public.hex() == t["ek"], t["tcId"]
    assert count == 100


@pytest.mark.parametrize(("name", "size"), KEMS)
def test_mlkem_wycheproof_encapsulation_keys(provider: Provider, name: str, size: str) -> None:
    """Which keys are accepted. (Neither provider takes the coins m, so ciphertexts cannot be compared.)"""
    kem = provider.kem(name)
    results = []
    for _, t in vectors.wycheproof(f"mlkem_{size}_encaps"):
        results.append(t["result"])
        ek = bytes.fromhex(t["ek"])
        if t["result"] == "valid":
            assert len(kem.public_key(ek).encapsulate()[0]) == kem.ciphertext_size
        else:
            with pytest.raises(DecodeError, match="out of range"):
                kem.public_key(ek)
    assert results.count("invalid") >= 12
    assert results.count("valid") > 100


@pytest.mark.parametrize("name", [name for name, _ in KEMS])
def test_mlkem_bad_lengths(provider: Provider, name: str) -> None:
    kem = provider.kem(name)
    key = kem.generate()
    for n in (0, 32, kem.seed_size - 1, kem.seed_size + 1):
        with pytest.raises(ValueError, match="64 bytes"):
            kem.private_key(bytes(n))
    for n in (0, 1, kem.public_size - 1, kem.public_size + 1):
        with pytest.raises(DecodeError):
            kem.public_key(bytes(n))
    for n in (0, 1, kem.ciphertext_size - 1, kem.ciphertext_size + 1):
        with pytest.raises(DecodeError, match="ciphertext"):
            key.decapsulate(bytes(n))


@pytest.mark.parametrize(("name", "size"), SIGNERS)
def test_mldsa_nist(provider: Provider, name: str, size: str) -> None:
    """The signatures are deterministic ones, which neither provider makes, but both must accept."""
    signer = provider.signer(name)
    count = 0
    for count, v in enumerate(vectors.nist(f"MLDSA/kat_MLDSA_{size}_det_pure.rsp", 30), 1):
        signature, message = v["sm"][: signer.signature_size], v["msg"]
        assert v["sm"] == signature + message
        signer.verify_key(v["pk"]).verify(signature, message, v["ctx"])
        if count <= 10:
            key = signer.signing_key(v["xi"])
            assert key.public == v["pk"]
            # liboqs signs with an expanded key: every byte of it must be right, also what only
            # hedging uses and no verification could notice.
            assert getattr(key, "_sk", v["sk"]) == v["sk"]
            signer.verify_key(v["pk"]).verify(key.sign(message, v["ctx"]), message, v["ctx"])
    assert count == 30


def refused(provider: Provider, name: str, public: bytes, t: dict[str, Any]) -> bool:
    ctx = bytes.fromhex(t.get("ctx", ""))
    try:
        provider.signer(name).verify_key(public).verify(bytes.fromhex(t["sig"]), bytes.fromhex(t["msg"]), ctx)
    except (BadSignature, DecodeError):
        return True
    except ValueError:
        assert len(ctx) > 255
        return True
    return False


@pytest.mark.parametrize(("name", "size"), SIGNERS)
def test_mldsa_wycheproof_verify(provider: Provider, name: str, size: str) -> None:
    count = 0
    for group, t in vectors.wycheproof(f"mldsa_{size}_verify"):
        count += 1
        public = bytes.fromhex(group["publicKey"])
        assert refused(provider, name, public, t) == (t["result"] == "invalid"), (t["tcId"], t["comment"])
    assert count >= 200


@pytest.mark.parametrize(("name", "size"), SIGNERS)
def test_mldsa_wycheproof_sign(provider: Provider, name: str, size: str) -> None:
    """Keys from seeds, and signatures where a message is given (some cases give only its mu)."""
    signer = provider.signer(name)
    keys: dict[str, Any] = {}
    signed = 0
    for group, t in vectors.wycheproof(f"mldsa_{size}_sign_seed"):
        seed, ctx = group["privateSeed"], bytes.fromhex(t.get("ctx", ""))
        if len(seed) != 64:
            with pytest.raises(ValueError, match="seed is 32 bytes"):
                signer.signing_key(bytes.fromhex(seed))
            continue
        if seed not in keys:
            keys[seed] = signer.signing_key(bytes.fromhex(seed))
            assert keys[seed].public.hex() == group["publicKey"]
        if "msg" not in t:
            continue
        message, key = bytes.fromhex(t["msg"]), keys[seed]
        if t["result"] == "invalid":
            with pytest.raises(ValueError, match="255"):
                key.sign(message, ctx)
            continue
        verify_key = signer.verify_key(key.public)
        verify_key.verify(bytes.fromhex(t["sig"]), message, ctx)
        verify_key.verify(key.sign(message, ctx), message, ctx)
        signed += 1
    assert signed > 50


def flipped(data: bytes, i: int) -> bytes:
    return data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :]


@pytest.mark.parametrize("name", [name for name, _ in SIGNERS])
def test_mldsa_refuses_what_was_changed(provider: Provider, name: str) -> None:
    signer = provider.signer(name)
    key = signer.generate()
    verify_key = signer.verify_key(key.public)
    good = key.sign(b"message", b"ctx")
    verify_key.verify(good, b"message", b"ctx")
    wrong = [
        (good, b"messagf", b"ctx"),
        (good, b"message", b"cty"),
        (good, b"ctxmessage", b""),
        (good[:-1], b"message", b"ctx"),
        (good + b"\0", b"message", b"ctx"),
        (b"", b"message", b"ctx"),
        (bytes(len(good)), b"message", b"ctx"),
        *((flipped(good, i), b"message", b"ctx") for i in (0, 40, 2000, len(good) - 1)),
    ]
    for signature, message, ctx in wrong:
        with pytest.raises(BadSignature):
            verify_key.verify(signature, message, ctx)
    with pytest.raises(BadSignature):
        signer.verify_key(signer.generate().public).verify(good, b"message", b"ctx")
    with pytest.raises(ValueError, match="255"):
        verify_key.verify(good, b"message", bytes(256))


@pytest.mark.parametrize("name", [name for name, _ in SIGNERS])
def test_mldsa_bad_lengths(provider: Provider, name: str) -> None:
    signer = provider.signer(name)
    for n in (0, 31, 33):
        with pytest.raises(ValueError, match="32 bytes"):
            signer.signing_key(bytes(n))
    for n in (0, signer.public_size - 1, signer.public_size + 1):
        with pytest.raises(DecodeError, match=str(signer.public_size)):
            signer.verify_key(bytes(n))


@pytest.mark.parametrize("name", [name for name, _ in SIGNERS])
def test_mldsa_is_hedged_and_takes_any_message(provider: Provider, name: str) -> None:
    signer = provider.signer(name)
    key = signer.generate()
    verify_key = signer.verify_key(key.public)
    assert key.sign(b"m", b"") != key.sign(b"m", b"")
    for message in (b"", b"\0", bytes(100_000)):
        for ctx in (b"", bytes(255)):
            verify_key.verify(key.sign(message, ctx), message, ctx)
