"""`put`, `get` and `delete`: values."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer

from ..config import Consistency
from ..constants import DAY_S
from ..daemon.requests import Delete, Get, Put
from ..errors import ConfigError, NotFound
from .output import milliseconds, note, print_facts, print_json, printable
from .settings import Settings, ask, with_settings

_Topic = Annotated[bool, typer.Option("--topic", help="NAME is a topic, under which everybody can write.")]


def _value(text: str | None, file: Path | None) -> bytes:
    """From the argument, from standard input (`-`), or from a file. Raises ConfigError."""
    if (text is None) == (file is None):
        raise ConfigError("give a VALUE, or `-` for standard input, or --file", name="value")
    if text == "-":
        return sys.stdin.buffer.read()
    if text is not None:
        return text.encode(errors="surrogateescape")
    assert file is not None
    try:
        return file.read_bytes()
    except OSError as e:
        raise ConfigError(f"{file} cannot be read: {e.strerror}", name="file") from None


@with_settings
def put(
    settings: Settings,
    name: Annotated[str | None, typer.Argument(help="Your name for the value.", show_default=False)] = None,
    value: Annotated[
        str | None, typer.Argument(help="The value, or - for standard input.", show_default=False)
    ] = None,
    file: Annotated[Path | None, typer.Option(help="Take the value from a file.")] = None,
    topic: _Topic = False,
    content: Annotated[
        bool, typer.Option("--content", help="Store under the value's own hash; takes no NAME.")
    ] = False,
    ttl: Annotated[int, typer.Option(help="Life in seconds, 60 to 604800.")] = DAY_S,
    previous: Annotated[
        str | None, typer.Option(metavar="RECORD", help="Only replace this version (best effort).")
    ] = None,
) -> None:
    """Sign a value and store it at the closest nodes."""
    if content:
        if value is not None or topic:
            raise ConfigError("--content takes a value and no name", name="content")
        name, value = None, name
    elif name is None:
        raise ConfigError("give a NAME, or --content", name="name")
    data = _value(value, file)
    most = settings.config().params.limits.max_value
    if len(data) > most:
        raise ConfigError(f"value of {len(data)} bytes, at most {most}", name="value")
    request = Put(
        name=None if topic else name,
        topic=name if topic else None,
        value=data.hex(),
        ttl=ttl,
        previous=previous,
        immutable=content,
    )
    result = ask(settings, request, "storing")
    if settings.json:
        print_json(result)
        return
    print_facts(
        [
            ("stored", f"{len(data)} bytes, {result['confirmed']} receipts, {result['need']} needed"),
            ("hash" if content else "key", result["key"]),
            ("record", result["record_id"]),
            ("time", milliseconds(result["time_s"])),
        ]
    )


@with_settings
def get(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="A name, a topic, or a content hash.")],
    owner: Annotated[
        str | None, typer.Option(help="Whose value.", show_default="your own; of a topic, everybody's")
    ] = None,
    topic: _Topic = False,
    content: Annotated[bool, typer.Option("--content", help="NAME is the hash of a value.")] = False,
    ignore_local: Annotated[
        bool, typer.Option("--ignore-local", help="Leave the node's own copy out.")
    ] = False,
    thorough: Annotated[bool, typer.Option("--thorough", help="Ask more nodes on each path.")] = False,
    consistency: Annotated[
        str | None, typer.Option(help="first, majority or all.", show_default="majority")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds.", show_default="30")] = None,
) -> None:
    """Fetch a value: the value to standard output, the evidence for it to standard error."""
    if topic and content:
        raise ConfigError("give --topic or --content, not both", name="content")
    request = Get(
        name=None if topic or content else name,
        topic=name if topic else None,
        content=name if content else None,
        owner=owner,
        ignore_local=ignore_local,
        thorough=thorough,
        consistency=_consistency(consistency),
        timeout=timeout,
    )
    is_own = owner is None and not topic and not content
    try:
        result = ask(settings, request, "looking")
    except NotFound as e:
        if is_own:
            e.args = (f"{e} (you asked for your own {name!r}: give --owner for somebody else's)",)
        raise
    found = result.get("results")
    if found == []:
        raise NotFound(f"nobody has a value under the topic {name!r}", topic=name)
    if settings.json:
        print_json(result)
    elif found is not None:
        _write_topic(found)
    else:
        _write_value(result["value"])
        note(evidence(result))


@with_settings
def delete(
    settings: Settings,
    name: Annotated[str, typer.Argument(help="Your name for the value.")],
    topic: _Topic = False,
) -> None:
    """Replace a value of yours by a tombstone."""
    request = Delete(name=None if topic else name, topic=name if topic else None)
    result = ask(settings, request, "deleting")
    if settings.json:
        print_json(result)
        return
    print_facts([("deleted", name), ("receipts", f"{result['confirmed']}, {result['need']} needed")])


def evidence(result: dict[str, Any]) -> str:
    """How sure a GET's answer is, in one line."""
    return (
        f"{result['verdict']}: {result['confirmations']} of {result['holders']} confirm,"
        f" {result['responders']} answered over {result['paths']} paths in {result['groups']} groups,"
        f" {milliseconds(result['time_s'])}"
    )


def _consistency(text: str | None) -> Consistency | None:
    if text is None or text in get_args(Consistency):
        return cast(Consistency | None, text)
    raise ConfigError(f"consistency must be first, majority or all, got {text!r}", name="consistency")


def _write_topic(found: list[dict[str, Any]]) -> None:
    """One value as it is; several one per line behind their owners, escaped where they are no text."""
    for one in found:
        note(f"{one['owner']}: {evidence(one)}")
        if len(found) == 1:
            _write_value(one["value"])
        else:
            print(
                one["owner"], printable(bytes.fromhex(one["value"] or "").decode(errors="backslashreplace"))
            )


def _write_value(value: str | None) -> None:
    """Byte for byte into a file or pipe; readable, and harmless, on a terminal."""
    data = bytes.fromhex(value or "")
    if sys.stdout.isatty():
        for line in data.decode(errors="backslashreplace").splitlines():
            print(printable(line))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def register(app: typer.Typer) -> None:
    app.command("put")(put)
    app.command("get")(get)
    app.command("delete")(delete)
