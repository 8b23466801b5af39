"""`run`: the daemon."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from ..config import Config
from ..daemon.control import ControlClient
from ..daemon.requests import Announce
from ..daemon.service import Event, run_until_signalled, serve
from ..errors import ConfigError, DecodeError
from ..wire.address import Address, parse_address
from .announcement import announcement
from .identity import make_keys
from .output import CLIENT_ONLY, note, print_json, printable
from .settings import Settings, with_settings

DEFAULT_LISTEN = "tcp/0.0.0.0:4733"


@with_settings
def run(
    settings: Settings,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PQDHT_LISTEN",
            metavar="ADDRESS",
            help="Address to accept on; may be repeated.",
            show_default=DEFAULT_LISTEN,
        ),
    ] = None,
    advertise: Annotated[
        list[str] | None,
        typer.Option(
            envvar="PQDHT_ADVERTISE",
            metavar="ADDRESS",
            help="Address others are told; may be repeated.",
            show_default="the listening ones",
        ),
    ] = None,
    announce: Annotated[
        list[str] | None,
        typer.Option(
            "--announce",
            "--endpoint",
            metavar="HOST:PORT",
            help="Publish this VPN endpoint; may be repeated.",
        ),
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
    _log_to_stderr(verbose)
    config = settings.config(listen=tuple(listen or (DEFAULT_LISTEN,)), advertise=tuple(advertise or ()))
    request = announcement(announce, announce_wireguard, wireguard_key, attribute)
    if request is not None:
        _check_announced(request, config)
    if not ControlClient(settings.socket).is_answered():  # else its keys are in use, and serve() says so
        make_keys(settings, "run", print_json if settings.json else None)
    work = serve(
        config,
        control=settings.socket,
        announce=request,
        report=print_json if settings.json else _tell,
    )
    run_until_signalled(work, until_eof=until_eof)


class _Printable(logging.Formatter):
    """What peers are quoted with must not drive the terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


def _log_to_stderr(verbose: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable("%(asctime)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler])


def _check_announced(request: Announce, config: Config) -> None:
    """Raises ConfigError for what could never be announced."""
    told = [*config.advertise, *config.listen]
    if request.endpoints or any(a.ip and not a.ip.is_unspecified for a in _addresses(told)):
        return
    raise ConfigError(
        "this node does not know under which address others reach it, so there is no endpoint to announce:"
        " give --endpoint HOST:PORT, or a remark `# Endpoint = host:port` in the WireGuard file, or"
        " --advertise tcp/IP:PORT",
        name="endpoint",
    )


def _addresses(texts: list[str]) -> list[Address]:
    try:
        return [parse_address(text) for text in texts]
    except DecodeError as e:
        raise ConfigError(str(e), name="address") from None


def _tell(event: Event) -> None:
    """One readable line per event."""
    match event["event"]:
        case "listening":
            where, count = ", ".join(event["listen"]), len(event["bootstrap"])
            through = f"joining through {count} {'entry' if count == 1 else 'entries'}"
            print(f"listening on {where}, {through if count else 'without bootstrap entries'}")
        case "ready":
            entries = event["bootstrap_entries"]
            how = f"others join through --bootstrap {entries[0]}" if entries else CLIENT_ONLY
            peers = f"{event['table']} peers" if event["table"] else "no peers yet"
            print(f"ready on {event['network']}: {peers}; {how}")
        case "warning":
            note(f"pqdht: {event['message']}")
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
