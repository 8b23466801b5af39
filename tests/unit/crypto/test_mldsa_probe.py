"""The probe tells a verifier that follows FIPS 204 from one that leaves checks out."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import shake_256
from typing import Any

import pytest

from pqdht.crypto import mldsa_probe
from pqdht.crypto.api import Provider, VerifyKey
from pqdht.errors import BadSignature

NAMES = ["ML-DSA-65", "ML-DSA-87"]


def as_c_function(key: VerifyKey) -> Callable[..., int]:
    """`key.verify` with the signature of OQS_SIG_*_verify_with_ctx_str."""

    def verify(m: bytes, _ml: int, sig: bytes, _sl: int, ctx: bytes, _cl: int, _pk: bytes) -> int:
        try:
            key.verify(sig, m, ctx)
        except BadSignature:
            return -1
        return 0

    return verify


@pytest.mark.parametrize("name", NAMES)
def test_every_case_under_each_provider(provider: Provider, name: str) -> None:
    key = provider.signer(name).verify_key(mldsa_probe.public_key(name))
    for case in mldsa_probe.cases(name):
        assert len(case.signature) == provider.signer(name).signature_size
        if case.valid:
            key.verify(case.signature, b"", b"")
        else:
            with pytest.raises(BadSignature):
                key.verify(case.signature, b"", b"")
    assert mldsa_probe.fault(name, as_c_function(key)) is None


@pytest.mark.parametrize("name", NAMES)
def test_each_single_fault_is_named(name: str) -> None:
    cases = mldsa_probe.cases(name)
    assert [c.valid for c in cases].count(False) == 2
    for wrong in cases:

        def verify(_m: bytes, _ml: int, sig: bytes, *_rest: Any, wrong: mldsa_probe.Case = wrong) -> int:
            valid = next(c.valid for c in cases if c.signature == sig)
            return 0 if valid != (sig == wrong.signature) else -1

        verdict = "refuses" if wrong.valid else "accepts"
        assert mldsa_probe.fault(name, verify) == f"{name} {verdict} {wrong.what}"


@pytest.mark.parametrize("name", NAMES)
def test_constants(name: str) -> None:
    """c~ of the two signatures at the bound of z, from dilithium-py: without the check they verify."""
    ml_dsa: Any = pytest.importorskip("dilithium_py.ml_dsa")
    d = {"ML-DSA-65": ml_dsa.ML_DSA_65, "ML-DSA-87": ml_dsa.ML_DSA_87}[name]
    public = mldsa_probe.public_key(name)
    mu = shake_256(shake_256(public).digest(64) + b"\0\0").digest(64)
    matrix = d._expand_matrix_from_seed(bytes(32))
    by_name = {c.what: c.signature for c in mldsa_probe.cases(name)}
    for what, z0 in (("z at its bound", d.gamma_1 - d.beta - 1), ("z over its bound", d.gamma_1 - d.beta)):
        z = d.M.vector([d.R([z0 if i == j == 0 else 0 for i in range(256)]) for j in range(d.l)])
        w = (matrix @ z.to_ntt()).from_ntt()
        packed = w.high_bits(d.gamma_2 << 1).bit_pack_w(d.gamma_2)
        c_tilde = shake_256(mu + packed).digest(d.c_tilde_bytes)
        hints = bytes(d.omega + d.k)
        assert by_name[what] == c_tilde + z.bit_pack_z(d.gamma_1) + hints
