"""`verify`, `reputation`, `quarantine` and `events`: whom the node believes, and what its defences did."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ..daemon.control import ControlClient
from ..daemon.requests import EVENTS_SHOWN, Events, Lift, Quarantine, Reputation, Verify, event_kind
from ..errors import NotConfirmed, NotFound
from ..kad.quorum import Verdict
from ..node.guard import EVENTS_FILE
from ..storage.eventfile import read_events
from .output import moment, note, print_columns, print_facts, print_json, printable
from .settings import Settings, ask, with_settings
from .values import evidence

_EXIT_CODES = {Verdict.CONFIRMED: 0, Verdict.ABSENT: NotFound.exit_code}
"""Of `verify`; for all other verdicts that of NotConfirmed."""


@with_settings
def verify(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="A name, a topic, or a content hash.")],
    owner: Annotated[str | None, typer.Option(help="Whose value.", show_default="your own")] = None,
    topic: Annotated[bool, typer.Option("--topic", help="NAME is a topic; give --owner.")] = False,
    content: Annotated[bool, typer.Option("--content", help="NAME is the hash of a value.")] = False,
) -> None:
    """Ask all of the closest nodes for a value and show who says what.  Exit code 0 only if all agree."""
    request = Verify(
        name=None if topic or content else name,
        topic=name if topic else None,
        content=name if content else None,
        owner=owner,
    )
    result = ask(settings, request, "verifying")
    if settings.json:
        print_json(result)
    else:
        value = result["value"]
        facts: list[tuple[str, object]] = [
            ("verdict", evidence(result)),
            ("value", _value(value, result["record_id"])),
            ("owner id", result["owner"]),
            ("record", result["record_id"]),
        ]
        for label, at in (("signed", result["timestamp"]), ("newer one seen", result["rollback_from"])):
            facts.append((label, None if at is None else moment(at)))
        print_facts(facts + [("dissent", node) for node in result["dissent"]])
    code = _EXIT_CODES.get(result["verdict"], NotConfirmed.exit_code)
    if code:
        raise typer.Exit(code)


@with_settings
def reputation(
    settings: Settings, node: Annotated[str, typer.Argument(help="Node id, 64 hex digits.")]
) -> None:
    """Show what the node thinks of another: 0 to 1, and 0.5 where it knows nothing."""
    result = ask(settings, Reputation(node=node), "asking")
    if settings.json:
        print_json(result)
    else:
        print(f"{result['score']:.3f}{'  in quarantine' if result['quarantined'] else ''}")


@with_settings
def quarantine(
    settings: Settings,
    lift: Annotated[
        str | None, typer.Option(metavar="NODE", help="Let this node out, instead of listing.")
    ] = None,
) -> None:
    """List the nodes that the node leaves out for a time, and why."""
    if lift is not None:
        result = ask(settings, Lift(node=lift), "asking")
        if settings.json:
            print_json(result)
        else:
            print(f"{result['node']} {'is let out' if result['lifted'] else 'was not in quarantine'}")
        return
    result = ask(settings, Quarantine(), "asking")
    if settings.json:
        print_json(result)
        return
    if not result["quarantined"]:
        note("nobody is in quarantine")
    print_columns(
        ("NODE ID", "REASON", "SINCE", "UNTIL", "TIMES"),
        (
            (
                h["node"],
                h["reason"],
                moment(h["since"]),
                "a probe is passed" if h["on_probation"] else moment(h["until"]),
                h["times"],
            )
            for h in result["quarantined"]
        ),
    )


@with_settings
def events(
    settings: Settings,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The latest so many.")] = EVENTS_SHOWN,
    kind: Annotated[str | None, typer.Option(help="Of this kind only.", show_default="all")] = None,
    file: Annotated[
        bool, typer.Option("--file", help="Read the file in the data directory, with events of earlier runs.")
    ] = False,
) -> None:
    """Show what the defences found and did, oldest first.

    Asks the running daemon for its latest; without one, and with --file, reads the file that it left.
    """
    event_kind(kind)
    if file or (settings.control is None and not ControlClient(settings.socket).is_answered()):
        result = _from_file(settings, limit, kind)
    else:
        result = ask(settings, Events(limit=limit, kind=kind), "asking")
        if not result["events"]:
            note("no events since the daemon started; --file shows earlier ones")
    if settings.json:
        print_json(result)
        return
    print_columns(
        ("TIME", "KIND", "DEFENCE", "MODE", "NODE ID", "GROUP", "DETAIL"),
        (
            (
                moment(e["at_ms"]),
                e["kind"],
                e["detector"],
                e["mode"],
                e["node"] or "-",
                e["group"] or "-",
                " ".join(f"{name}={_short(value)}" for name, value in e["detail"].items()),
            )
            for e in result["events"]
        ),
    )


def _from_file(settings: Settings, limit: int, kind: str | None) -> dict[str, Any]:
    """As the request `events` answers, with where they are from.  Raises StorageError."""
    path = settings.data_dir / EVENTS_FILE
    found = read_events(path, limit, kind=event_kind(kind))
    if not found.events:
        note(f"no events in {path}")
    if found.damaged:
        note(f"{found.damaged} damaged lines in {path} and the files rotated from it are left out")
    return {
        "events": [e.as_dict() for e in found.events],
        "file": str(path),
        "damaged": found.damaged,
    }


def _value(value: str | None, record: str | None) -> str | None:
    if value is None:
        return "deleted by its owner" if record is not None else None
    return f"{len(value) // 2} bytes"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else printable(value)


def security_facts(security: dict[str, Any]) -> list[tuple[str, str]]:
    """The `security` of a status, readable."""
    facts = [("security events", _counts(security["counts"]) or "none")]
    if security["suppressed"]:
        facts.append(("counted only", _counts(security["suppressed"])))
    if (file := security["file"]) and file["dropped"]:
        facts.append(("events not written", f"{file['dropped']} ({file['error']})"))
    return facts


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count}" for kind, count in counts.items())


def register(app: typer.Typer) -> None:
    for name, command in (
        ("verify", verify),
        ("reputation", reputation),
        ("quarantine", quarantine),
        ("events", events),
    ):
        app.command(name)(command)
