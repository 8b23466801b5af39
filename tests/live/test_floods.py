"""Floods from processes of their own, small: `make flood` is the same at full size, with its figures."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks import flood

MOST_MB = 200


@pytest.fixture(scope="module")
def phases() -> dict[str, dict[str, Any]]:
    """One victim, flooded in five ways one after the other, while others read and join."""
    report = asyncio.run(flood.run(flood.TINY))
    assert report["capacity_per_s"] > 0
    return {phase["name"]: phase for phase in report["phases"]}


FLOODS = [
    "garbage first flights",
    "half-open handshakes",
    "replayed first flights",
    "valid first messages",
    "valid first messages, cookies answered",
]


@pytest.mark.parametrize("name", FLOODS)
def test_others_go_on_reading_and_memory_stays_bounded(phases: dict[str, Any], name: str) -> None:
    phase = phases[name]
    gets = phase["honest"]["gets"]
    assert gets["asked"] > 0
    assert gets["success"] >= 0.99, gets
    assert phase["attack"]["sent"] > 0
    assert phase["victim"]["rss_peak_mb"] < MOST_MB


def test_each_kind_meets_its_own_defence(phases: dict[str, Any]) -> None:
    def count(name: str, *counters: str) -> int:
        found = phases[name]["victim"]["counters"]
        return sum(found.get(c, 0) for c in counters)

    refused = ("failed.HandshakeFailed", "links_refused.load", "half_open_evicted")
    assert count("garbage first flights", *refused) > 0
    assert phases["garbage first flights"]["attack"]["answered"] == 0
    assert (
        count("half-open handshakes", "half_open_evicted", "links_refused.load", "handshakes_timed_out") > 0
    )
    assert phases["half-open handshakes"]["attack"]["answered"] == 0
    replayed = phases["replayed first flights"]["attack"]
    assert replayed["answered"] <= 50, "each of the fifty recordings is answered once at most"
    assert replayed["sent"] > replayed["answered"]
