"""Addresses: hints where a peer may be reached, as text on the wire.

    tcp/203.0.113.5:4733     udp/[2001:db8::1]:4733
    obfs4/198.51.100.7:443?cert=...&iat-mode=0     relay/<relay id>/<node id>
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache

from ..constants import MAX_ADDRESS_LENGTH
from ..errors import DecodeError

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_HOST_PORT = re.compile(
    r"(?P<scheme>[a-z][a-z0-9]{1,15})/(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9.-]{1,253})):(?P<port>[0-9]{1,5})"
    r"(?:\?(?P<query>[\x21-\x7e]*))?"
)
_HOST_NAME = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
"""DNS labels; the last begins with a letter, since resolvers read `127.1` and `0x7f000001` as addresses."""
_RELAY = re.compile(r"relay/(?P<relay>[0-9a-f]{64})/(?P<node>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Address:
    """One parsed address. `ip` is None for host names and relays."""

    scheme: str
    host: str
    port: int
    query: str = ""
    ip: IPAddress | None = field(default=None, compare=False)

    def __str__(self) -> str:
        if self.scheme == "relay":
            return f"relay/{self.host}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}/{host}:{self.port}" + (f"?{self.query}" if self.query else "")

    def with_port(self, port: int) -> Address:
        return Address(self.scheme, self.host, port, self.query, self.ip)

    @property
    def group(self) -> str:
        """The address group: /24 of IPv4, /48 of IPv6, else the host itself (section 1)."""
        return ip_group(self.ip) if self.ip is not None else self.host

    @property
    def wide_group(self) -> str:
        """/32 of IPv6, the bound behind /48; for anything else the group."""
        if isinstance(self.ip, ipaddress.IPv6Address) and self.ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((self.ip, 32), strict=False))
        return self.group

    @property
    def is_public(self) -> bool:
        """False for loopback, private, link-local, multicast, unspecified and reserved addresses."""
        return self.ip is None or (
            self.ip.is_global and not self.ip.is_multicast and not self.ip.is_reserved
        )


def ip_group(ip: IPAddress) -> str:
    """/24 or /48 of an address; an IPv4-mapped IPv6 address counts as its IPv4 one."""
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is None:
            return str(ipaddress.ip_network((ip, 48), strict=False))
        ip = ip.ipv4_mapped
    first, second, third, _ = ip.packed  # ipaddress.ip_network gives the same, ten times slower
    return f"{first}.{second}.{third}.0/24"


def parse_address(text: str) -> Address:
    """Text to Address, canonical: `str(parse_address(t)) == t` for what we send. Raises DecodeError."""
    if len(text) > MAX_ADDRESS_LENGTH:
        raise DecodeError(f"address of {len(text)} characters, at most {MAX_ADDRESS_LENGTH}")
    if relay := _RELAY.fullmatch(text):
        return Address("relay", f"{relay['relay']}/{relay['node']}", 0)
    match = _HOST_PORT.fullmatch(text)
    if match is None or match["scheme"] == "relay":
        raise DecodeError(f"not an address: {text!r}; write tcp/203.0.113.5:4733 or tcp/[2001:db8::1]:4733")
    port = int(match["port"])
    if port > 0xFFFF:
        raise DecodeError(f"port {port} in {text!r} is over 65535")
    host = (match["v6"] or match["host"]).lower()
    ip: IPAddress | None = None
    if match["v6"] or not _HOST_NAME.fullmatch(host):
        ip = _parse_ip(host, v6=bool(match["v6"]))
    return Address(match["scheme"], str(ip or host), port, match["query"] or "", ip)


@lru_cache(1024)
def canonical_ip(text: str) -> IPAddress:
    """One endpoint, one form: an IPv4-mapped IPv6 address is its IPv4 one. Raises ValueError.

    Kept, as a caller's address is read where it is accepted, where it is linked and where it says it lives.
    """
    ip = ipaddress.ip_address(text)
    return getattr(ip, "ipv4_mapped", None) or ip


def _parse_ip(host: str, v6: bool) -> IPAddress:
    """Raises DecodeError."""
    try:
        if v6 != (":" in host):
            raise ValueError
        return canonical_ip(host)
    except ValueError:
        raise DecodeError(f"neither an IP address nor a host name: {host!r}") from None
