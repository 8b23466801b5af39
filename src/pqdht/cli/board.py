"""A network at a glance: one row per node, live on a terminal, plain lines elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ..daemon.requests import Caller, Status
from ..errors import PqdhtError
from ..testing.rollcall import Sighting, median
from .output import milliseconds, print_columns

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

POLL_S = 0.5
HEADER = ("NODE", "ADDRESS", "STATE", "TABLE", "HELD", "SEARCHES", "CONFIRMED", "MEDIAN")


@dataclass(slots=True)
class Row:
    """What is shown of one node."""

    name: str
    address: str = ""
    state: str = "starting"
    table: int = 0
    records: int = 0
    sought: int = 0
    confirmed: int = 0
    times: list[float] = field(default_factory=list)

    def cells(self) -> tuple[str, ...]:
        """As text, in the order of HEADER."""
        return (
            self.name,
            self.address,
            self.state,
            str(self.table),
            str(self.records),
            str(self.sought),
            str(self.confirmed),
            milliseconds(median(self.times)),
        )

    def saw(self, sighting: Sighting) -> None:
        """Count one search of this node's."""
        self.sought += 1
        if not sighting.fault:
            self.confirmed += 1
            self.times.append(sighting.time_s)


class Board:
    """The rows and what is going on.  `console`: where to draw; None or no terminal: plain lines."""

    def __init__(self, title: str, rows: Mapping[int, Row], console: Console | None) -> None:
        self.rows = rows
        self._title = title
        self._phase = ""
        self._began = time.monotonic()
        self._console = console if console is not None and console.is_terminal else None

    @property
    def elapsed_s(self) -> float:
        """Seconds since the board was made."""
        return time.monotonic() - self._began

    def say(self, what: str) -> None:
        """A new phase: above the rows on a terminal, else a line."""
        self._phase = what
        if self._console is None:
            print(f"{self.elapsed_s:6.1f} s  {what}", flush=True)

    def __rich__(self) -> Table:
        from rich.table import Table

        table = Table(
            title=f"{self._title}   {self.elapsed_s:5.1f} s\n{self._phase}", title_justify="left", box=None
        )
        for i, name in enumerate(HEADER):
            table.add_column(name, justify="left" if i < 3 else "right", no_wrap=True)
        for row in self.rows.values():
            table.add_row(*row.cells(), style="dim" if row.state == "killed" else None)
        return table

    def print_rows(self) -> None:
        """The rows as they are now, in plain text."""
        print_columns(HEADER, (row.cells() for row in self.rows.values()))

    @contextlib.asynccontextmanager
    async def live(self, callers: Mapping[int, Caller]) -> AsyncIterator[None]:
        """Keep the rows of `callers` (which may change) up to date, and drawn."""
        watching = asyncio.create_task(self._watch(callers))
        try:
            if self._console is None:
                yield
            else:
                from rich.live import Live

                with Live(self, console=self._console, refresh_per_second=4, transient=True):
                    yield
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
        await self.refresh(callers)

    async def _watch(self, callers: Mapping[int, Caller]) -> None:
        while True:
            await self.refresh(callers)
            await asyncio.sleep(POLL_S)

    async def refresh(self, callers: Mapping[int, Caller]) -> None:
        """Ask every node once how it is."""
        await asyncio.gather(*(self._ask(self.rows[i], caller) for i, caller in list(callers.items())))

    async def _ask(self, row: Row, caller: Caller) -> None:
        try:
            status = await caller.call(Status())
        except PqdhtError:
            return  # starting, or killed
        row.address = next(iter(status["addresses"]), "").removeprefix("tcp/")
        if row.state == "starting" and status["bootstrapped"]:
            row.state = "up"
        row.table, row.records = status["table"], status["records"]
