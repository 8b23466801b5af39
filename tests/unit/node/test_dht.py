"""node.dht: the life of a node, and that no wrong argument gets past its front door."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from pqdht import (
    Closed,
    Config,
    ConfigError,
    NotBootstrapped,
    NotFound,
    SecureDHT,
    Topic,
    Verdict,
)
from pqdht.testing import Testnet, run


def loner(**settings: Any) -> SecureDHT:
    return SecureDHT(Config(network="testnet", listen=("tcp/127.0.0.1:0",), **settings))


async def called(use: Callable[[SecureDHT], Any], dht: SecureDHT) -> None:
    result = use(dht)
    if isinstance(result, Awaitable):
        await result


# --- life ----------------------------------------------------------------------------------------


def test_a_second_start_does_nothing() -> None:
    async def main() -> None:
        dht = loner()
        await asyncio.gather(dht.start(), dht.start())
        env, peers, tasks = dht.env, dht._peers, len(asyncio.all_tasks())
        await dht.start()
        assert (dht.env, dht._peers, len(asyncio.all_tasks())) == (env, peers, tasks)
        await dht.close()
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(main())


def test_after_close_it_starts_anew_as_the_same_node(tmp_path: Path) -> None:
    async def main() -> None:
        dht = loner(data_dir=tmp_path)
        await dht.start()
        node_id, owner_id = dht.node_id, dht.owner_id
        await dht.put("x", b"1")
        await asyncio.gather(dht.close(), dht.close())
        await dht.start()
        assert (dht.node_id, dht.owner_id) == (node_id, owner_id)
        assert (await dht.get("x")).value == b"1"
        await dht.close()

    asyncio.run(main())


def test_closing_waits_for_a_start_under_way() -> None:
    async def main() -> None:
        dht = loner()
        starting = asyncio.create_task(dht.start())
        await asyncio.sleep(0)
        await dht.close()
        await starting
        assert len(asyncio.all_tasks()) == 1
        with pytest.raises(Closed):
            _ = dht.env

    asyncio.run(main())


USES: dict[str, Callable[[SecureDHT], Any]] = {
    "put": lambda d: d.put(Topic("t"), b""),
    "get": lambda d: d.get(Topic("t"), owner=bytes(32)),
    "get_topic": lambda d: d.get_topic("t"),
    "delete": lambda d: d.delete("x"),
    "announce": lambda d: d.announce(["a:1"]),
    "find_peer": lambda d: d.find_peer(bytes(32)),
    "find_node": lambda d: d.find_node(bytes(32)),
    "ping": lambda d: d.ping(bytes(32)),
    "bootstrapped": lambda d: d.bootstrapped(),
    "peers": lambda d: d.peers(),
    "status": lambda d: d.status(),
    "node_id": lambda d: d.node_id,
    "named": lambda d: d.named("x"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_node_that_does_not_run_says_so(use: Callable[[SecureDHT], Any]) -> None:
    async def attempt(dht: SecureDHT) -> None:
        with pytest.raises(Closed, match="async with"):
            await called(use, dht)

    async def main() -> None:
        dht = loner()
        await attempt(dht)
        async with dht:
            pass
        await attempt(dht)

    asyncio.run(main())


# --- alone ---------------------------------------------------------------------------------------


def test_a_first_node_is_in_at_once_and_says_that_it_is_alone() -> None:
    async def main() -> None:
        async with Testnet.simulated(n=1, seed=1) as net:
            (node,) = net.nodes
            await node.bootstrapped(0.001)
            for question in (node.get("x"), node.find_peer(bytes(32)), node.get_topic("t")):
                with pytest.raises(NotBootstrapped, match="no other node is known"):
                    await question
            await node.put("x", b"1")
            assert (await node.get("x")).verdict is Verdict.ALONE

    run(main)


# --- arguments -----------------------------------------------------------------------------------


def test_ids_may_be_given_as_hex_digits() -> None:
    async def main() -> None:
        async with Testnet.simulated(n=4, seed=1) as net:
            a, b = net.nodes[1], net.nodes[3]
            key = bytes(range(32))
            put = await a.put("x", b"1")
            await a.announce(["203.0.113.5:51820"], wireguard_key=base64.b64encode(key).decode())
            assert (await b.get("x", owner=a.owner_id.hex())).value == b"1"
            assert (await b.get(b.named("x", a.owner_id.hex()))).value == b"1"
            peer = await b.find_peer(a.owner_id.hex())
            assert (peer.owner, peer.node_id, peer.wireguard_key) == (a.owner_id, a.node_id, key)
            found, *_ = await b.find_node(a.node_id.hex())
            assert (found.node_id, found.reputation) == (a.node_id, b.reputation(a.node_id))
            assert found.reputation > 0.5
            assert await b.ping(a.node_id.hex()) > 0
            assert await b.ping(a.bootstrap_entry) > 0
            await a.put("x", b"2", previous=put.record.record_id.hex())
            assert (await b.get("x", owner=a.owner_id)).value == b"2"

    run(main)


WRONG: dict[str, Callable[[SecureDHT], Any]] = {
    "put: where": lambda d: d.put(None, b""),  # type: ignore[arg-type]
    "put: value": lambda d: d.put("x", "text"),  # type: ignore[arg-type]
    "put: bytearray": lambda d: d.put("x", bytearray()),  # type: ignore[arg-type]
    "put: owner": lambda d: d.put("x", b"", owner=d.owner_id),  # type: ignore[arg-type]
    "put: ttl": lambda d: d.put("x", b"", ttl=60.5),  # type: ignore[arg-type]
    "put: previous": lambda d: d.put("x", b"", previous=b"short"),
    "get: where": lambda d: d.get(b"x"),  # type: ignore[arg-type]
    "get: owner": lambda d: d.get("x", owner=b"short"),
    "get: consistency": lambda d: d.get("x", consistency="most"),  # type: ignore[arg-type]
    "get: timeout": lambda d: d.get("x", timeout=0),
    "get: a topic of nobody": lambda d: d.get(Topic("t")),
    "get_topic: bytes": lambda d: d.get_topic(b"t"),  # type: ignore[arg-type]
    "get_topic: topic": lambda d: d.get_topic(Topic("t")),  # type: ignore[arg-type]
    "get_topic: timeout": lambda d: d.get_topic("t", timeout=-1),
    "put_many": lambda d: d.put_many([("x", b"")]),  # type: ignore[arg-type]
    "get_many": lambda d: d.get_many("x"),
    "delete: where": lambda d: d.delete(5),  # type: ignore[arg-type]
    "delete: owner": lambda d: d.delete("x", owner=bytes(32)),  # type: ignore[arg-type]
    "validate": lambda d: d.validate(b""),  # type: ignore[arg-type]
    "announce: nothing": lambda d: d.announce([]),
    "announce: text": lambda d: d.announce("203.0.113.5:51820"),
    "announce: key": lambda d: d.announce(["a:1"], wireguard_key=b"short"),
    "announce: attributes": lambda d: d.announce(["a:1"], attributes={"a": 1}),  # type: ignore[dict-item]
    "find_peer": lambda d: d.find_peer("short"),
    "find_peer: consistency": lambda d: d.find_peer(bytes(32), consistency=""),  # type: ignore[arg-type]
    "find_node": lambda d: d.find_node(b"short"),
    "ping": lambda d: d.ping("short"),
    "ping: entry": lambda d: d.ping("short@tcp/127.0.0.1:1"),
    "bootstrapped": lambda d: d.bootstrapped(-1),
    "named": lambda d: d.named("x", b"short"),
    "named: name": lambda d: d.named(5),  # type: ignore[arg-type]
}


def test_a_wrong_argument_is_a_config_error_and_nothing_is_sent() -> None:
    async def main() -> None:
        async with Testnet.simulated(n=3, seed=1) as net:
            before = net.network.trace_hash()
            for what, use in WRONG.items():
                with pytest.raises(ConfigError) as e:
                    await called(use, net.nodes[1])
                assert "name" in e.value.fields, what
            assert net.network.trace_hash() == before
            assert net.nodes[1].status()["records"] == 0

    run(main)


def test_many_at_once_fail_one_by_one() -> None:
    async def main() -> None:
        async with Testnet.simulated(n=3, seed=1) as net:
            a, b = net.nodes[1:]
            put = await a.put_many({"x": b"1", "y": "text", "z" * 65: b""})  # type: ignore[dict-item]
            assert [type(r).__name__ for r in put.values()] == ["PutResult", "ConfigError", "ConfigError"]
            got = await b.get_many([a.named("x"), a.named("none"), a.named("x")])
            assert list(got) == [a.named("x"), a.named("none")]
            assert [isinstance(r, NotFound) for r in got.values()] == [False, True]

    run(main)
