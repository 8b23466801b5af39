"""The daemon in a fork of a process that has imported everything: a life costs milliseconds, not a second.

What runs in the fork is what `pqdht run` runs after its command line was read.  A zygote reads one JSON
object a line: `{"run": {...}}` forks, `{"wait": pid}` tells when a fork has ended; the forks' events come
on the same standard output, each with its `pid`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pqdht import Config, ControlError
from pqdht.crypto.providers import get_provider
from pqdht.daemon.control import ControlClient, default_socket
from pqdht.daemon.requests import Request
from pqdht.daemon.service import run_until_signalled, serve

WAIT_S = 60.0


class ForkedNode:
    """One node in one directory, life after life; the part of `ProcessNode` that a crash trial needs."""

    def __init__(self, host: str, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.events: dict[str, dict[str, Any]] = {}
        self._listen = f"tcp/{host}:0"
        self._bootstrap: Sequence[str] = ()
        self._zygote: asyncio.subprocess.Process | None = None
        self._reading: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self._control = ControlClient(default_socket(data_dir))

    async def start(self, bootstrap: Sequence[str] | None = None) -> None:
        """Fork and wait until it has joined. Raises ControlError where it ends instead."""
        if self._zygote is None:
            self._zygote = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.live.zygote"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            self._reading = asyncio.create_task(self._read(self._zygote))
        self._bootstrap = self._bootstrap if bootstrap is None else bootstrap
        self.events = {}
        self._ask(run={"data_dir": str(self.data_dir), "listen": self._listen, "bootstrap": self._bootstrap})
        await self._event("forked")
        self._listen = (await self._event("ready"))["addresses"][0]

    @property
    def pid(self) -> int:
        """Of the life that runs."""
        return int(self.events["forked"]["pid"])

    @property
    def is_running(self) -> bool:
        """Whether there is something to kill."""
        return "forked" in self.events and "ended" not in self.events

    async def kill(self) -> None:
        """SIGKILL."""
        os.kill(self.pid, signal.SIGKILL)
        self._ask(wait=self.pid)
        ended = await self._event("ended")
        assert ended["signal"] == signal.SIGKILL, ended

    async def close(self) -> None:
        """End the zygote, and the node with it."""
        if self.is_running:
            await self.kill()
        if self._zygote is not None and self._reading is not None:
            assert self._zygote.stdin is not None
            self._zygote.stdin.close()
            await self._zygote.wait()
            await self._reading

    async def call(self, request: Request) -> dict[str, Any]:
        """Ask it over its control socket."""
        return await self._control.call(request)

    @property
    def entry(self) -> str:
        """What others bootstrap from."""
        return str(self.events["listening"]["bootstrap_entries"][0])

    def _ask(self, **what: Any) -> None:
        assert self._zygote is not None
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(what).encode() + b"\n")

    async def _event(self, name: str) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(lambda: name in self.events or "ended" in self.events)
        if name not in self.events:
            raise ControlError(f"ended before it reported {name!r}: {self.events['ended']}")
        return self.events[name]

    async def _read(self, zygote: asyncio.subprocess.Process) -> None:
        assert zygote.stdout is not None
        async for line in zygote.stdout:
            event = json.loads(line)
            async with self._changed:
                if event["event"] == "forked" or event["pid"] == self.events.get("forked", {}).get("pid"):
                    self.events[event["event"]] = event
                self._changed.notify_all()


def tell(event: dict[str, Any]) -> None:
    """One line, in one write: a kill leaves it whole or away."""
    os.write(1, json.dumps({"pid": os.getpid()} | event).encode() + b"\n")


def main() -> None:
    """The zygote."""
    get_provider("auto")
    for line in sys.stdin:
        asked = json.loads(line)
        if "wait" in asked:
            _, status = os.waitpid(asked["wait"], 0)
            tell({"event": "ended", "pid": asked["wait"], "signal": os.WTERMSIG(status), "status": status})
            continue
        pid = os.fork()
        if pid:
            tell({"event": "forked", "pid": pid})
            continue
        run = asked["run"]
        config = Config(
            network="demo",
            data_dir=Path(run["data_dir"]),
            listen=(run["listen"],),
            bootstrap=tuple(run["bootstrap"]),
        )
        with contextlib.suppress(KeyboardInterrupt):
            run_until_signalled(serve(config, control=default_socket(Path(run["data_dir"])), report=tell))
        os._exit(0)


if __name__ == "__main__":
    main()
