"""`testnet --attack`: two networks under one attack, on one screen; plain lines without a terminal."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import typer

from ..errors import NotConfirmed
from ..testing.loop import run
from ..testing.siege import Side, Siege, Suspect, parse_attacks, summaries
from .output import INTERRUPTED, milliseconds, note, print_columns, print_json, printable

if TYPE_CHECKING:
    from rich.console import Console, ConsoleRenderable, Group
    from rich.table import Table

SECONDS = 60
"""Virtual seconds of attack where nothing is said."""
LINE_EVERY_S = 5
"""Virtual seconds between two lines without a terminal."""
SUSPECTS, NEWS = 12, 6
"""Lines of each on a screen of 36 lines or more; on a smaller one fewer."""
OTHER_LINES = 19
"""Title, results, headers."""
BAR = 16
"""Characters of a full bar: both results fit into 80 columns."""
REDRAW_S = 0.1
SHOWN_ID = 8
"""Hex digits of a node id on the screen."""
RESULT = ("", "WITH DEFENCES", "WITHOUT")
FOUND_OUT = ("MALICIOUS", "KIND", "CAUGHT BY", "PROOF HELD BY", "DISTRUSTED BY", "HELD BY")


def besiege(attacks: Sequence[str], *, nodes: int, seed: int, network: str, seconds: int, json: bool) -> None:
    """Run and show it.  Raises ConfigError, and NotConfirmed if a forged value was returned in spite of the
    defences."""
    if "help" in attacks:
        print_columns(("NAME", "WHAT IT DOES"), sorted(summaries().items()))
        return
    siege = Siege(parse_attacks(attacks), nodes=nodes, seed=seed, network=network)
    screen = Screen(siege, quiet=json)
    with _stopped_by_sigint(siege), screen.live():
        run(lambda: siege.watch(seconds or SECONDS, screen.show))
    if siege.figures is not None:
        if json:
            print_json(siege.figures)
        else:
            print_columns(RESULT, _results(siege.figures))
            print()
            print_columns(FOUND_OUT, screen.final)
    if siege.is_stopped:
        if siege.figures is None:
            note("stopped before the attack began: there are no figures")
        raise typer.Exit(INTERRUPTED)
    if siege.figures is not None and (forged := siege.figures["with"]["forged"]):
        raise NotConfirmed(f"{forged} forged values were returned in spite of the defences; please report it")


@contextlib.contextmanager
def _stopped_by_sigint(siege: Siege) -> Iterator[None]:
    """The first Ctrl-C ends the run after the present second, the next one at once."""

    def stop(*_: object) -> None:
        siege.is_stopped = True
        signal.signal(signal.SIGINT, before)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


class Screen:
    """Draws a siege each second of it; on a terminal in place, else a line now and then."""

    def __init__(self, siege: Siege, *, quiet: bool, console: Console | None = None) -> None:
        from rich.console import Console

        self.final: list[tuple[str, ...]] = []
        """Who found out, at the end."""
        self._siege = siege
        self._quiet = quiet
        self._console = console or Console()
        self._update: Any = None
        self._began = self._drawn = time.monotonic()
        self._said = ""

    @contextlib.contextmanager
    def live(self) -> Iterator[None]:
        """While the block runs, `show` draws."""
        if self._quiet or not self._console.is_terminal:
            yield
            return
        from rich.live import Live

        # Drawn by `show` alone: another thread would look at nodes in the middle of something.
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            self._update = live.update
            yield

    def show(self, siege: Siege) -> None:
        """A second has passed."""
        if siege.seconds:
            self.final = [_row(s) for s in siege.sides[0].suspects()]
        if self._quiet:
            return
        if self._update is None:
            self._line(siege)
        elif time.monotonic() - self._drawn >= REDRAW_S:
            self._update(self.picture(), refresh=True)
            self._drawn = time.monotonic()

    def _line(self, siege: Siege) -> None:
        if siege.seconds == 0 or siege.seconds % LINE_EVERY_S:
            if self._said != siege.phase:
                print(f"{'':5}  {siege.phase}", flush=True)
            self._said = siege.phase
            return
        parts = [f"{s.name}: {s.reads['right']} of {s.reads.total()} right, {s.reads['forged']} forged"
                 for s in siege.sides]  # fmt: skip
        caught = sum(s.accused > 0 for s in siege.sides[0].suspects())
        found = f"{caught} of {len(siege.roles)} malicious nodes caught"
        print(f"{siege.seconds:3} s  " + "; ".join((*parts, found)), flush=True)

    def picture(self) -> Group:
        """The whole screen."""
        from rich.console import Group

        siege = self._siege
        attacks = ", ".join(f"{a.name}={a.share:g}" for a in siege.attacks)
        title = (
            f"pqdht testnet: {siege.nodes} nodes, {len(siege.roles)} of them malicious ({attacks}), seed"
            f" {siege.seed}\n{siege.phase}, {siege.seconds} s simulated in"
            f" {time.monotonic() - self._began:.0f} s\n"
        )
        if not siege.seconds:
            return Group(title)
        guarded = siege.sides[0]
        suspects = [_row(s) for s in guarded.suspects()]
        parts: list[ConsoleRenderable | str] = [title, _table(RESULT, _results(siege.as_dict())), ""]
        room = self._console.height - OTHER_LINES
        lines = max(1, min(NEWS, room // 3))
        most = max(1, min(SUSPECTS, room - lines))
        parts.append(_table(FOUND_OUT, suspects[:most]))
        if len(suspects) > most:
            parts.append(f"and {len(suspects) - most} more")
        news = _table(("AT", "SEEN BY", "EVENT", "ABOUT", "DEFENCE"), _news(guarded)[-lines:])
        return Group(*parts, "", news)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in header:
        table.add_column(name, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    return table


def _row(suspect: Suspect) -> tuple[str, ...]:
    figures = (suspect.accused, suspect.proven, suspect.distrusted, suspect.held)
    return (suspect.node.hex()[:SHOWN_ID], suspect.kind, *map(str, figures))


def _results(figures: dict[str, Any]) -> list[tuple[str, ...]]:
    """How readers fared, side by side."""
    sides = (figures["with"], figures["without"])
    rows: list[tuple[str, ...]] = [
        ("GETs", *(str(s["reads"]) for s in sides)),
        ("right values", *(_share(s["success"]) for s in sides)),
        ("right lately", *(_share(s["success_lately"]) for s in sides)),
    ]
    for label, name in (
        ("FORGED values", "forged"),
        ("older values", "stale"),
        ("no value", "failed"),
        ("honest in quarantine", "honest_in_quarantine"),
    ):
        rows.append((label, *(str(s[name]) for s in sides)))
    return [*rows, ("median time of a GET", *(milliseconds(s["median_s"]) for s in sides))]


def _share(share: float | None) -> str:
    if share is None:
        return "-"
    return f"{'#' * round(BAR * share):<{BAR}} {100 * share:.1f} %"


def _news(side: Side) -> list[tuple[str, ...]]:
    """The latest events."""
    return [
        (
            f"{at:.1f} s",
            observer.hex()[:SHOWN_ID],
            event.kind.value,
            event.node.hex()[:SHOWN_ID] if event.node is not None else "-",
            printable(event.detector),
        )
        for at, event, observer in list(side.news)[-NEWS:]
    ]
