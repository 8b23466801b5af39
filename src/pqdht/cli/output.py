"""What the command line says: results on standard output, all else on standard error."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import sys
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec
import typer

from ..daemon.failure import describe
from ..errors import PqdhtError

PATIENCE_S = 0.7
"""Progress is shown for what takes longer than this."""
SLOW_S = 3.0
"""After this it is said what keeps us waiting."""
PUZZLE = "usually 10-60 s on one or two cores, luck decides"
WORDING = (
    ("is in `result` of this error", "is shown by --json"),
    ("thorough=True", "--thorough"),
)
"""What messages of the library are called here."""
CLIENT_ONLY = "client only: no address others can dial; give --advertise tcp/IP:PORT"
INTERNAL_ERROR = 70
"""Exit code of a defect of ours (EX_SOFTWARE of sysexits.h)."""
INTERRUPTED = 130
"""As shells report SIGINT."""


@contextlib.contextmanager
def reporting(*, json: bool, debug: bool) -> Iterator[None]:
    """Turn what the block raises into one line on standard error and an exit code.

    `json`: also print the error as JSON on standard output.  `debug`: print the traceback too.
    """
    try:
        yield
    except (typer.Exit, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    except Exception as e:
        if debug:
            traceback.print_exc()
        code, message = INTERNAL_ERROR, f"this should not happen ({type(e).__name__}: {e}); please report it"
        if isinstance(e, PqdhtError):
            code, message = e.exit_code, _for_the_command_line(str(e))
        if json:
            print_json({"error": describe(e if isinstance(e, PqdhtError) else PqdhtError(message))})
        note("pqdht: " + " ".join(message.split()))
        raise typer.Exit(code) from None


def _for_the_command_line(message: str) -> str:
    """The library names its parameters; here they are options."""
    for ours, theirs in WORDING:
        message = message.replace(ours, theirs)
    return message


def printable(text: object) -> str:
    """What others wrote, with control characters escaped: it must not drive our user's terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(text))


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_facts(facts: Iterable[tuple[str, object]]) -> None:
    """Labelled lines, aligned; facts that are None or '' are left out."""
    shown = [(printable(k), printable(v)) for k, v in facts if v is not None and v != ""]
    width = max((len(label) for label, _ in shown), default=0)
    for label, value in shown:
        print(f"{label:<{width}}  {value}")


def print_columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Aligned columns without borders: readable, and easy to cut."""
    lines = [list(header), *([printable(cell) for cell in row] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def milliseconds(seconds: float | None) -> str:
    """`12.3 ms`, or a dash where there was no measurement."""
    return "-" if seconds is None else f"{1000 * seconds:.1f} ms"


def moment(ms: int) -> str:
    """A time in UTC, to the second; the bare number where no calendar reaches."""
    try:
        return datetime.datetime.fromtimestamp(ms / 1000, datetime.UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(ms)


def note(text: str) -> None:
    """A remark beside the result."""
    print(printable(text), file=sys.stderr)


# --- progress ------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def progress(what: str, slow: str = "") -> AsyncIterator[None]:
    """A spinner on standard error once the block takes long; nothing where that is no terminal.

    `slow`: what it says where the block takes very long.
    """
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    status = Console(stderr=True).status(what)
    loop = asyncio.get_running_loop()
    timers = [
        loop.call_later(PATIENCE_S, status.start),
        loop.call_later(SLOW_S, status.update, slow or what),
    ]
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()
        status.stop()


@contextlib.contextmanager
def puzzle_progress(
    report: Callable[[dict[str, Any]], None] | None = None,
) -> Iterator[Callable[[int, int], None]]:
    """Shows the search for a node id; call it with (tried, expected).

    A terminal gets a moving bar without an end, as luck has no memory.  Elsewhere a line says that
    the search began (once it takes long) and that it ended; `report` gets the same as events.
    """
    if report is None and sys.stderr.isatty():
        with _puzzle_bar() as bar:
            yield bar
        return
    began, is_said = time.monotonic(), False

    def tell(state: str, text: str) -> None:
        if report is not None:
            report({"event": "puzzle", "state": state, "time_s": round(time.monotonic() - began, 3)})
        else:
            note(text)

    def show(tried: int, expected: int) -> None:
        nonlocal is_said
        if not is_said and time.monotonic() - began >= PATIENCE_S:
            is_said = True
            tell("solving", f"solving the identity puzzle: {PUZZLE}")

    yield show
    if is_said:
        tell("solved", f"identity puzzle solved in {time.monotonic() - began:.0f} s")


@contextlib.contextmanager
def _puzzle_bar() -> Iterator[Callable[[int, int], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        TextColumn("{task.completed:,.0f} tried"),
        TimeElapsedColumn(),
    )
    note(f"solving the identity puzzle: {PUZZLE}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda tried, expected: bar.update(task, completed=tried)
