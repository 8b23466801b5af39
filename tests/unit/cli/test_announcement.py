"""cli.announcement: what the options of `run` and `announce` ask for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pqdht.cli.announcement import announcement
from pqdht.cli.wireguard import format_key, parse_wireguard
from pqdht.daemon.requests import Announce
from pqdht.errors import ConfigError

PRIVATE = format_key(bytes(range(32)))
PUBLIC = parse_wireguard(f"[Interface]\nPrivateKey = {PRIVATE}").public_key


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "wg0.conf"
    path.write_text(f"[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.0.0.3/24\nListenPort = 51820\n")
    return path


def test_nothing_asked_for_is_nothing_announced() -> None:
    assert announcement(None, None, None, None) is None
    assert announcement([], None, None, []) is None


def test_an_endpoint_with_key_and_attributes() -> None:
    found = announcement(["192.0.2.1:5"], None, format_key(PUBLIC), ["region=eu", "note=a=b"])
    assert found == Announce(
        endpoints=("192.0.2.1:5",), wireguard_key=PUBLIC.hex(), attributes={"region": "eu", "note": "a=b"}
    )


def test_a_wireguard_file_gives_port_key_and_tunnel_addresses(config: Path) -> None:
    assert announcement(None, config, None, None) == Announce(
        listen_port=51820, wireguard_key=PUBLIC.hex(), attributes={"allowed_ips": "10.0.0.3/32"}
    )


def test_the_files_remark_gives_the_endpoint_unless_one_is_given(config: Path) -> None:
    config.write_text(config.read_text() + "# Endpoint = 192.0.2.1:51820\n")
    found = announcement(None, config, None, None)
    assert found is not None
    assert found.endpoints == ("192.0.2.1:51820",)
    found = announcement(["vpn.example:1"], config, None, ["allowed_ips=10.9.9.9/32"])
    assert found is not None
    assert found.endpoints == ("vpn.example:1",)
    assert found.attributes == {"allowed_ips": "10.9.9.9/32"}


def test_what_cannot_be_announced_is_refused(config: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        announcement(None, config, format_key(PUBLIC), None)
    for attribute in ("region", "=eu"):
        with pytest.raises(ConfigError, match="must read name=value"):
            announcement(["192.0.2.1:5"], None, None, [attribute])
    config.write_text(f"[Interface]\nPrivateKey = {PRIVATE}\n")
    with pytest.raises(ConfigError, match="names no ListenPort"):
        announcement(None, config, None, None)


def test_the_private_key_is_nowhere_in_the_request(config: Path) -> None:
    found = repr(announcement(None, config, None, None))
    assert PUBLIC.hex() in found
    assert PRIVATE not in found
    assert bytes(range(32)).hex() not in found
