"""The peer record: the owner record named "peer", by which a peer is found (section 5).

Its value says where the owner's VPN listens, with which WireGuard key, and which node speaks for it.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from .errors import ConfigError, DecodeError
from .ids import NodeId, OwnerId
from .records import Named
from .wire.codec import Bytes32, Decoder, Struct, encode

PEER_RECORD_NAME = "peer"
MAX_ENDPOINTS = 8
MAX_ENDPOINT_LENGTH = 262
"""Characters: a host name of 253, brackets, colon, port."""
MAX_ATTRIBUTES = 32
MAX_ATTRIBUTE_KEY = 64
"""Characters of an attribute's name."""
MAX_ATTRIBUTE_VALUE = 256
"""Characters of an attribute's value."""

_ENDPOINT = re.compile(r"(?:\[(?P<v6>[0-9a-fA-F:.]+)\]|(?P<host>[A-Za-z0-9._-]{1,253})):(?P<port>[0-9]{1,5})")

_Endpoint = Annotated[str, msgspec.Meta(max_length=MAX_ENDPOINT_LENGTH)]
_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ATTRIBUTE_KEY)]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_ATTRIBUTE_VALUE)]


class _Wire(Struct, frozen=True):
    endpoints: Annotated[tuple[_Endpoint, ...], msgspec.Meta(max_length=MAX_ENDPOINTS)]
    wireguard_key: Bytes32 | None = None
    attributes: Annotated[dict[_Name, _Text], msgspec.Meta(max_length=MAX_ATTRIBUTES)] = msgspec.field(
        default_factory=dict
    )
    node_id: Bytes32 | None = None


_decode = Decoder(_Wire, "peer record")


@dataclass(frozen=True, slots=True)
class PeerRecord:
    """Where a peer is.  `endpoints`: host:port or [v6]:port; `wireguard_key`: 32 B public key."""

    endpoints: tuple[str, ...]
    wireguard_key: bytes | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    node_id: NodeId | None = None

    def encode(self) -> bytes:
        """The record's value; equal peer records give equal bytes.  Raises ConfigError out of bounds."""
        attributes = dict(sorted(self.attributes.items()))
        try:
            value = encode(_Wire(self.endpoints, self.wireguard_key, attributes, self.node_id))
            PeerRecord.decode(value)
        except (DecodeError, UnicodeEncodeError) as e:
            raise ConfigError(f"this peer record would be refused: {e}", name="peer record") from None
        return value

    @classmethod
    def decode(cls, value: bytes) -> PeerRecord:
        """From a record's value.  Raises DecodeError."""
        wire = _decode(value)
        for endpoint in wire.endpoints:
            check_endpoint(endpoint)
        node_id = None if wire.node_id is None else NodeId(wire.node_id)
        return cls(wire.endpoints, wire.wireguard_key, wire.attributes, node_id)


def peer_locator(owner: OwnerId) -> Named:
    """Where an owner's peer record stands."""
    return Named(owner, PEER_RECORD_NAME)


def parse_wireguard_key(key: bytes | str) -> bytes:
    """A public key of 32 bytes, or as `wg` prints it (base64), or as 64 hex digits. Raises ConfigError."""
    raw: object = key
    if isinstance(key, str):
        try:
            raw = bytes.fromhex(key) if len(key) == 64 else base64.b64decode(key, validate=True)
        except ValueError:
            raw = None
        if isinstance(raw, bytes) and len(key) != 64 and base64.b64encode(raw).decode() != key:
            raw = None  # stray bits: a slip of the pen
    if not isinstance(raw, bytes) or len(raw) != 32:
        given = f"{len(raw)} bytes" if isinstance(raw, bytes) else repr(key)[:80]
        raise ConfigError(
            f"a WireGuard public key is 32 bytes, or the 44 characters that `wg pubkey` prints, got {given}",
            name="wireguard_key",
        )
    return raw


def check_endpoint(text: str) -> None:
    """Raises DecodeError unless `text` is host:port or [v6]:port with a port of 1..65535."""
    match = _ENDPOINT.fullmatch(text)
    fault = match is None or not 1 <= int(match["port"]) <= 0xFFFF
    if match is not None and not fault and match["v6"]:
        try:
            ipaddress.IPv6Address(match["v6"])
        except ValueError:
            fault = True
    if fault:
        raise DecodeError(f"not an endpoint: {text!r}; write 203.0.113.5:51820 or [2001:db8::1]:51820")
