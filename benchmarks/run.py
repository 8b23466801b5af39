"""`make bench`: one JSON document on standard output, progress on standard error.

Each provider is measured in a process of its own, so that neither sees the caches or the memory of
the other.  Bytes in a large simulated network, which no provider changes, are measured in one more and
stand with both.  What the figures mean is in README.md next to this file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROVIDERS = ("liboqs", "openssl")
UNAVAILABLE = os.EX_UNAVAILABLE
"""Exit status of a measuring process whose provider is not on this machine."""


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure pqdht; the JSON goes to standard output.")
    parser.add_argument("--quick", action="store_true", help="a small network and few samples: for tests")
    parser.add_argument("--gates", action="store_true", help="no sample in idle traffic: half an hour more")
    chosen = parser.parse_args()
    how = ["--quick"] if chosen.quick else []
    simulated = run("benchmarks.simulated", *how, *(["--gates"] if chosen.gates else []))
    assert simulated is not None
    providers = {name: run("benchmarks.provider", name, *how) for name in PROVIDERS}
    for figures in filter(None, providers.values()):
        figures.update(simulated)
    report = {"machine": machine(), "providers": providers}
    print(json.dumps(report, indent=2))
    return 0


def run(module: str, *arguments: str) -> dict[str, Any] | None:
    """What a module measures, None where its provider is missing.  Raises CalledProcessError."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=False)
    if done.returncode == UNAVAILABLE:  # it said why on standard error
        return None
    done.check_returncode()
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def machine() -> dict[str, Any]:
    """What was measured on."""
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: package(name) for name in ("pqdht", "cryptography", "msgspec", "uvloop")},
    }


def cpu_name() -> str:
    """As the kernel calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def package(name: str) -> str | None:
    """Its version, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main())
