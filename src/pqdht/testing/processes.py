"""Nodes as real processes `python -m pqdht run`: started, asked, killed and started again.

A process ends with its parent, however that ends: its standard input is a pipe of ours, and
`--until-eof` makes it stop when that closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..daemon.control import ControlClient, default_socket
from ..daemon.requests import Request
from ..errors import ControlError

START_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 10.0
MAX_LINE = 1024 * 1024
STDERR_NAME = "stderr.log"


class ProcessNode:
    """One process, with its state in `data_dir`, listening on a free port of `host`.

    `arguments`: more for its command line.  `events`: the last event of each kind it reported since
    it was started.
    """

    def __init__(
        self,
        index: int,
        host: str,
        data_dir: Path,
        *,
        network: str,
        provider: str = "auto",
        arguments: Sequence[str] = (),
    ) -> None:
        self.index = index
        self.data_dir = data_dir
        self.events: dict[str, dict[str, Any]] = {}
        self._settings = ("--network", network, "--provider", provider, *arguments)
        self._listen = f"tcp/{host}:0"
        self._bootstrap: Sequence[str] = ()
        self._process: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._control = ControlClient(default_socket(data_dir))

    # --- life ----------------------------------------------------------------------------------

    async def start(self, bootstrap: Sequence[str] | None = None) -> None:
        """Run it and wait until it has joined.  A second time: with the same port and entries.

        Raises ControlError, with the process's own last words, where it ends instead.
        """
        assert not self.is_running, "already running"
        self._bootstrap = self._bootstrap if bootstrap is None else bootstrap
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.events = {}
        with (self.data_dir / STDERR_NAME).open("ab") as errors:
            self._process = await asyncio.create_subprocess_exec(
                *self.command(),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=MAX_LINE,
                start_new_session=True,  # Ctrl-C is for us; we end them in order
            )
        self._reading = asyncio.create_task(self._read(self._process))
        ready = await self.event("ready")
        self._listen = ready["addresses"][0]

    def command(self) -> list[str]:
        """The command line."""
        line = [sys.executable, "-m", "pqdht", "run", "--json", "--until-eof", *self._settings]
        line += ["--data-dir", str(self.data_dir), "--listen", self._listen]
        for entry in self._bootstrap:
            line += ["--bootstrap", entry]
        return line

    async def event(self, name: str, timeout_s: float = START_TIMEOUT_S) -> dict[str, Any]:
        """The facts of an event, awaited if need be. Raises ControlError."""
        try:
            async with asyncio.timeout(timeout_s), self._changed:
                await self._changed.wait_for(lambda: name in self.events or not self.is_running)
        except TimeoutError:
            raise self._failed(f"did not report {name!r} within {timeout_s:.0f} s") from None
        if name not in self.events:
            raise self._failed(f"ended before it reported {name!r}")
        return self.events[name]

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        with contextlib.suppress(ValueError):  # a line over the limit: no event of ours
            async for line in process.stdout:
                event = msgspec.json.decode(line)
                async with self._changed:
                    self.events[event.get("event", "error")] = event
                    self._changed.notify_all()
        await process.wait()
        async with self._changed:
            self._changed.notify_all()

    def _failed(self, what: str) -> ControlError:
        words = (self.data_dir / STDERR_NAME).read_text(errors="replace").strip().splitlines()[-5:]
        return ControlError(f"node {self.index} {what}: {' | '.join(words)}", node=self.index)

    @property
    def is_running(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        """Process id of the running process."""
        assert self._process is not None
        return self._process.pid

    async def kill(self) -> None:
        """SIGKILL: no goodbye, nothing saved."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL for one that does not end; returns the exit status."""
        return await self._end(signal.SIGTERM)

    async def _end(self, number: signal.Signals) -> int:
        process = self._process
        assert process is not None
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
        if self._reading is not None:
            await self._reading
        return await process.wait()

    async def close(self) -> None:
        """Stop it if it runs."""
        if self.is_running:
            await self.stop()

    # --- what it is and does -------------------------------------------------------------------

    @property
    def node_id(self) -> str:
        """Hex; known once it is listening."""
        return str(self.events["listening"]["node_id"])

    @property
    def owner_id(self) -> str:
        """Hex; known once it is listening."""
        return str(self.events["listening"]["owner_id"])

    @property
    def entry(self) -> str:
        """What others bootstrap from."""
        return str(self.events["listening"]["bootstrap_entries"][0])

    async def call(self, request: Request) -> dict[str, Any]:
        """Ask it over its control socket. Raises what it raised, and ControlError."""
        return await self._control.call(request)
