"""A flood of valid questions from one prefix, in processes of their own; small form of
`python -m benchmarks.prefix_flood`, with its figures printed."""

from __future__ import annotations

import asyncio
import json

from benchmarks import prefix_flood
from benchmarks.prefix_flood import TINY, UNITS

MOST_MB = 200
GROWTH_MB = 40


def test_others_go_on_reading_and_memory_stays_bounded() -> None:
    report = asyncio.run(prefix_flood.run(TINY))
    print(json.dumps(report, indent=2))
    attack, victim, gets = report["attack"], report["victim"], report["flood"]["gets"]
    assert report["offered_x_limit"] > 8
    assert gets["asked"] > 0
    assert gets["success"] > 0.99, gets
    assert victim["rss_peak_mb"] < MOST_MB
    assert victim["rss_mb"] - victim["rss_mb_before"] < GROWTH_MB
    assert victim["counters"]["requests_refused_busy"] > 0
    assert victim["security"]["rate_limited"] > 0
    # All the while they had what a prefix may have, and no more: what was read late counts too.
    seconds = attack["seconds"] + 5.0
    assert attack["outcomes"].get("answered", 0) * UNITS <= TINY.limit * (4 + seconds)
