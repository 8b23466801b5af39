"""HKDF against RFC 5869 and against Noise's own wording."""

from __future__ import annotations

import hmac

import pytest

from pqdht.crypto.kdf import hkdf, noise_hkdf

# RFC 5869, appendix A: (ikm, salt, info, length, okm)
RFC_5869 = [
    (
        "0b" * 22,
        bytes(range(13)).hex(),
        bytes(range(0xF0, 0xFA)).hex(),
        42,
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    ),
    (
        bytes(range(0x50)).hex(),
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0xB0, 0x100)).hex(),
        82,
        "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271cb41c65e590e09"
        "da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87",
    ),
    (
        "0b" * 22,
        "",
        "",
        42,
        "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
    ),
]


@pytest.mark.parametrize(("ikm", "salt", "info", "length", "okm"), RFC_5869)
def test_rfc_5869(ikm: str, salt: str, info: str, length: int, okm: str) -> None:
    out = hkdf(bytes.fromhex(salt), bytes.fromhex(ikm), bytes.fromhex(info), length)
    assert out.hex() == okm


@pytest.mark.parametrize("ikm", [b"", b"i" * 32])
def test_noise_hkdf_is_what_noise_spells_out(ikm: bytes) -> None:
    chaining_key = bytes(range(32))
    temp = hmac.digest(chaining_key, ikm, "sha256")
    expected: list[bytes] = []
    for i in (1, 2, 3):
        expected.append(hmac.digest(temp, (expected[-1] if expected else b"") + bytes([i]), "sha256"))
        assert noise_hkdf(chaining_key, ikm, i) == tuple(expected)


def test_too_long() -> None:
    with pytest.raises(ValueError, match="larger than 8160"):
        hkdf(b"", b"i", b"", 255 * 32 + 1)
