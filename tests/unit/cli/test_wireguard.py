"""cli.wireguard: what is read, what is refused, and that the private key stays where it is."""

from __future__ import annotations

import base64
import ipaddress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pqdht.cli.wireguard import MAX_FILE, format_key, parse_public_key, parse_wireguard, read_wireguard
from pqdht.errors import ConfigError

# RFC 7748, section 6.1: Alice's private and public key.
PRIVATE = "77076d0a7318a57d3c16c17251b2664"
PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
KEY = base64.b64encode(
    bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c66d1ebb7a03c8fa8b75d7a6c2a23"[:64])
).decode()
