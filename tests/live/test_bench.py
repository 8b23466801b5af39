"""`make bench` in its quick mode: the document has every figure, and each is a figure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pqdht.crypto.providers import available_providers

ROOT = Path(__file__).parents[2]
NUMBERS = {
    "handshake_ik_per_s",
    "handshake_ik_cpu_ms",
    "handshake_xx_per_s",
    "rpc_warm_per_s_every",
    "rpc_warm_per_s_claims",
    "gets_per_s_50",
    "get_cpu_ms",
    "get_bytes",
    "rss_mb_per_node",
    "join_ms",
    "serving_warm_rpc_per_s",
    "serving_warm_rpc_per_s_unbatched",
    "serving_warm_rpc_per_s_batched",
    "serving_cold_peers_per_s",
    "loop_lag_p99_ms",
    "node_mem_mb_1000_contacts_10000_records",
    "first_reply_bytes",
    "lookup_bytes_warm_p50",
    "lookup_bytes_warm_p50_k8",
    "lookup_bytes_cold_p50",
    "lookup_bytes_cold_p50_k8",
    "idle_mb_per_hour",
    "get_many_100_cpu_ratio",
    "get_many_100_bytes_ratio",
    "put_many_100_cpu_ratio",
    "put_many_100_bytes_ratio",
    "defences_latency_ratio",
    "defences_cpu_ratio",
}
PERCENTILES = {"get_first_ms", "get_majority_ms", "put_ms", "get_first_ms_fresh", "get_majority_ms_fresh"}
OF_32 = {"get_first_ms", "get_majority_ms", "put_ms"}
OF_128 = {
    "get_first_ms",
    "get_first_cpu_ms",
    "get_majority_ms",
    "get_cpu_ms",
    "get_first_ms_fresh",
    "get_first_cpu_ms_fresh",
    "get_majority_ms_fresh",
    "get_cpu_ms_fresh",
    "gets_per_s_50",
}
"""Keys of `n128`."""


@pytest.fixture(scope="module")
def run() -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), "--quick"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def document(run: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert run.returncode == 0, run.stderr
    loaded: dict[str, Any] = json.loads(run.stdout)
    return loaded


def test_one_document_with_both_providers(document: dict[str, Any]) -> None:
    assert list(document) == ["machine", "providers"]
    assert set(document["providers"]) == {"liboqs", "openssl"}
    assert document["machine"]["cores"] >= 1
    assert document["machine"]["cpu"]


def test_a_missing_provider_is_null_and_its_reason_on_standard_error(
    document: dict[str, Any], run: subprocess.CompletedProcess[str]
) -> None:
    for name, figures in document["providers"].items():
        assert (figures is None) == (name not in available_providers())
        assert (f"{name}: null, " in run.stderr) == (figures is None)


def test_every_figure_is_a_positive_number(document: dict[str, Any]) -> None:
    for figures in filter(None, document["providers"].values()):
        assert set(figures) == NUMBERS | OF_32 | {"n128"}
        assert set(figures["n128"]) == OF_128
        assert all(figures["n128"][name] > 0 for name in OF_128 - PERCENTILES)
        for name in NUMBERS:
            assert isinstance(figures[name], int | float), name
            assert figures[name] > 0, name
        assert isinstance(figures["get_bytes"], int)


def test_percentiles_ascend(document: dict[str, Any]) -> None:
    for figures in filter(None, document["providers"].values()):
        given = [figures[name] for name in OF_32] + [figures["n128"][n] for n in OF_128 & PERCENTILES]
        for percentiles in given:
            assert list(percentiles) == ["p50", "p95", "p99"]
            assert 0 < percentiles["p50"] <= percentiles["p95"] <= percentiles["p99"]


def test_a_get_costs_at_least_the_bytes_of_three_signed_answers(document: dict[str, Any]) -> None:
    """A majority is of 3 address groups or more, and each answer carries an ML-DSA-65 signature."""
    for figures in filter(None, document["providers"].values()):
        assert figures["get_bytes"] > 3 * 3309
