"""One peer program per worker."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.interop.peer import Peer, PeerMissing, build_peer


@pytest.fixture(scope="session")
def peer() -> Iterator[Peer]:
    """An implementation that shares no code with ours.

    Where it cannot be had its tests are skipped and say how to get it, unless PQDHT_REQUIRE_INTEROP is
    set, as in CI: there a peer that silently goes untested is a failure.
    """
    try:
        program = build_peer()
    except PeerMissing as e:
        if os.environ.get("PQDHT_REQUIRE_INTEROP"):
            raise
        pytest.skip(f"the peer of the interoperability tests: {e}")
    with Peer(program) as running:
        yield running
