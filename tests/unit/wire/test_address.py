"""wire.address: one endpoint has one text, and its group cannot be chosen freely."""

from __future__ import annotations

import ipaddress

import pytest

from pqdht.constants import MAX_ADDRESS_LENGTH
from pqdht.errors import DecodeError
from pqdht.wire.address import Address, ip_group, parse_address

RELAY = f"relay/{'0a' * 32}/{'b1' * 32}"


@pytest.mark.parametrize(
    "text",
    [
        "tcp/203.0.113.5:4733",
        "udp/[2001:db8::1]:4733",
        "obfs4/198.51.100.7:443?cert=AbC+/x9,&iat-mode=0",
        "tcp/node-7.example.org:1",
        "tcp/localhost:65535",
        "tcp/xn--bcher-kva.example:80",
        "tcp/0.0.0.0:0",
        "tcp/[::]:0",
        "mem/10.0.0.1:1",
        RELAY,
    ],
)
def test_canonical_text_comes_back_unchanged(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("tcp/[2001:DB8:0:0:0:0:0:1]:80", "tcp/[2001:db8::1]:80"),
        ("tcp/[::1.2.3.4]:80", "tcp/[::102:304]:80"),
        ("tcp/[::ffff:203.0.113.5]:80", "tcp/203.0.113.5:80"),
        ("tcp/[::FFFF:cb00:7105]:80", "tcp/203.0.113.5:80"),
        ("tcp/Example.ORG:80", "tcp/example.org:80"),
        ("tcp/203.0.113.5:00080", "tcp/203.0.113.5:80"),
        ("tcp/203.0.113.5:80?", "tcp/203.0.113.5:80"),
    ],
)
def test_other_spellings_become_canonical(text: str, canonical: str) -> None:
    assert str(parse_address(text)) == canonical
    assert parse_address(text) == parse_address(canonical)


def test_the_parts_of_an_address() -> None:
    address = parse_address("obfs4/[2001:db8::1]:443?cert=x")
    ip = ipaddress.IPv6Address("2001:db8::1")
    assert address == Address("obfs4", "2001:db8::1", 443, "cert=x", ip)
    assert address.ip == ip
    assert str(address.with_port(80)) == "obfs4/[2001:db8::1]:80?cert=x"
    assert parse_address("tcp/a.example:1").ip is None


HOSTILE = [
    "",
    "tcp",
    "tcp/",
    "tcp/:1",
    "tcp/1.2.3.4",
    "tcp/1.2.3.4:",
    "tcp/1.2.3.4:x",
    "tcp/1.2.3.4:-1",
    "tcp/1.2.3.4:65536",
    "tcp/1.2.3.4:100000",
    "tcp/1.2.3.4:١",  # a digit to str.isdigit, not to us
    "tcp/1.2.3.4:80 ",
    "tcp/1.2.3.4:80\n",
    " tcp/1.2.3.4:80",
    "tcp/1.2.3.4:80?a b",
    "tcp/1.2.3.4:80?ä",
    "tcp/1.2.3.4:80#x",
    "tcp//1.2.3.4:80",
    "TCP/1.2.3.4:80",
    "t/1.2.3.4:80",
    "1tcp/1.2.3.4:80",
    "tcp/1.2.3:80",
    "tcp/1.2.3.4.5:80",
    "tcp/1.2.3.256:80",
    "tcp/1.2.3.04:80",
    "tcp/127.1:80",
    "tcp/2130706433:80",
    "tcp/0x7f000001:80",
    "tcp/0x7f.1:80",
    "tcp/example.127:80",
    "tcp/....:80",
    "tcp/.example:80",
    "tcp/example..org:80",
    "tcp/example.org.:80",
    "tcp/-a.org:80",
    "tcp/a-.org:80",
    "tcp/under_score.org:80",
    "tcp/" + "a" * 64 + ".org:80",
    "tcp/" + "a." * 127 + "aa:80",
    "tcp/ex\u0430mple.org:80",
    "tcp/2001:db8::1:80",
    "tcp/[1.2.3.4]:80",
    "tcp/[2001:db8::1%eth0]:80",
    "tcp/[2001:db8:::1]:80",
    "tcp/[]:80",
    "tcp/[::1:80",
    "tcp/user@host:80",
    "relay/x:80",
    "relay/" + "a" * 64,
    RELAY.upper(),
    RELAY + "?x",
    RELAY + "\n",
    "tcp/a:1?" + "x" * MAX_ADDRESS_LENGTH,
    "\0",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_raises_decode_error(text: str) -> None:
    with pytest.raises(DecodeError):
        parse_address(text)


def test_the_length_limit_is_inclusive() -> None:
    stem = "tcp/203.0.113.5:80?"
    longest = stem + "x" * (MAX_ADDRESS_LENGTH - len(stem))
    assert str(parse_address(longest)) == longest
    with pytest.raises(DecodeError, match=f"at most {MAX_ADDRESS_LENGTH}"):
        parse_address(longest + "x")


@pytest.mark.parametrize(
    ("text", "group", "wide"),
    [
        ("tcp/203.0.113.5:1", "203.0.113.0/24", "203.0.113.0/24"),
        ("udp/203.0.113.250:2", "203.0.113.0/24", "203.0.113.0/24"),
        ("tcp/127.7.9.1:1", "127.7.9.0/24", "127.7.9.0/24"),
        ("tcp/[::ffff:203.0.113.5]:1", "203.0.113.0/24", "203.0.113.0/24"),
        ("tcp/[2001:db8:1:2::3]:1", "2001:db8:1::/48", "2001:db8::/32"),
        ("tcp/[2001:db8:9::3]:1", "2001:db8:9::/48", "2001:db8::/32"),
        ("tcp/a.example:1", "a.example", "a.example"),
    ],
)
def test_groups(text: str, group: str, wide: str) -> None:
    address = parse_address(text)
    assert (address.group, address.wide_group) == (group, wide)


def test_a_mapped_address_counts_as_its_ipv4_one_also_unparsed() -> None:
    mapped = ipaddress.IPv6Address("::ffff:203.0.113.5")
    assert ip_group(mapped) == "203.0.113.0/24"
    assert Address("tcp", str(mapped), 1, ip=mapped).wide_group == "203.0.113.0/24"


@pytest.mark.parametrize(
    ("host", "public"),
    [
        ("8.8.8.8", True),
        ("[2606:4700::1]", True),
        ("a.example", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.1.1", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("203.0.113.5", False),
        ("[::1]", False),
        ("[::]", False),
        ("[fe80::1]", False),
        ("[fd00::1]", False),
        ("[ff02::1]", False),
        ("[4000::1]", False),
        ("[::127.0.0.1]", False),
        ("[64:ff9b::7f00:1]", False),
        ("[::ffff:127.0.0.1]", False),
        ("[::ffff:224.0.0.1]", False),
    ],
)
def test_public_addresses(host: str, public: bool) -> None:
    assert parse_address(f"tcp/{host}:1").is_public is public
