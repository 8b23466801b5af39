"""What is special about the liboqs binding: finding the library, and its own range check."""

from __future__ import annotations

import ctypes.util
import random
import sys
from pathlib import Path

import pytest

from pqdht.crypto.api import Provider
from pqdht.crypto.providers import get_provider
from pqdht.errors import ProviderUnavailable

liboqs = pytest.importorskip("pqdht.crypto.liboqs", reason="the extra `liboqs` is not installed")
with_library = pytest.mark.parametrize("provider", ["liboqs"], indirect=True)


def test_search_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.delenv("PQDHT_LIBOQS", raising=False)
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: f"lib{name}.so.7")
    assert liboqs.find_library() == "liboqs.so.7"
    installed = tmp_path / "lib" / "liboqs.so"
    installed.parent.mkdir()
    installed.touch()
    assert liboqs.find_library() == str(installed)
    monkeypatch.setenv("PQDHT_LIBOQS", "/elsewhere/liboqs.so")
    assert liboqs.find_library() == "/elsewhere/liboqs.so"


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(ProviderUnavailable, match=r"no\.so.*scripts/install-liboqs"):
        liboqs.LiboqsProvider(str(tmp_path / "no.so"))


def test_not_a_library(tmp_path: Path) -> None:
    path = tmp_path / "liboqs.so"
    path.write_bytes(b"not ELF")
    with pytest.raises(ProviderUnavailable, match="cannot use liboqs"):
        liboqs.LiboqsProvider(str(path))


def test_a_library_without_the_functions() -> None:
    other = ctypes.util.find_library("c")
    assert other
    with pytest.raises(ProviderUnavailable, match=r"0\.13 or newer"):
        liboqs.LiboqsProvider(other)


@with_library
def test_an_unsafe_verifier_is_refused(provider: Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    assert provider.name == "liboqs"
    monkeypatch.setattr(liboqs.mldsa_probe, "fault", lambda _name, _verify: "ML-DSA-65 accepts anything")
    open_anew = liboqs._open.__wrapped__
    with pytest.raises(ProviderUnavailable, match=r"unsafe: ML-DSA-65 accepts anything.*install-liboqs"):
        open_anew(liboqs.find_library())


@pytest.mark.parametrize("size", [1184, 1568])
def test_range_check_looks_at_every_coefficient(size: int) -> None:
    """FIPS 203, 7.2, against the plain loop, with each coefficient in turn at and over the edge."""
    count = (size - 32) * 8 // 12
    dice = random.Random(size)

    def pack(coefficients: list[int]) -> bytes:
        packed = sum(c << (12 * i) for i, c in enumerate(coefficients))
        return packed.to_bytes(size - 32, "little") + b"\xff" * 32

    base = [dice.randrange(3329) for _ in range(count)]
    assert liboqs._in_range(pack(base))
    assert liboqs._in_range(pack([3328] * count))
    assert liboqs._in_range(pack([0] * count))
    for i in range(count):
        good, bad = base.copy(), base.copy()
        good[i], bad[i] = 3328, dice.choice([3329, 3330, 4095])
        assert liboqs._in_range(pack(good))
        assert not liboqs._in_range(pack(bad)), f"coefficient {i}"


@with_library
def test_a_wrong_expansion_is_refused(provider: Provider) -> None:
    """If dilithium-py ever disagreed with OpenSSL, no key is made."""
    assert provider.name == "liboqs"
    signer = get_provider("liboqs").signer("ML-DSA-65")
    assert isinstance(signer, liboqs.LiboqsSigner)
    derive = signer.derive
    signer.derive = lambda seed: derive(seed[::-1])
    with pytest.raises(ProviderUnavailable, match="disagree"):
        signer.signing_key(bytes(range(32)))
