"""`keygen` and `id`: the keys of a data directory."""

from __future__ import annotations

import asyncio

import typer

from ..daemon.control import ControlClient
from ..daemon.requests import Status
from ..errors import PuzzleCancelled
from ..node.environment import choose_suite, system_clock, tag_of
from ..node.identities import NODE_FILE, OWNER_FILE, load_or_make_node, load_or_make_owner
from ..storage import keyfiles
from .output import print_facts, print_json, puzzle_progress
from .settings import Settings, with_settings


async def make_keys(settings: Settings) -> tuple[str, str]:
    """(node id, owner id) of the data directory, made where there are none.

    Stopped at any moment, the next run goes on from there. Raises KeyFileError.
    """
    config = settings.config()
    suite = choose_suite(config, None)
    owner = load_or_make_owner(config, suite)
    with puzzle_progress() as progress:
        node = await load_or_make_node(config, suite, tag_of(config), system_clock(), progress)
    return node.node_id.hex(), owner.owner_id.hex()


@with_settings
def keygen(settings: Settings) -> None:
    """Make node and owner keys where there are none yet.

    On main this solves a puzzle that takes about 9 s of one core; Ctrl-C is safe, run it again to go on.
    """
    existed = settings.has_keys
    try:
        node_id, owner_id = asyncio.run(make_keys(settings))
    except KeyboardInterrupt:
        raise PuzzleCancelled("stopped; run `pqdht keygen` again, it goes on where it stopped") from None
    if settings.json:
        print_json({"node_id": node_id, "owner_id": owner_id, "created": not existed})
        return
    print_facts(
        [("node id", node_id), ("owner id", owner_id), ("keys", f"{settings.data_dir} (keep them safe)")]
    )


@with_settings
def show_id(settings: Settings) -> None:
    """Print who this is: node id, owner id, and the entry others bootstrap from."""
    facts = asyncio.run(_identify(settings))
    if settings.json:
        print_json(facts)
        return
    entries = facts["bootstrap_entries"] or [f"{facts['node_id']}@tcp/HOST:4733"]
    print_facts(
        [("node id", facts["node_id"]), ("owner id", facts["owner_id"]), ("network", facts["network"])]
        + [("bootstrap", entry) for entry in entries]
    )


async def _identify(settings: Settings) -> dict[str, list[str] | str]:
    client = ControlClient(settings.socket)
    if client.is_answered():
        status = await client.call(Status())
        return {name: status[name] for name in ("node_id", "owner_id", "network", "bootstrap_entries")}
    config = settings.config()
    suite = choose_suite(config, None)
    node = keyfiles.load_node(settings.data_dir / NODE_FILE, suite, tag_of(config))
    owner = keyfiles.load_owner(settings.data_dir / OWNER_FILE, suite)
    return {
        "node_id": node.node_id.hex(),
        "owner_id": owner.owner_id.hex(),
        "network": config.params.name,
        "bootstrap_entries": [],
    }


def register(app: typer.Typer) -> None:
    app.command("keygen")(keygen)
    app.command("id")(show_id)
