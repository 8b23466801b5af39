"""Whole networks over loopback TCP with real cryptography, every node in an address group of its own."""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from typing import Any

import pytest

from pqdht import DEMO, TESTNET, Config, Content, NotFound, SecureDHT, Topic, Verdict
from pqdht.testing.testnet import Testnet
from tests.live.harness import announce_and_find, counter, entry, make, run


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as s:
            s.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_the_testnet_parameters_and_every_operation() -> None:
    async def main() -> None:
        async with Testnet.loopback(10, network="testnet") as net:
            a, b, c = net.nodes[1], net.nodes[4], net.nodes[8]
            first = await a.put("config", b"one")
            assert first.confirmed >= first.need == 6
            assert (await b.get("config", owner=a.owner_id)).value == b"one"
            second = await a.put("config", b"two", previous=first.record.record_id)
            assert second.record.timestamp > first.record.timestamp
            assert (await b.get("config", owner=a.owner_id)).value == b"two"
            await a.delete("config")
            with pytest.raises(NotFound, match="deleted"):
                await c.get("config", owner=a.owner_id)

            content = Content.of(b"immutable")
            await b.put(content, b"immutable")
            assert (await c.get(content)).value == b"immutable"
            for node in (a, b, c):
                await node.put(Topic("relays"), bytes(node.node_id))
            found = await net.nodes[0].get_topic("relays")
            assert {r.value for r in found} == {bytes(n.node_id) for n in (a, b, c)}
            assert {r.verdict for r in found} == {Verdict.CONFIRMED}

            many = await a.put_many({f"k{i}": b"%d" % i for i in range(20)})
            assert {type(r).__name__ for r in many.values()} == {"PutResult"}
            got = await a.get_many([f"k{i}" for i in range(20)])
            assert [getattr(r, "value", r) for r in got.values()] == [b"%d" % i for i in range(20)]
            assert 0 < await a.ping(c.node_id) < 5
            assert 0 < await a.ping(entry(c)) < 5
            assert {n.node_id for n in await a.find_node(c.node_id)} >= {c.node_id}

    run(main())


@pytest.mark.parametrize("suite", [2, 3])
def test_the_other_suites(suite: int) -> None:
    async def main() -> None:
        async with Testnet.loopback(
            4, suite=suite, signing="claims", padding="constant", early="never"
        ) as net:
            await net.nodes[1].put("name", b"value")
            got = await net.nodes[3].get("name", owner=net.nodes[1].owner_id, ignore_local=True)
            assert got.value == b"value"
            assert {n.status()["suite"] for n in net.nodes} == {suite}
            assert all(counter(n, "early_requests_served") == 0 for n in net.nodes)

    run(main())


def test_the_largest_value_reaches_a_node_that_has_no_session_yet() -> None:
    """Its answer does not fit into a handshake message: it is asked for again inside the session."""

    async def main() -> None:
        async with Testnet.loopback(5) as net:
            value = bytes(range(256)) * 128
            await net.nodes[0].put("big", value)
            reader = net.nodes[4]
            for node in net.nodes:
                for conn in list(node._peers._all):
                    conn.close()
            got = await reader.get("big", owner=net.nodes[0].owner_id, ignore_local=True)
            assert got.value == value
            assert sum(counter(n, "early_requests_repeated") for n in net.nodes) > 0
            await announce_and_find(net.nodes)  # everybody can still sign

    run(main())


def test_one_address_with_address_groups_off() -> None:
    async def main() -> None:
        network = replace(DEMO, name="one host", address_groups=False)
        async with Testnet.loopback(8, network=network, listen=("tcp/127.0.0.1:0",)) as net:
            await announce_and_find(net.nodes)
            assert {p.group for n in net.nodes for p in n.peers()} == {"127.0.0.0/24"}
            assert all(counter(n, "dials_held_back") == 0 for n in net.nodes)

    run(main())


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("address_groups", [False, True])
def test_ipv6(address_groups: bool) -> None:
    async def main() -> None:
        network = replace(TESTNET, address_groups=address_groups)
        async with Testnet.loopback(3, network=network, listen=("tcp/[::1]:0",)) as net:
            await announce_and_find_three(net.nodes)
            assert {p.group for n in net.nodes for p in n.peers()} == {"::/48"}

    run(main())


async def announce_and_find_three(nodes: list[SecureDHT]) -> None:
    """As `announce_and_find`, where a reader has only two others to ask."""
    for i, node in enumerate(nodes):
        await node.announce([f"[2001:db8::{i}]:51820"])
    for reader in nodes:
        for i, other in enumerate(nodes):
            found = await reader.find_peer(other.owner_id, ignore_local=True)
            assert found.endpoints == (f"[2001:db8::{i}]:51820",)
            assert found.result.verdict is Verdict.CONFIRMED
            assert found.result.responders == 2


def test_two_nodes_alone_are_a_network() -> None:
    async def main() -> None:
        async with make(0) as a, make(1, bootstrap=(entry(a),)) as b:
            await b.bootstrapped(10)
            await b.put("hello", b"from b")
            got = await a.get("hello", owner=b.owner_id, ignore_local=True)
            assert (got.value, got.verdict) == (b"from b", Verdict.CONFIRMED)

    run(main())


def test_closing_ends_what_is_under_way() -> None:
    """Nobody waits for a node that is closed."""

    async def main() -> None:
        async with Testnet.loopback(6) as net:
            node = net.nodes[3]
            await net.nodes[0].put("name", b"value")
            work: list[asyncio.Future[Any]] = []
            work += [asyncio.ensure_future(node.get("name", owner=net.nodes[0].owner_id)) for _ in range(10)]
            work.append(asyncio.ensure_future(node.find_node(bytes(32))))
            await asyncio.sleep(0)
            await node.close()
            async with asyncio.timeout(2):
                outcomes = await asyncio.gather(*work, return_exceptions=True)
            assert all(isinstance(o, Exception) for o in outcomes)

    run(main())


def test_a_client_that_does_not_listen_reads_and_writes() -> None:
    async def main() -> None:
        async with Testnet.loopback(5) as net:
            client = SecureDHT(Config(network="demo", listen=(), bootstrap=net.bootstrap))
            async with client:
                await client.bootstrapped(10)
                await client.put("mine", b"!")
                got = await net.nodes[2].get("mine", owner=client.owner_id)
                assert got.value == b"!"
                assert client.node_id not in {p.node_id for n in net.nodes for p in n.peers()}

    run(main())
