"""What is announced, from the options of `run` and `announce`."""

from __future__ import annotations

from pathlib import Path

from ..daemon.requests import Announce
from ..errors import ConfigError, DecodeError
from ..peer_record import PeerRecord, check_endpoint, parse_wireguard_key
from .wireguard import read_wireguard

ALLOWED_IPS = "allowed_ips"
"""The attribute that carries the tunnel addresses, as written after AllowedIPs."""


def announcement(
    endpoints: list[str] | None,
    wireguard_file: Path | None,
    wireguard_key: str | None,
    attributes: list[str] | None,
) -> Announce | None:
    """A request, or None where nothing was asked for.  Raises ConfigError.

    An endpoint given on the command line goes before the file's `# Endpoint =` remark; without either
    the node announces the hosts it listens on, with the file's ListenPort.
    """
    if not (endpoints or wireguard_file or wireguard_key or attributes):
        return None
    named = dict(_attribute(a) for a in attributes or ())
    key = parse_wireguard_key(wireguard_key) if wireguard_key is not None else None
    port = None
    found = tuple(endpoints or ())
    if wireguard_file is not None:
        if key is not None:
            raise ConfigError("give a WireGuard key or a WireGuard file, not both", name="wireguard_key")
        interface = read_wireguard(wireguard_file)
        key, port = interface.public_key, interface.listen_port
        if interface.addresses:
            named.setdefault(ALLOWED_IPS, interface.allowed_ips)
        if not found and interface.endpoint is not None:
            found = (interface.endpoint,)
        if not found and port is None:
            raise ConfigError(
                f"{wireguard_file} names no ListenPort, so nobody could connect: set one, or a remark"
                " `# Endpoint = host:port`, or give --endpoint HOST:PORT",
                name="wireguard",
                file=str(wireguard_file),
            )
    _check(found, key, named)
    return Announce(
        endpoints=found,
        listen_port=port,
        wireguard_key=key.hex() if key is not None else None,
        attributes=named,
    )


def _check(endpoints: tuple[str, ...], key: bytes | None, attributes: dict[str, str]) -> None:
    """Raises ConfigError for what could never be published, or never be used."""
    try:
        for endpoint in endpoints:
            check_endpoint(endpoint)
            if endpoint.rpartition(":")[0] in ("0.0.0.0", "[::]"):
                raise DecodeError(f"{endpoint!r} is no address others could use")
    except DecodeError as e:
        raise ConfigError(f"--endpoint: {e}", name="endpoint") from None
    PeerRecord(endpoints, key, attributes).encode()


def _attribute(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ConfigError(f"attribute {text!r} must read name=value", name="attribute")
    return name, value
