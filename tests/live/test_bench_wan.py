"""`make bench-wan` in its quick mode: the document has every figure, and each is a figure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
MEDIANS = {
    "join_rtts",
    "cold_get_rtts",
    "start_to_value_rtts",
    "cold_get_first_rtts",
    "start_to_value_first_rtts",
    "put_rtts",
}
PERCENTILES = {"warm_first_rtts", "warm_majority_rtts"}
SETTING = {"machine", "nodes", "k", "rtt_ms", "provider", "forwarder"}


@pytest.fixture(scope="module")
def run() -> tuple[dict[str, Any], int]:
    """The document, and the process that made it."""
    command = [sys.executable, "-m", "benchmarks.wan", "--quick"]
    with subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, said = process.communicate(timeout=400)
    if process.returncode == os.EX_UNAVAILABLE:
        assert out == ""
        pytest.skip(said.strip())
    assert process.returncode == 0, said
    return json.loads(out), process.pid


@pytest.fixture(scope="module")
def document(run: tuple[dict[str, Any], int]) -> dict[str, Any]:
    return run[0]


def test_one_document_with_every_figure_twice(document: dict[str, Any]) -> None:
    figures = MEDIANS | PERCENTILES | {"failed_gets"}
    assert set(document) == SETTING | figures | {"unreachable_20pct"}
    assert set(document["unreachable_20pct"]) == figures | {"survivor_majority_rtts"}
    assert (document["nodes"], document["rtt_ms"]) == (12, 50.0)


def test_nothing_is_faster_than_the_network(document: dict[str, Any]) -> None:
    """TCP and its handshake cost a joining node 3 round trips, and no answer comes in less than one."""
    for figures in (document, document["unreachable_20pct"]):
        assert figures["join_rtts"] >= 3
        assert figures["start_to_value_rtts"] >= 4
        assert all(figures[name] >= 1 for name in MEDIANS)
        for name in PERCENTILES:
            assert list(figures[name]) == ["p50", "p95", "p99"]
            assert 1 <= figures[name]["p50"] <= figures[name]["p95"] <= figures[name]["p99"]


def test_the_silent_were_silent_and_the_forwarder_in_time(document: dict[str, Any]) -> None:
    forwarder = document["forwarder"]
    assert forwarder["packets"] > 1000
    assert forwarder["dropped"] > 0
    assert set(forwarder["late_ms"]) == {"p50", "p95", "p99"}


def test_nothing_is_left_behind(run: tuple[dict[str, Any], int]) -> None:
    left = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True)
    assert f"pqdht-{run[1]}-" not in left.stdout
