"""Choosing a provider, and being told clearly why one cannot be had."""

from __future__ import annotations

import ctypes.util
import sys
from pathlib import Path

import pytest

from pqdht.crypto.api import Provider
from pqdht.crypto.openssl import OpenSSLProvider
from pqdht.crypto.providers import available_providers, get_provider
from pqdht.errors import ConfigError, ProviderUnavailable


def hide_liboqs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.delenv("PQDHT_LIBOQS", raising=False)
    monkeypatch.setattr(sys, "prefix", str(folder))
    monkeypatch.setattr(ctypes.util, "find_library", lambda _name: None)


def test_by_name(provider: Provider) -> None:
    assert get_provider(provider.name).name == provider.name
    assert provider.name in available_providers()
    assert provider.inline == (provider.name == "liboqs")


def test_auto_takes_liboqs_where_it_is() -> None:
    expected = "liboqs" if "liboqs" in available_providers() else "openssl"
    assert get_provider("auto").name == expected
    assert get_provider().name == expected


def test_auto_without_liboqs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hide_liboqs(monkeypatch, tmp_path)
    assert isinstance(get_provider("auto"), OpenSSLProvider)
    assert available_providers() == ("openssl",)


def test_liboqs_missing_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("dilithium_py")
    hide_liboqs(monkeypatch, tmp_path)
    with pytest.raises(ProviderUnavailable, match="scripts/install-liboqs") as info:
        get_provider("liboqs")
    assert info.value.fields == {"provider": "liboqs"}


def test_extra_missing_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pqdht.crypto.liboqs", raising=False)
    monkeypatch.setitem(sys.modules, "dilithium_py", None)
    monkeypatch.setitem(sys.modules, "dilithium_py.ml_dsa", None)
    with pytest.raises(ProviderUnavailable, match=r"pqdht\[liboqs\].*scripts/install-liboqs"):
        get_provider("liboqs")
    assert get_provider("auto").name == "openssl"


def test_unknown_provider() -> None:
    with pytest.raises(ConfigError, match="use auto, openssl or liboqs"):
        get_provider("libsodium")
