"""What every test may use: the crypto providers, the `live` marker, the hypothesis profiles."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pqdht.crypto.api import Provider
from pqdht.crypto.providers import get_provider
from pqdht.errors import ProviderUnavailable

LIVE = Path(__file__).parent / "live"

# `ci` finds the same cases every time; `explore` looks for new ones: HYPOTHESIS_PROFILE=explore make test
settings.register_profile(
    "ci", deadline=None, derandomize=True, max_examples=100, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("explore", deadline=None, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if LIVE in item.path.parents:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session", params=["openssl", "liboqs"])
def provider(request: pytest.FixtureRequest) -> Provider:
    """Each crypto provider in turn.

    A missing one skips its tests and says how to get it, unless PQDHT_REQUIRE_PROVIDERS is set, as in CI:
    there a provider that silently goes untested is a failure.
    """
    try:
        return get_provider(request.param)
    except ProviderUnavailable as e:
        if os.environ.get("PQDHT_REQUIRE_PROVIDERS"):
            raise
        pytest.skip(str(e))
