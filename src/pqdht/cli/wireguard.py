"""Reads the [Interface] section of a WireGuard configuration file (wg-quick(8), wg(8)).

Strict: what wg-quick would refuse is refused here, with file and line.  The private key is used to
derive the public one and is then forgotten; it is never stored, printed, logged or sent, and no
message quotes its line.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ..errors import ConfigError, DecodeError
from ..peer_record import check_endpoint

MAX_FILE = 1024 * 1024
"""Bytes; thousands of peers."""
KEY_SIZE = 32

_INTERFACE_KEYS = (
    "privatekey listenport fwmark address dns mtu table preup postup predown postdown saveconfig"
).split()
_PEER_KEYS = "publickey presharedkey allowedips endpoint persistentkeepalive".split()
_REPEATABLE = "address dns preup postup predown postdown allowedips".split()

_ENDPOINT_REMARK = re.compile(r"#\s*Endpoint\s*=\s*(?P<endpoint>\S+)\s*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class WireGuardInterface:
    """What others need to know to connect to an interface.

    `endpoint`: from a remark `# Endpoint = host:port` in the section, since a configuration file does
    not otherwise say under which host its own interface is reached; None where there is none.
    """

    public_key: bytes
    listen_port: int | None
    addresses: tuple[ipaddress.IPv4Interface | ipaddress.IPv6Interface, ...]
    endpoint: str | None

    @property
    def allowed_ips(self) -> str:
        """The interface's own addresses as host routes: what a peer writes into AllowedIPs."""
        return ", ".join(f"{a.ip}/{a.ip.max_prefixlen}" for a in self.addresses)


def read_wireguard(path: Path) -> WireGuardInterface:
    """Read a configuration file. Raises ConfigError naming file and line."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except OSError as e:
        raise ConfigError(
            f"{path} cannot be read: {e.strerror}; give a WireGuard configuration file",
            name="wireguard",
            file=str(path),
        ) from None
    if len(data) > MAX_FILE:
        _fail(path, 1, f"over {MAX_FILE} bytes: not a WireGuard configuration file")
    try:
        text = data.decode()
    except UnicodeDecodeError as e:
        _fail(path, data.count(b"\n", 0, e.start) + 1, "not UTF-8 text")
    return parse_wireguard(text, path)


def parse_wireguard(text: str, path: Path = Path("<text>")) -> WireGuardInterface:
    """From the text of a configuration file; `path` is for messages only. Raises ConfigError."""
    section = ""
    seen: dict[str, tuple[int, str]] = {}
    addresses: list[ipaddress.IPv4Interface | ipaddress.IPv6Interface] = []
    endpoint: str | None = None
    in_section: dict[str, int] = {}
    interface_on = 0
    for number, raw in enumerate(text.split("\n"), 1):
        if section == "interface" and (remark := _ENDPOINT_REMARK.fullmatch(raw.strip())):
            endpoint = _endpoint(remark["endpoint"], path, number)
        line = raw.partition("#")[0].strip()
        if not line:
            continue
        if line.startswith("["):
            section = _section(line, path, number)
            if section == "interface" and interface_on:
                _fail(path, number, f"a second [Interface] section; the first is on line {interface_on}")
            interface_on = number if section == "interface" else interface_on
            in_section = {}
            continue
        key, value = _setting(line, section, path, number)
        if key in in_section and key not in _REPEATABLE:
            _fail(path, number, f"{key} was given on line {in_section[key]} already")
        in_section[key] = number
        if section == "interface":
            seen[key] = number, value
            if key == "address":
                addresses += _addresses(value, path, number)
    if "privatekey" not in seen:
        _fail(path, text.count("\n") + 1, "no PrivateKey in an [Interface] section")
    port = _port(seen["listenport"][1], path, seen["listenport"][0]) if "listenport" in seen else None
    public = _public_key(seen["privatekey"][1], path, seen["privatekey"][0])
    return WireGuardInterface(public, port, tuple(addresses), endpoint)


def format_key(key: bytes) -> str:
    """As `wg` prints keys."""
    return base64.b64encode(key).decode()


# --- parts ---------------------------------------------------------------------------------------


def _fail(path: Path, line: int, what: str) -> NoReturn:
    raise ConfigError(f"{path}:{line}: {what}", name="wireguard", file=str(path), line=line)


def _section(line: str, path: Path, number: int) -> str:
    section = line.lower()
    if section not in ("[interface]", "[peer]"):
        _fail(path, number, "unknown section; a file has [Interface] and [Peer] sections")
    return section.strip("[]")


def _setting(line: str, section: str, path: Path, number: int) -> tuple[str, str]:
    """(key in lower case, value); the value is never quoted in a message, it may be a secret."""
    key, equals, value = (part.strip() for part in line.partition("="))
    key = key.lower()
    if not section:
        _fail(path, number, "a setting before any section; the file must begin with [Interface]")
    if not equals or not value:
        _fail(path, number, "must read: key = value")
    known = _INTERFACE_KEYS if section == "interface" else _PEER_KEYS
    if key not in known:
        _fail(path, number, f"unknown key in [{section.capitalize()}]; known are: {', '.join(known)}")
    return key, value


def _endpoint(text: str, path: Path, number: int) -> str:
    try:
        check_endpoint(text)
    except DecodeError:
        # Not quoted: what stands there by mistake may be a key.
        _fail(path, number, "not an endpoint; write 203.0.113.5:51820 or [2001:db8::1]:51820")
    return text


def _addresses(
    value: str, path: Path, number: int
) -> list[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    try:
        if "%" in value:  # a zone, which neither Address nor AllowedIPs takes; Python puts any text there
            raise ValueError
        return [ipaddress.ip_interface(part.strip()) for part in value.split(",")]
    except ValueError:
        _fail(path, number, "Address must be IP addresses, with or without /prefix, separated by commas")


def _port(value: str, path: Path, number: int) -> int | None:
    if not re.fullmatch("[0-9]{1,5}", value) or int(value) > 0xFFFF:
        _fail(path, number, "ListenPort must be a number from 0 to 65535")
    return int(value) or None  # 0: the system chooses, so nobody can be told


def _public_key(value: str, path: Path, number: int) -> bytes:
    private = _from_base64(value)
    if private is None:
        _fail(path, number, "PrivateKey must be 44 characters of base64, as `wg genkey` prints them")
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def _from_base64(text: str) -> bytes | None:
    """32 bytes from their only base64 form, else None."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return raw if len(raw) == KEY_SIZE and format_key(raw) == text else None
