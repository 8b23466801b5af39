"""The main job: 16 real processes find each other's WireGuard endpoints through the DHT.

    make demo        # or: python examples/demo.py [--nodes 16] [--kill 3] [--plain]

Each process runs `pqdht run` on an address of its own, 127.a.b.1, with a WireGuard configuration file
with fresh keys, announces the endpoint and the public key it reads there, and then

1. every node finds every other by owner id: an answer counts only if it is confirmed, if at least
   three other processes answered with the reader's own copy left out, and if endpoint and public key
   equal the file's;
2. some processes are killed (SIGKILL), and the rest still find everybody: records outlive their owners;
3. one of the killed comes back and still holds what it had given signed receipts for.

Ends by itself; exit code 0 only if every count held.  Leaves neither processes nor files.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from rich.console import Console

from pqdht.cli.board import Board, Row
from pqdht.cli.output import milliseconds
from pqdht.cli.wireguard import read_wireguard
from pqdht.daemon.requests import Caller, Records
from pqdht.errors import PqdhtError
from pqdht.testing.processes import ProcessNode
from pqdht.testing.rollcall import Expected, Sighting, median, roll_call
from pqdht.testing.testnet import Testnet, group_address

TIME_LIMIT_S = 115.0
FIRST_PORT = 51820
LEAST = 4
"""Nodes: an answer counts with three others behind it."""


@dataclass(frozen=True)
class Count:
    """One thing that had to hold, and how often it did."""

    what: str
    got: int
    want: int

    @property
    def held(self) -> bool:
        return self.got == self.want

    def __str__(self) -> str:
        return f"{'ok  ' if self.held else 'FAIL'}  {self.got} of {self.want} {self.what}"


def write_wireguard(path: Path, index: int) -> None:
    """A WireGuard configuration file with a fresh key."""
    private = base64.b64encode(X25519PrivateKey.generate().private_bytes_raw()).decode()
    port = FIRST_PORT + index
    path.write_text(
        "[Interface]\n"
        f"# Endpoint = {group_address(index)}:{port}\n"
        f"PrivateKey = {private}\n"
        f"Address = 10.77.{index // 250}.{1 + index % 250}/16\n"
        f"ListenPort = {port}\n"
    )
    path.chmod(0o600)


def receipts_of(node: ProcessNode, nodes: list[ProcessNode]) -> set[str]:
    """Ids of the records that `node` signed a receipt for, according to those who hold the receipts."""
    return {
        announced["record_id"]
        for announced in (n.events["announced"] for n in nodes)
        for receipt in announced["receipts"]
        if receipt["node"] == node.node_id and receipt["code"] == "OK"
    }


def example(sighting: Sighting) -> str:
    """One search in words."""
    if sighting.fault:
        return f"{sighting.reader:02} looked for {sighting.peer:02}: {sighting.fault}"
    result = sighting.found["result"]
    return (
        f"{sighting.reader:02} found {sighting.peer:02} at {sighting.found['endpoints'][0]},"
        f" confirmed by {result['confirmations']} of {result['holders']}"
    )


class Demo:
    """The run: its nodes, what is shown of them, and the counts."""

    def __init__(self, nodes: int, kill: int, directory: Path, plain: bool) -> None:
        self._kill = kill
        self.configs = [directory / f"wg{i:02}.conf" for i in range(nodes)]
        for index, path in enumerate(self.configs):
            write_wireguard(path, index)
        self.net = Testnet.processes(
            nodes, directory, arguments=lambda i: ("--announce-wireguard", str(self.configs[i]))
        )
        self.board = Board(
            f"pqdht: {nodes} processes on loopback, post-quantum throughout",
            {i: Row(f"{i:02}", group_address(i)) for i in range(nodes)},
            None if plain else Console(),
        )
        self.running: dict[int, Caller] = dict(enumerate(self.net.nodes))
        self.counts: list[Count] = []
        self.faults: list[str] = []
        self.times: list[float] = []

    async def outcome(self) -> str:
        """Run to the end; what kept it from the end, '' if nothing did."""
        try:
            async with asyncio.timeout(TIME_LIMIT_S):
                await self._run()
        except TimeoutError:
            return f"not done within {TIME_LIMIT_S:.0f} s"
        except PqdhtError as e:
            return str(e)
        return ""

    async def _run(self) -> None:
        async with self.board.live(self.running):
            self.board.say(f"starting {len(self.running)} processes from one bootstrap node")
            async with self.net:
                peers = await self._announced()
                await self._find(peers, "searches for another owner confirmed", include_self=False)
                victims = await self._kill_some()
                await self._find(
                    peers,
                    f"searches confirmed with {len(victims)} of the processes killed",
                    include_self=True,
                )
                if victims:
                    await self._bring_back(victims[0])
                await self.board.refresh(self.running)
                self.board.say("done")
                self.running.clear()

    async def _announced(self) -> dict[int, Expected]:
        """Wait for all announcements; what the files say is what must be found."""
        nodes = self.net.nodes
        self.board.say("each announces the endpoint and public key of its WireGuard file")
        await asyncio.gather(*(node.event("announced") for node in nodes))
        peers = {}
        for node, path in zip(nodes, self.configs, strict=True):
            file = read_wireguard(path)
            assert file.endpoint is not None
            peers[node.index] = Expected(node.owner_id, (file.endpoint,), file.public_key.hex())
        return peers

    async def _find(self, peers: dict[int, Expected], what: str, *, include_self: bool) -> None:
        readers, done, is_shown = dict(self.running), 0, False
        want = len(readers) * (len(peers) if include_self else len(peers) - 1)

        def saw(sighting: Sighting) -> None:
            nonlocal done, is_shown
            done += 1
            self.board.rows[sighting.reader].saw(sighting)
            is_gone = sighting.peer not in readers
            if not is_shown and sighting.reader != sighting.peer and is_gone == bool(peers.keys() - readers):
                is_shown = True
                self.board.say(example(sighting))
            if done % max(1, want // 8) == 0:
                self.board.say(f"{done} of {want} searches")

        sightings = await roll_call(readers, peers, include_self=include_self, on_sighting=saw)
        self.counts.append(Count(what, sum(not s.fault for s in sightings), want))
        self.times += [s.time_s for s in sightings if not s.fault]
        self.faults += [f"{s.reader:02} looking for {s.peer:02}: {s.fault}" for s in sightings if s.fault]

    async def _kill_some(self) -> list[ProcessNode]:
        """SIGKILL those that hold most, but the bootstrap node; most receipts first."""
        by_receipts = sorted(self.net.nodes[1:], key=lambda n: -len(receipts_of(n, self.net.nodes)))
        victims = by_receipts[: self._kill]
        for victim in victims:
            del self.running[victim.index]
            await victim.kill()
            self.board.rows[victim.index].state = "killed"
        self.board.say("killed " + ", ".join(f"{v.index:02}" for v in victims))
        return victims

    async def _bring_back(self, node: ProcessNode) -> None:
        """Restart one and ask it for what it holds."""
        promised = receipts_of(node, self.net.nodes)
        self.board.say(f"restarting {node.index:02}, which gave {len(promised)} receipts")
        # It asks nobody and is asked by nobody before it listens: what it counts then is from its disk.
        await node.start()
        self.running[node.index] = node
        self.board.rows[node.index].state = "restarted"
        held = {r["record_id"] for r in (await node.call(Records()))["records"]}
        loaded = node.events["listening"]["records"]
        self.counts.append(
            Count(f"promised records still held by {node.index:02}", len(promised & held), len(promised))
        )
        self.counts.append(Count("of them read from its own disk", min(loaded, len(promised)), len(promised)))


async def main(options: argparse.Namespace) -> int:
    """Run the demo and print its counts; the exit code."""
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _cancel, asyncio.current_task())
    with tempfile.TemporaryDirectory(prefix="pqdht-demo-") as directory:
        demo = Demo(options.nodes, options.kill, Path(directory), options.plain)
        problem = await demo.outcome()
    demo.board.print_rows()
    print()
    for line in [*map(str, demo.counts), *demo.faults[:10]]:
        print(line)
    if demo.times:
        print(f"median search {milliseconds(median(demo.times))}, all in {demo.board.elapsed_s:.0f} s")
    if problem:
        print(f"FAIL  {problem}")
    return int(bool(problem) or not all(c.held for c in demo.counts))


def _cancel(task: asyncio.Task[Any] | None) -> None:
    if task is not None:
        task.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=16)
    parser.add_argument("--kill", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="lines instead of a live table")
    chosen = parser.parse_args()
    if chosen.nodes < LEAST or not 0 <= chosen.kill <= chosen.nodes - LEAST:
        parser.error(
            f"--nodes must be {LEAST} or more, and --kill must leave {LEAST} of them (0 to nodes - {LEAST})"
        )
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        sys.exit(asyncio.run(main(chosen)))
    sys.exit(130)
