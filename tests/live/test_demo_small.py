"""`make demo` in small: the same program with fewer processes, and proof that it can fail."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, cast

import pytest

from pqdht.testing.processes import ProcessNode

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


def demo_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo"] = module
    spec.loader.exec_module(module)
    return module


def processes_under(directory: Path) -> list[str]:
    lines = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in lines.splitlines() if str(directory) in line]


def test_eight_processes_find_each_other_and_survive_losses(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, DEMO, "--nodes", "8", "--kill", "2"],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    56 of 56 searches for another owner confirmed" in done.stdout
    assert "ok    48 of 48 searches confirmed with 2 of the processes killed" in done.stdout
    receipts = re.findall(r"ok    (\d+) of (\d+) promised records still held by", done.stdout)
    assert len(receipts) == 1
    assert int(receipts[0][0]) > 0
    assert "FAIL" not in done.stdout
    found = r"found \d\d at 127\.1\.\d+\.1:518\d\d, confirmed by \d of \d$"
    assert re.search(found, done.stdout, re.MULTILINE)
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert (
        re.search(r"^06 .* up +\d+ +\d+ +\d+ +\d+ ", done.stdout, re.MULTILINE) or "killed" in done.stdout
    )
    assert list(tmp_path.iterdir()) == []
    assert processes_under(tmp_path) == []


@pytest.mark.parametrize("options", [("--nodes", "3"), ("--kill", "13"), ("--kill", "-1")])
def test_too_few_nodes_are_refused(options: tuple[str, ...]) -> None:
    done = subprocess.run([sys.executable, DEMO, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--nodes must be 4 or more" in done.stderr


def test_it_cleans_up_when_it_is_stopped(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, DEMO, "--nodes", "4", "--kill", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    ) as process:
        assert process.stdout is not None
        assert "starting 4 processes" in process.stdout.readline()
        process.send_signal(signal.SIGTERM)
    assert process.returncode == 130
    assert list(tmp_path.iterdir()) == []
    assert processes_under(tmp_path) == []


def test_a_count_that_does_not_hold_fails() -> None:
    count = demo_module().Count
    assert (str(count("x", 3, 3)), count("x", 3, 3).held) == ("ok    3 of 3 x", True)
    assert (str(count("x", 2, 3)), count("x", 2, 3).held) == ("FAIL  2 of 3 x", False)


def test_only_receipts_that_promise_something_are_held_against_a_node() -> None:
    def announced(record: str, *receipts: tuple[str, str]) -> ProcessNode:
        event: dict[str, Any] = {
            "record_id": record,
            "receipts": [{"node": node, "code": code} for node, code in receipts],
        }
        return cast(ProcessNode, SimpleNamespace(events={"announced": event}))

    nodes = [
        announced("r1", ("a", "OK"), ("b", "OK")),
        announced("r2", ("a", "QUOTA"), ("b", "OK")),
        announced("r3", ("a", "OK")),
    ]
    node = cast(ProcessNode, SimpleNamespace(node_id="a"))
    assert demo_module().receipts_of(node, nodes) == {"r1", "r3"}


@pytest.mark.parametrize("index", [0, 15])
def test_the_wireguard_files_are_real(tmp_path: Path, index: int) -> None:
    module = demo_module()
    path = tmp_path / "wg.conf"
    module.write_wireguard(path, index)
    found = module.read_wireguard(path)
    assert found.endpoint == f"127.1.{1 + index}.1:{51820 + index}"
    assert found.listen_port == 51820 + index
    assert len(found.public_key) == 32
    module.write_wireguard(path, index)
    assert module.read_wireguard(path).public_key != found.public_key
    assert path.stat().st_mode & 0o777 == 0o600
