"""`run`: the daemon."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..daemon.service import Event, run_until_signalled, serve
from .announcement import announcement
from .identity import make_keys
from .output import note, print_json
from .settings import Settings, with_settings

DEFAULT_LISTEN = "tcp/0.0.0.0:4733"


@with_settings
def run(
    settings: Settings,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PQDHT_LISTEN", help="Address to accept on; may be repeated.", show_default=DEFAULT_LISTEN
        ),
    ] = None,
    advertise: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PQDHT_ADVERTISE",
            help="Address others are told; may be repeated.",
            show_default="the listening ones",
        ),
    ] = None,
    announce: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="Publish this VPN endpoint; may be repeated."),
    ] = None,
    wireguard_key: Annotated[
        str | None, typer.Option(help="WireGuard public key to publish with the endpoint.")
    ] = None,
    announce_wireguard: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Publish endpoint and public key of this WireGuard configuration."),
    ] = None,
    attribute: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Published with the endpoint.")
    ] = None,
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="Also end when standard input (a pipe) does.")
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log to standard error.")] = False,
) -> None:
    """Run a node until Ctrl-C or SIGTERM: listen, join, answer, and publish what it is given to.

    Other commands with the same --data-dir act on this node.
    """
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING, format="%(asctime)s %(name)s: %(message)s"
    )
    config = settings.config(listen=tuple(listen or (DEFAULT_LISTEN,)), advertise=tuple(advertise or ()))
    request = announcement(announce, announce_wireguard, wireguard_key, attribute)
    if not settings.has_keys:
        asyncio.run(make_keys(settings))
    work = serve(
        config,
        control=settings.socket,
        announce=request,
        report=print_json if settings.json else _tell,
    )
    run_until_signalled(work, until_eof=until_eof)


def _tell(event: Event) -> None:
    """One readable line per event."""
    match event["event"]:
        case "ready":
            entry = (event["bootstrap_entries"] or [event["node_id"]])[0]
            peers = f"{event['table']} peers" if event["table"] else "no peers yet"
            print(f"ready on {event['network']}: {peers}; others join through --bootstrap {entry}")
        case "announced":
            print(
                f"announced {', '.join(event['endpoints'])} for owner {event['owner']}:"
                f" {event['confirmed']} receipts"
            )
        case "waiting" | "announce_failed":
            note(f"pqdht: {event['error']['message']}")
    sys.stdout.flush()


def register(app: typer.Typer) -> None:
    app.command("run")(run)
