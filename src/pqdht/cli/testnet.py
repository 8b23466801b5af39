"""`testnet`: a whole network on this machine, checked and shown."""

from __future__ import annotations

import asyncio
import contextlib
import math
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ..daemon.control import LocalCaller
from ..daemon.requests import Announce, Caller, Status
from ..errors import ConfigError, NotConfirmed
from ..testing.rollcall import Expected, Sighting, median, roll_call
from ..testing.testnet import Testnet
from .board import Board, Row
from .output import milliseconds, note, print_json, reporting

MAX_NODES = 200
PORT = 51820


def testnet(
    nodes: Annotated[int, typer.Option(min=2, max=MAX_NODES, help="How many nodes.")] = 8,
    processes: Annotated[
        bool, typer.Option("--processes", help="Each node a process of its own, as outside.")
    ] = False,
    network: Annotated[str, typer.Option(help="Parameter set: demo or testnet.")] = "demo",
    seconds: Annotated[
        float,
        typer.Option(
            min=0, help="Keep the network up this long after the check; of an attack, how long it lasts (60)."
        ),
    ] = 0.0,
    provider: Annotated[str, typer.Option(help="auto, openssl or liboqs.")] = "auto",
    attack: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=SHARE", help="Attack the network instead; may be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of an attack: the same seed, the same run.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Start a network on loopback, let every node find every other, show it, and end.

    With --seconds it stays up for a while, and other nodes may join it.

    With --attack, such as `--attack poison=0.3`, it shows two networks under the same attack, with the
    defences and without: who is malicious, who found out, what readers get.  These are simulated, in
    virtual time and with stand-in cryptography (--provider is not used), so that a minute (or --seconds)
    of 32 nodes usually takes less than one, and the same seed gives the same run.  `--attack help` lists
    what there is.
    """
    with reporting(json=json, debug=debug):
        _check_network(network)
        if attack:
            from .siege import besiege

            if processes:
                raise ConfigError("an attack is simulated: leave --processes out", name="processes")
            besiege(attack, nodes=nodes, seed=seed, network=network, seconds=math.ceil(seconds), json=json)
            return
        asyncio.run(_testnet(nodes, processes, network, seconds, provider, json))


def _check_network(network: str) -> None:
    if network == "main":
        raise ConfigError("a test network cannot use main's parameters: use demo or testnet", name="network")


@contextlib.asynccontextmanager
async def _network(nodes: int, processes: bool, network: str, provider: str) -> AsyncIterator[list[Caller]]:
    if not processes:
        async with Testnet.loopback(nodes, network=network, provider=provider) as here:
            yield [LocalCaller(node) for node in here.nodes]
        return
    with tempfile.TemporaryDirectory(prefix="pqdht-testnet-") as directory:
        async with Testnet.processes(nodes, Path(directory), network=network, provider=provider) as there:
            yield list(there.nodes)


async def _testnet(
    nodes: int, processes: bool, network: str, seconds: float, provider: str, json: bool
) -> None:
    from rich.console import Console

    board = Board(
        f"pqdht testnet: {nodes} {'processes' if processes else 'nodes'}, network {network}",
        {i: Row(f"{i:02}") for i in range(nodes)},
        Console(stderr=json),
    )
    if not json:
        board.say("starting")
    async with _network(nodes, processes, network, provider) as callers:
        result = await _check(board, callers, seconds, quiet=json)
    if json:
        print_json(result)
    else:
        board.print_rows()
        print(
            f"{result['confirmed']} of {result['searches']} searches confirmed,"
            f" median {milliseconds(result['latency_s'])}"
        )
    for fault in result["faults"][:5]:
        note(fault)
    if result["faults"]:
        raise NotConfirmed(f"{len(result['faults'])} of {result['searches']} searches do not count")


async def _check(board: Board, callers: list[Caller], seconds: float, *, quiet: bool) -> dict[str, Any]:
    asked = dict(enumerate(callers))

    def saw(sighting: Sighting) -> None:
        board.rows[sighting.reader].saw(sighting)

    def say(what: str) -> None:
        if not quiet:
            board.say(what)

    async with board.live(asked) if not quiet else contextlib.nullcontext():
        say("every node announces where it is")
        announced = await asyncio.gather(*(c.call(Announce(listen_port=PORT)) for c in callers))
        peers = {i: Expected(a["owner"], tuple(a["endpoints"])) for i, a in enumerate(announced)}
        say("every node looks for every other")
        sightings = await roll_call(asked, peers, on_sighting=saw)
        entries = (await callers[0].call(Status()))["bootstrap_entries"]
        if seconds:
            say(f"up for {seconds:g} s; join with --bootstrap {entries[0]}")
            await asyncio.sleep(seconds)
    return {
        "nodes": len(callers),
        "searches": len(sightings),
        "confirmed": sum(not s.fault for s in sightings),
        "latency_s": median([s.time_s for s in sightings if not s.fault]),
        "faults": [f"{s.reader:02} looking for {s.peer:02}: {s.fault}" for s in sightings if s.fault],
        "bootstrap_entries": entries,
    }


def register(app: typer.Typer) -> None:
    app.command("testnet")(testnet)
