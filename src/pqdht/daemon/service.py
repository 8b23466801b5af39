"""The daemon: one node, its control socket, its announcement, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ..config import Config
from ..errors import ConfigError, NotBootstrapped, PqdhtError
from ..node.dht import SecureDHT
from ..wire.address import parse_address
from .control import control_server
from .failure import describe
from .requests import Announce, bootstrap_entries
from .watch import Watch

SWITCH_INTERVAL_S = 0.0005
"""How long a signing thread may keep the event loop waiting (Python's default is ten times that)."""
GC_THRESHOLDS = (20_000, 20, 100)
"""A node frees nearly all by reference count; with Python's own thresholds (700, 10, 10) the cycle collector
walks its heap for a quarter of the time under load."""
JOIN_PATIENCE_S = 15.0
"""After this long without a peer the daemon says so, and goes on trying."""

Event = dict[str, Any]
"""`event` is listening, warning, waiting, ready, announced, announce_failed, storage_failing or stopped
(and puzzle, from the command line before all these); the rest are its facts."""
Report = Callable[[Event], None]


def tune_interpreter() -> None:
    """What a process that is nothing but nodes sets for the whole interpreter."""
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    gc.set_threshold(*GC_THRESHOLDS)
    gc.freeze()  # what was imported stays


async def serve(
    config: Config, *, control: Path | None, announce: Announce | None = None, report: Report
) -> None:
    """Run a node until cancelled.  Raises what `SecureDHT.start` raises, and ListenError."""
    dht = SecureDHT(config)
    if control is None:
        await _serve(dht, None, announce, report)
        return
    async with control_server(dht, control):
        await _serve(dht, control, announce, report)


async def _serve(dht: SecureDHT, control: Path | None, announce: Announce | None, report: Report) -> None:
    try:
        async with dht:
            config = dht.config
            listen = dht.env.addresses if not config.advertise and dht.env.addresses else config.listen
            where = {"listen": list(listen), "bootstrap": list(config.bootstrap)}
            report({"event": "listening"} | where | _facts(dht, control))
            if private := _private_addresses(dht):
                report({"event": "warning", "message": private})
            watching = asyncio.create_task(Watch(dht, report).run())
            try:
                await _live(dht, control, announce, report)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
    except asyncio.CancelledError:
        report({"event": "stopped"})  # after an error nothing ended in order
        raise


async def _live(dht: SecureDHT, control: Path | None, announce: Announce | None, report: Report) -> None:
    await _joined(dht, report)
    report({"event": "ready"} | _facts(dht, control))
    if announce is not None:
        await _announce(dht, announce, report)
    await asyncio.Event().wait()


def _private_addresses(dht: SecureDHT) -> str:
    """A warning, '' where all addresses told to others can be believed."""
    if dht.env.params.private_addresses:
        return ""
    private = [a for a in dht.env.addresses if not parse_address(a).is_public]
    if not private:
        return ""
    return (
        f"{', '.join(private)}: on {dht.env.params.name} others do not believe private or loopback addresses;"
        " give --advertise with a public one, or use --network testnet for a laboratory"
    )


def _facts(dht: SecureDHT, control: Path | None) -> Event:
    status = dht.status()
    names = ("node_id", "owner_id", "network", "provider", "addresses", "records", "table")
    return {name: status[name] for name in names} | {
        "bootstrap_entries": bootstrap_entries(dht),
        "control": str(control) if control is not None else None,
        "pid": os.getpid(),
    }


async def _joined(dht: SecureDHT, report: Report) -> None:
    try:
        await dht.bootstrapped(JOIN_PATIENCE_S)
    except NotBootstrapped as e:
        report({"event": "waiting", "error": describe(e), "join_errors": dict(dht.env.join_errors)})
        await dht.bootstrapped()


async def _announce(dht: SecureDHT, announce: Announce, report: Report) -> None:
    """A failed announcement stays queued in the node, which tries again by itself."""
    try:
        report({"event": "announced"} | await announce.run(dht))
    except PqdhtError as e:
        report({"event": "announce_failed", "error": describe(e)})


def run_until_signalled(work: Coroutine[Any, Any, None], *, until_eof: bool = False) -> None:
    """Run the daemon's coroutine, on uvloop where present; SIGINT and SIGTERM cancel it once.

    A second signal is Python's default again, so that a close that hangs can be ended.
    `until_eof`: also end when standard input does, so that no child outlives a killed parent.
    """
    tune_interpreter()
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_until_signalled(work, until_eof))


async def _until_signalled(work: Coroutine[Any, Any, None], until_eof: bool) -> None:
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)

    def stop() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        if until_eof:
            loop.remove_reader(sys.stdin)
        task.cancel()

    def drain() -> None:
        if not os.read(sys.stdin.fileno(), 4096):
            stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    if until_eof:
        try:
            loop.add_reader(sys.stdin, drain)
        except OSError:
            task.cancel()
            raise ConfigError("--until-eof needs a pipe as standard input", name="until_eof") from None
    with contextlib.suppress(asyncio.CancelledError):
        await task
