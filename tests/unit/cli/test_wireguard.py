"""cli.wireguard: what is read, what is refused, and that the private key stays where it is."""

from __future__ import annotations

import base64
from ipaddress import ip_interface
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pqdht.cli.wireguard import MAX_FILE, format_key, parse_wireguard, read_wireguard
from pqdht.errors import ConfigError
from pqdht.peer_record import parse_wireguard_key

# RFC 7748, section 6.1: Alice's keys.
SEED = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
PUBLIC = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
PRIVATE = base64.b64encode(SEED).decode()

WHOLE = f"""\
# made by hand
[Interface]
# Endpoint = 203.0.113.5:51820
PrivateKey = {PRIVATE}  # secret
Address = 10.0.0.3/24, fd00::3/64
ListenPort=51820
DNS = 10.0.0.1
PostUp = iptables -A FORWARD -i %i -j ACCEPT

[Peer]
PublicKey = {format_key(PUBLIC)}
Endpoint = 198.51.100.7:51820
AllowedIPs = 10.0.0.4/32
PersistentKeepalive = 25
[peer]
publickey = {format_key(PUBLIC)}
"""


def test_a_whole_file_is_read() -> None:
    found = parse_wireguard(WHOLE)
    assert found.public_key == PUBLIC
    assert found.listen_port == 51820
    assert found.endpoint == "203.0.113.5:51820"
    assert found.addresses == (ip_interface("10.0.0.3/24"), ip_interface("fd00::3/64"))
    assert found.allowed_ips == "10.0.0.3/32, fd00::3/128"


def test_only_the_private_key_is_required() -> None:
    found = parse_wireguard(f"[interface]\r\nprivatekey={PRIVATE}\r\nListenPort = 0\r\n")
    assert (found.public_key, found.listen_port, found.addresses, found.endpoint) == (PUBLIC, None, (), None)
    assert found.allowed_ips == ""


def test_addresses_add_up() -> None:
    found = parse_wireguard(f"[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.0.0.1\nAddress = fd00::1/64")
    assert found.allowed_ips == "10.0.0.1/32, fd00::1/128"


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "no PrivateKey"),
        ("[Interface]\nListenPort = 1\n", 3, "no PrivateKey"),
        (f"PrivateKey = {PRIVATE}", 1, "before any section"),
        ("[Interface]\nPrivateKey = abc", 2, "44 characters"),
        (f"[Interface]\nPrivateKey = {PRIVATE[:-2]}r=", 2, "44 characters"),
        (f"[Interface]\nPrivateKey = {PRIVATE}\nPrivateKey = {PRIVATE}", 3, "on line 2 already"),
        (f"[Interface]\nPrivateKey = {PRIVATE}\n[Interface]", 3, "second [Interface] section"),
        (f"[Interface]\nPrivateKey = {PRIVATE}\n[Peer]\n[Interface]", 4, "the first is on line 1"),
        ("[Interface]\nPrivateKey", 2, "key = value"),
        ("[Interface]\nPrivateKey =", 2, "key = value"),
        ("[Interface]\nPublicKey = x", 2, "unknown key in [Interface]"),
        ("[Peer]\nPrivateKey = x", 2, "unknown key in [Peer]"),
        ("[Interfaces]", 1, "unknown section"),
        (f"[Interface]\nPrivateKey = {PRIVATE}\nListenPort = 65536", 3, "0 to 65535"),
        (f"[Interface]\nPrivateKey = {PRIVATE}\nListenPort = \u0661", 3, "0 to 65535"),
        (f"[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.0.0.300", 3, "IP addresses"),
        (f"[Interface]\nPrivateKey = {PRIVATE}\nAddress = fe80::1%wg0/64", 3, "IP addresses"),
        ("[Interface]\n# Endpoint = 203.0.113.5", 2, "not an endpoint"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(text: str, line: int, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_wireguard(text, Path("wg0.conf"))
    assert str(caught.value).startswith(f"wg0.conf:{line}: ")
    assert what in str(caught.value)
    assert caught.value.fields == {"name": "wireguard", "file": "wg0.conf", "line": line}


@pytest.mark.parametrize(
    "line", [f"PrivateKey = {PRIVATE}x", f"Privatekey {PRIVATE}", f"PrivatKey = {PRIVATE}", f"[{PRIVATE}]"]
)
def test_no_message_quotes_a_secret(line: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_wireguard(f"[Interface]\n{line}\n")
    assert PRIVATE[:8] not in str(caught.value) + str(caught.value.fields)


def test_the_result_holds_no_secret() -> None:
    found = parse_wireguard(WHOLE)
    assert SEED not in [getattr(found, name) for name in found.__slots__]
    assert PRIVATE not in repr(found)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for name, content, what in (
        ("latin", b"[Interface]\n\xff", ":2: not UTF-8"),
        ("huge", b"#" * (MAX_FILE + 1), "not a WireGuard configuration"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=what):
            read_wireguard(path)
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read_wireguard(tmp_path / "missing")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_wireguard(tmp_path)


def test_a_file_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.write_text(WHOLE)
    assert read_wireguard(path) == parse_wireguard(WHOLE)


@given(st.binary(min_size=32, max_size=32))
def test_the_public_key_is_that_of_the_private_one(seed: bytes) -> None:
    found = parse_wireguard(f"[Interface]\nPrivateKey = {base64.b64encode(seed).decode()}")
    assert found.public_key == X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


@given(st.text() | st.lists(st.sampled_from(WHOLE.splitlines())).map("\n".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    line, public = None, None
    try:
        public = parse_wireguard(text).public_key
    except ConfigError as e:
        line = e.fields["line"]
    assert public == PUBLIC or line in range(1, text.count("\n") + 2)


def test_public_keys_are_read_in_both_forms() -> None:
    assert parse_wireguard_key(format_key(PUBLIC)) == PUBLIC
    assert parse_wireguard_key(PUBLIC.hex()) == PUBLIC
    for bad in ("", "x", format_key(PUBLIC)[:-1], PUBLIC.hex()[1:], format_key(PUBLIC)[:-2] + "r="):
        with pytest.raises(ConfigError, match="a WireGuard public key is 32 bytes"):
            parse_wireguard_key(bad)


def test_a_key_in_the_place_of_an_endpoint_is_not_quoted() -> None:
    key = "B" * 43 + "="
    with pytest.raises(ConfigError, match="not an endpoint") as e:
        parse_wireguard(f"[Interface]\n# Endpoint = {key}\n")
    assert key not in str(e.value)
