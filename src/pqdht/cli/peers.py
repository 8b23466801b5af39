"""`announce`, `find-peer`, `ping`, `table`, `records` and `status`: peers, and the node itself."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Annotated, Any

import typer

from ..daemon.requests import FindPeer, Ping, Records, Status, Table
from ..errors import ConfigError, PqdhtError
from .announcement import ALLOWED_IPS, announcement
from .output import CLIENT_ONLY, milliseconds, note, print_columns, print_facts, print_json
from .settings import Settings, ask, with_settings
from .trust import security_facts
from .values import evidence
from .wireguard import format_key


@with_settings
def announce(
    settings: Settings,
    endpoint: Annotated[
        list[str] | None, typer.Option(metavar="HOST:PORT", help="Where you are reached; may be repeated.")
    ] = None,
    wireguard_config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Publish what this WireGuard configuration says.")
    ] = None,
    wireguard_key: Annotated[str | None, typer.Option(help="WireGuard public key.")] = None,
    attribute: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE")] = None,
) -> None:
    """Publish where you are, under your owner id.  A running daemon keeps it published.

    From a WireGuard configuration this takes ListenPort, Address, a remark `# Endpoint = host:port`,
    and the public key that belongs to PrivateKey, which itself never leaves this process.
    """
    request = announcement(endpoint, wireguard_config, wireguard_key, attribute)
    if request is None:
        raise ConfigError("nothing to announce: give --endpoint or --wireguard-config", name="endpoint")
    result = ask(settings, request, "announcing")
    if settings.json:
        print_json(result)
        return
    print_facts(
        [
            ("announced", ", ".join(result["endpoints"])),
            ("owner id", result["owner"]),
            ("receipts", f"{result['confirmed']}, {result['need']} needed"),
            ("time", milliseconds(result["time_s"])),
        ]
    )


@with_settings
def find_peer(
    settings: Settings,
    owner: Annotated[str, typer.Argument(help="Owner id, 64 hex digits.")],
    ignore_local: Annotated[
        bool, typer.Option("--ignore-local", help="Leave the node's own copy out.")
    ] = False,
    wireguard: Annotated[
        bool, typer.Option("--wireguard", help="Print a [Peer] section for WireGuard.")
    ] = False,
) -> None:
    """Find where an owner's peer is."""
    found = ask(settings, FindPeer(owner=owner, ignore_local=ignore_local), "looking")
    key = format_key(bytes.fromhex(found["wireguard_key"])) if found["wireguard_key"] else None
    if settings.json:
        print_json(found | {"wireguard_public_key": key})
        return
    if wireguard:
        print(_peer_section(found, key))
    else:
        facts = [("owner id", found["owner"]), ("node id", found["node_id"])]
        facts += [("endpoint", e) for e in found["endpoints"]]
        facts.append(("wireguard", key))
        # Their names are the peer's choice: never where a label of ours could stand.
        print_facts(facts + [("attribute", f"{k} = {v}") for k, v in sorted(found["attributes"].items())])
    note(evidence(found["result"]))


def _peer_section(found: dict[str, Any], key: str | None) -> str:
    """For a WireGuard file.  Host routes only: a peer must not draw other traffic to itself, and
    nothing but addresses gets in, since wg-quick runs commands from its file."""
    if key is None:
        raise ConfigError(
            "this peer publishes no WireGuard key: leave --wireguard out to see its endpoints",
            name="wireguard",
        )
    lines = ["[Peer]", "# as claimed by the peer: check it", f"PublicKey = {key}"]
    if found["endpoints"]:
        lines.append(f"Endpoint = {found['endpoints'][0]}")
    if allowed := found["attributes"].get(ALLOWED_IPS):
        # After a % Python takes any text for the zone of an IPv6 address, line breaks included.
        parts = allowed.split(",") if "%" not in allowed else []
        try:
            networks = [ipaddress.ip_network(part.strip()) for part in parts]
        except ValueError:
            networks = []
        if networks and all(n.num_addresses == 1 for n in networks):
            lines.append("AllowedIPs = " + ", ".join(map(str, networks)))
        else:
            note("this peer asks for more than host addresses: AllowedIPs is left for you to write")
    return "\n".join(lines)


@with_settings
def ping(
    settings: Settings,
    node: Annotated[str, typer.Argument(help="Node id, or <node id>@tcp/host:port.")],
) -> None:
    """Measure the round trip to a node."""
    try:
        result = ask(settings, Ping(node=node), "pinging")
    except PqdhtError as e:
        if node not in str(e):
            e.args = (f"{node}: {e}",)
        raise
    if settings.json:
        print_json(result)
    else:
        print(milliseconds(result["rtt_s"]))


@with_settings
def table(settings: Settings) -> None:
    """Show the routing table."""
    result = ask(settings, Table(), "asking")
    if settings.json:
        print_json(result)
        return
    print_columns(
        ("NODE ID", "GROUP", "RTT", "ADDRESSES"),
        (
            (p["node_id"], p["group"], milliseconds(p["rtt_s"]), " ".join(p["addresses"]))
            for p in result["peers"]
        ),
    )


@with_settings
def records(settings: Settings) -> None:
    """List the records the node stores."""
    result = ask(settings, Records(), "asking")
    if settings.json:
        print_json(result)
        return
    print_columns(("KEY", "OWNER", "BYTES"), ((r["key"], r["owner"], r["size"]) for r in result["records"]))


@with_settings
def status(settings: Settings) -> None:
    """Show facts and counters of the node."""
    result = ask(settings, Status(), "asking")
    if settings.json:
        print_json(result)
        return
    result["addresses"] = result["addresses"] or CLIENT_ONLY
    result["announced"] = result["announced"] or "nothing"
    result["uptime"] = str(datetime.timedelta(seconds=result.pop("uptime_s")))
    errors = result.pop("join_errors")
    size = result.pop("network_size")
    counters = result.pop("counters")
    security = security_facts(result.pop("security"))
    result["defences"] = ", ".join(f"{k} {v}" for k, v in result.get("defences", {}).items()) or "as usual"
    facts = [
        (name.replace("_", " "), ", ".join(value) if isinstance(value, list) else value)
        for name, value in result.items()
    ]
    if size:
        facts.append(("network size", ", ".join(f"{k} {v}" for k, v in size.items())))
    facts += [("cannot join through", f"{entry}: {why}") for entry, why in errors.items()]
    print_facts(facts + security + sorted(counters.items()))


def register(app: typer.Typer) -> None:
    for name, command in (
        ("announce", announce),
        ("find-peer", find_peer),
        ("ping", ping),
        ("table", table),
        ("records", records),
        ("status", status),
    ):
        app.command(name)(command)
