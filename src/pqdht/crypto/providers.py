"""Where primitives come from: `openssl` everywhere, `liboqs` where its shared library is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import ConfigError, ProviderUnavailable
from .openssl import OpenSSLProvider

if TYPE_CHECKING:
    from .api import Provider

PROVIDERS = ("openssl", "liboqs")


def _liboqs() -> Provider:
    # Imported late: the binding and dilithium-py come with the extra `liboqs`.
    try:
        from .liboqs import LiboqsProvider
    except ImportError as e:
        raise ProviderUnavailable(
            f"the liboqs provider needs the Python package {e.name!r}; run: pip install 'pqdht[liboqs]', "
            "then scripts/install-liboqs",
            provider="liboqs",
        ) from e
    return LiboqsProvider()


def get_provider(name: str = "auto") -> Provider:
    """The provider `openssl`, `liboqs`, or for `auto` the faster one that is here (liboqs first).

    Raises ProviderUnavailable, which names what to install, and ConfigError for any other name.
    """
    if name == "openssl":
        return OpenSSLProvider()
    if name == "liboqs":
        return _liboqs()
    if name != "auto":
        raise ConfigError(f"no crypto provider {name!r}; use auto, openssl or liboqs", name="provider")
    try:
        return _liboqs()
    except ProviderUnavailable:
        return OpenSSLProvider()


def available_providers() -> tuple[str, ...]:
    """The names that `get_provider` would give on this machine."""
    try:
        _liboqs()
    except ProviderUnavailable:
        return ("openssl",)
    return PROVIDERS
