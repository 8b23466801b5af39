"""The memory of one node with 1,000 contacts and 10,000 records: `python -m benchmarks.memory liboqs`.

The node runs in a fresh process that does nothing else; what fills it was made in another and is read
in small parts, so that none of it is in the figure.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import FULL, QUICK, Effort, progress
from benchmarks.population import load_contacts, load_records
from pqdht.config import Config
from pqdht.node.dht import SecureDHT
from pqdht.wire.codec import encode

ROOT = Path(__file__).resolve().parent.parent
PART = 50
"""Contacts or records in one file."""


def measure(provider: str, effort: Effort) -> dict[str, float]:
    """node_mem_mb_1000_contacts_10000_records: MiB of the whole process, records in SQLite."""
    with tempfile.TemporaryDirectory(prefix="pqdht-memory-") as name:
        directory = Path(name)
        populate(directory, effort)
        found = {
            store: child(provider, directory, store) for store in ("sqlite", "memory")
        }
    for store, figures in found.items():
        progress(
            f"  records in {store}: {figures['empty']:.1f} MiB before, {figures['contacts']:.1f} with"
            f" {effort.contacts} contacts, {figures['records']:.1f} with {effort.records} records"
        )
    return {"node_mem_mb_1000_contacts_10000_records": round(found["sqlite"]["records"], 1)}


def populate(directory: Path, effort: Effort) -> None:
    """Contacts and records in files of PART each."""
    for what, count in (("contacts", effort.contacts), ("records", effort.records)):
        path = directory / f"{what}.all"
        run("benchmarks.population", what, str(count), str(path))
        made: tuple[Any, ...] = load_contacts(path) if what == "contacts" else load_records(path)
        path.unlink()
        split(directory, what, made)


def split(directory: Path, what: str, made: tuple[Any, ...]) -> None:
    """Write files of PART each."""
    for i in range(0, len(made), PART):
        (directory / f"{what}.{i // PART:05}").write_bytes(encode(made[i : i + PART]))


def run(*command: str) -> str:
    """Standard output of a module of ours in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


def child(provider: str, directory: Path, store: str) -> dict[str, float]:
    """The figures of the measured process."""
    found: dict[str, float] = json.loads(run("benchmarks.memory", provider, store, str(directory)))
    return found


async def fill(
    provider: str, data_dir: Path | None, contacts: list[Path], records: list[Path]
) -> dict[str, float]:
    """Run a node, fill it by the ways by which contacts and records come, and look at each step."""
    config = Config(
        network=FULL.params,
        provider=provider,  # type: ignore[arg-type]
        listen=("tcp/127.0.0.1:0",),
        data_dir=data_dir,
    )
    async with SecureDHT(config) as node:
        figures = {"empty": resident()}
        for part in contacts:
            meet(node, part)
        figures["contacts"] = resident()
        for i, part in enumerate(records):
            receipts = await node._keeper.keep(load_records(part), f"10.0.{i // 8}.0/24")
            if any(r.code for r in receipts):
                raise RuntimeError(f"a record was refused: {receipts}")
        figures["records"] = resident()
    return figures


def meet(node: SecureDHT, part: Path) -> None:
    """As after a handshake and an answer.  Pinned: with k = 20, random ids fill 200 places at most."""
    now = asyncio.get_running_loop().time()
    for contact in load_contacts(part):
        known = node.env.contacts.verify(contact, node.env.clock())
        node._routing.table.add(
            known.node_id, known, known.group, known.wide_group, now, pinned=True
        )


def resident() -> float:
    """MiB of this process that are in memory now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("the kernel does not say how much memory this process has")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("provider", choices=("liboqs", "openssl"), nargs="?", default="liboqs")
    parser.add_argument("store", choices=("sqlite", "memory"), nargs="?")
    parser.add_argument("directory", type=Path, nargs="?")
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.directory is None:
        print(json.dumps(measure(arguments.provider, QUICK if arguments.quick else FULL)))
    else:
        directory: Path = arguments.directory
        data_dir = directory / "node" if arguments.store == "sqlite" else None
        parts = (sorted(directory.glob(f"{what}.*")) for what in ("contacts", "records"))
        figures = asyncio.run(fill(arguments.provider, data_dir, *parts))
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
