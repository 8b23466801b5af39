"""`keygen` and `id`: the keys of a data directory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import typer

from ..daemon.control import ControlClient
from ..daemon.requests import Status, valid_until
from ..errors import PuzzleCancelled
from ..identity.keys import NodeIdentity, OwnerIdentity
from ..node.environment import choose_suite, system_clock, tag_of
from ..node.identities import NODE_FILE, OWNER_FILE, PROGRESS_FILE, load_or_make_node, load_or_make_owner
from ..storage import keyfiles
from .output import CLIENT_ONLY, note, print_facts, print_json, puzzle_progress
from .settings import Settings, with_settings


def make_keys(
    settings: Settings, command: str, report: Callable[[dict[str, Any]], None] | None = None
) -> tuple[NodeIdentity, OwnerIdentity]:
    """The identities of the data directory, made where there are none.

    Stopped at any moment, the next run goes on from there. `report` gets events of the puzzle.
    Raises KeyFileError, StorageError, PuzzleCancelled (by Ctrl-C).
    """
    try:
        return asyncio.run(_make_keys(settings, report))
    except KeyboardInterrupt:
        raise PuzzleCancelled(f"stopped; run `pqdht {command}` again, it goes on where it stopped") from None


async def _make_keys(
    settings: Settings, report: Callable[[dict[str, Any]], None] | None
) -> tuple[NodeIdentity, OwnerIdentity]:
    config = settings.config()
    suite = choose_suite(config, None)
    settings.make_data_dir()
    owner = load_or_make_owner(config, suite)
    if (settings.data_dir / PROGRESS_FILE).exists():
        if report is None:
            note("going on with the identity puzzle where it stopped")
        else:
            report({"event": "puzzle", "state": "resumed"})
    with puzzle_progress(report) as progress:
        node = await load_or_make_node(config, suite, tag_of(config), system_clock(), progress)
    return node, owner


@with_settings
def keygen(settings: Settings) -> None:
    """Make node and owner keys where there are none yet.

    On main this solves a puzzle that usually takes 10 to 60 s; Ctrl-C is safe, run it again to go on.
    """
    before = _key_files(settings)
    node, owner = make_keys(settings, "keygen")
    is_new = _key_files(settings) != before
    node_id, owner_id = node.node_id.hex(), owner.owner_id.hex()
    if settings.json:
        print_json({"node_id": node_id, "owner_id": owner_id, "created": is_new})
        return
    what = "keep them safe" if is_new else "existing keys kept, nothing made"
    print_facts(
        [
            ("node id", node_id),
            ("owner id", owner_id),
            ("keys", f"{settings.data_dir} ({what})"),
            ("valid until", valid_until(node.born)),
        ]
    )


def _key_files(settings: Settings) -> list[int]:
    paths = [settings.data_dir / name for name in (NODE_FILE, OWNER_FILE)]
    return [path.stat().st_mtime_ns for path in paths if settings.has_keys]


@with_settings
def show_id(settings: Settings) -> None:
    """Print who this is: node id, owner id, and the entry others bootstrap from."""
    facts = asyncio.run(_identify(settings))
    if settings.json:
        print_json(facts)
        return
    entries = facts["bootstrap_entries"] or [
        CLIENT_ONLY if facts["running"] else f"{facts['node_id']}@tcp/HOST:4733"
    ]
    print_facts(
        [(name.replace("_", " "), facts[name]) for name in ("node_id", "owner_id", "network", "valid_until")]
        + [("bootstrap", entry) for entry in entries]
    )


async def _identify(settings: Settings) -> dict[str, Any]:
    client = ControlClient(settings.socket)
    if client.is_answered():
        await settings.check_same(client)
        status = await client.call(Status())
        names = ("node_id", "owner_id", "network", "valid_until", "bootstrap_entries")
        return {name: status[name] for name in names} | {"running": True}
    config = settings.config()
    suite = choose_suite(config, None)
    node = keyfiles.load_node(settings.data_dir / NODE_FILE, suite, tag_of(config))
    owner = keyfiles.load_owner(settings.data_dir / OWNER_FILE, suite)
    return {
        "node_id": node.node_id.hex(),
        "owner_id": owner.owner_id.hex(),
        "network": config.params.name,
        "valid_until": valid_until(node.born),
        "bootstrap_entries": [],
        "running": False,
    }


def register(app: typer.Typer) -> None:
    app.command("keygen")(keygen)
    app.command("id")(show_id)
