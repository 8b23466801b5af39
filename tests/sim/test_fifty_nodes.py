"""Fifty real nodes, thirty virtual minutes, 5 % loss, five crashes: every GET right, all repeatable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.sim.crowd import CRASHES, LENGTH

ROOT = Path(__file__).parents[2]


def start(seed: int, hash_seed: int) -> subprocess.Popen[str]:
    environment = os.environ | {
        "PYTHONHASHSEED": str(hash_seed),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)]),
    }
    command = [sys.executable, "-m", "tests.sim.crowd", str(seed)]
    return subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate()
    assert process.returncode == 0, err
    report: dict[str, Any] = json.loads(out)
    return report


def test_every_get_is_right_and_the_run_can_be_repeated() -> None:
    one, other = map(finish, [start(1, 1), start(1, 2)])  # at the same time, on two cores
    assert one["wrong"] == []
    assert one["virtual_s"] > LENGTH
    assert one["gets"]["crashes"] == len(CRASHES) == 5
    assert one["gets"]["right"] > 500
    assert one["puts"]["reached quorum"] > 200
    assert one == other, "the same seed gave another run under another hash seed"
