"""`make bench-wan` (`python -m benchmarks.wan`): latency over a wide area network, in round trips.

One JSON document goes to standard output, progress to standard error.

The network is made of namespaces and a forwarder in user space (wan_link); it needs root, the command
`ip` and /dev/net/tun, and touches nothing outside its namespaces.  Exit status 69 where these are missing.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from dataclasses import dataclass
from typing import IO, Any

from benchmarks.figures import progress
from benchmarks.run import ROOT, UNAVAILABLE, machine
from benchmarks.wan_link import NotPermitted, Wan, check_permitted, inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Sizes of one run."""

    nodes: int
    k: int
    fresh: int
    """Fresh nodes per kind of GET."""
    warm: int
    """Keys read by each warm node: at least 100, or p99 means little."""
    puts: int
    settle_s: int
    """After the PUTs: what young nodes place they place again 60 s later (`SECOND_PLACING_S`), give or take
    a quarter, which keeps the one process of all nodes busy."""

    @property
    def keys(self) -> int:
        return self.warm + 16


FULL = Effort(nodes=128, k=20, fresh=9, warm=100, puts=15, settle_s=90)
QUICK = Effort(nodes=12, k=4, fresh=3, warm=5, puts=2, settle_s=1)
RTT_MS = 50.0
SILENT_SHARE = 0.2


def main() -> int:
    parser = argparse.ArgumentParser(description="Latency in round trips; the JSON goes to standard output.")
    parser.add_argument("--quick", action="store_true", help="a small network and few samples: for tests")
    effort = QUICK if parser.parse_args().quick else FULL
    try:
        check_permitted()
    except NotPermitted as e:
        progress(f"no wide area network here: {e}")
        return UNAVAILABLE
    print(json.dumps(measure(effort), indent=2))
    return 0


def measure(effort: Effort) -> dict[str, Any]:
    """The whole document."""
    with Wan(RTT_MS) as wan:
        nodes, askers = start_nodes(wan, effort), start_askers(wan)
        try:
            progress(f"{effort.nodes} nodes, RTT {RTT_MS:.0f} ms")
            network = hear(nodes)
            progress("everybody is reachable")
            figures = ask(askers, job(effort, network, network["entries"]))
            silent = choose_silent(network["entries"])
            wan.silence([address_of(entry) for entry in silent])
            progress(f"{len(silent)} nodes are silent")
            reachable = [entry for entry in network["entries"] if entry not in silent]
            figures["unreachable_20pct"] = ask(askers, job(effort, network, reachable))
            for process in (askers, nodes):
                assert process.stdin is not None
                process.stdin.close()
                process.wait(60)
        finally:
            for process in (askers, nodes):
                process.kill()
                process.wait()
    setting = {"machine": machine(), "nodes": effort.nodes, "k": effort.k, "rtt_ms": RTT_MS}
    return setting | {"provider": network["provider"], "forwarder": wan.report} | figures


def start_nodes(wan: Wan, effort: Effort) -> subprocess.Popen[str]:
    sizes = [str(n) for n in (effort.nodes, effort.keys, effort.k, effort.settle_s)]
    return start(wan.nodes, "benchmarks.wan_nodes", *sizes)


def start_askers(wan: Wan) -> subprocess.Popen[str]:
    return start(wan.askers, "benchmarks.wan_askers")


def start(name: str, module: str, *arguments: str) -> subprocess.Popen[str]:
    command = inside(name, sys.executable, "-m", module, *arguments)
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def job(effort: Effort, network: dict[str, Any], entries: list[str]) -> dict[str, Any]:
    """What the askers are to do (`wan_askers.Job`)."""
    return {
        "rtt_s": RTT_MS / 1000,
        "k": effort.k,
        "entries": entries,
        "keys": network["keys"],
        "fresh": effort.fresh,
        "warm": effort.warm,
        "puts": effort.puts,
    }


def ask(askers: subprocess.Popen[str], what: dict[str, Any]) -> dict[str, Any]:
    stdin: IO[str] | None = askers.stdin
    assert stdin is not None
    stdin.write(json.dumps(what) + "\n")
    stdin.flush()
    return hear(askers)


def hear(process: subprocess.Popen[str]) -> dict[str, Any]:
    """One JSON line.  Raises RuntimeError where the process ended instead."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a measuring process failed; what it said is above")
    answer: dict[str, Any] = json.loads(line)
    return answer


def choose_silent(entries: list[str]) -> list[str]:
    """A fifth of the nodes, the same in every run as far as places go."""
    return random.Random(20).sample(entries, round(SILENT_SHARE * len(entries)))


def address_of(entry: str) -> str:
    """The IP address of `<node id>@tcp/<address>:<port>`."""
    return entry.rpartition("/")[2].rpartition(":")[0]


if __name__ == "__main__":
    sys.exit(main())
