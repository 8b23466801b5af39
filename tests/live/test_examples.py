"""Every example runs and says what it should; the smallest one stays small."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
OUTPUT = {
    "smallest.py": "b'hello'\n",
    "vpn_peers.py": "alice is at 203.0.113.5:51820, confirmed\n",
    "simulated.py": "replayed exactly\n",
}


def test_every_example_is_tested() -> None:
    assert sorted(p.name for p in EXAMPLES.glob("*.py")) == sorted([*OUTPUT, "demo.py"])


@pytest.mark.parametrize("name", OUTPUT)
def test_an_example_runs(name: str) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / name], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(OUTPUT[name])


def test_the_smallest_program_has_at_most_fifteen_lines() -> None:
    text = (EXAMPLES / "smallest.py").read_text()
    body = ast.parse(text).body[1:]  # without the docstring
    lines = [line for line in text.splitlines()[body[0].lineno - 1 :] if line.strip()]
    assert len(lines) <= 15
