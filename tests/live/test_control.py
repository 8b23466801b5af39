"""daemon.control: requests over a real unix-domain socket to a real node."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pqdht import Config, ConfigError, ListenError, NotFound, OwnerId, RecordInvalid, SecureDHT
from pqdht.daemon.control import HANDLES, MAX_PATH, ControlClient, control_server, default_socket
from pqdht.daemon.requests import (
    Announce,
    Delete,
    FindNode,
    FindPeer,
    Get,
    Ping,
    Put,
    Records,
    Request,
    Status,
    Table,
)
from pqdht.errors import ControlError, PqdhtError
from pqdht.testing.testnet import Loopback, Testnet

Ask = Callable[[Request], Coroutine[Any, Any, dict[str, Any]]]


def with_network(tmp_path: Path, check: Callable[[Loopback, Ask], Coroutine[Any, Any, None]]) -> None:
    """Run `check` with four nodes, of which the last answers at a control socket."""

    async def main() -> None:
        path = default_socket(tmp_path)
        async with Testnet.loopback(n=4) as net, control_server(net.nodes[3], path):
            await check(net, ControlClient(path).call)
        assert not path.exists()

    asyncio.run(main())


def test_every_request_does_what_the_node_does(tmp_path: Path) -> None:
    async def check(net: Loopback, ask: Ask) -> None:
        me, other = net.nodes[3], net.nodes[0]
        status = await ask(Status())
        assert status["node_id"] == me.node_id.hex()
        assert status["bootstrap_entries"] == [f"{me.node_id.hex()}@{me.env.addresses[0]}"]
        assert [p["node_id"] for p in (await ask(Table()))["peers"]] == [p.node_id.hex() for p in me.peers()]

        put = await ask(Put(name="greeting", value=b"hello".hex()))
        assert put["confirmed"] >= put["need"] == 3
        assert (await other.get("greeting", owner=me.owner_id)).value == b"hello"
        assert put["record_id"] in [r["record_id"] for r in (await ask(Records()))["records"]]
        got = await ask(Get(name="greeting", ignore_local=True))
        assert (bytes.fromhex(got["value"]), got["verdict"]) == (b"hello", "confirmed")
        assert (await ask(Ping(node=other.node_id.hex())))["rtt_s"] > 0
        near = (await ask(FindNode(target=other.node_id.hex())))["nodes"]
        assert near[0]["node_id"] == other.node_id.hex()

        await other.put("theirs", b"x")
        assert (await ask(Get(name="theirs", owner=other.owner_id.hex())))["value"] == b"x".hex()
        await ask(Delete(name="greeting"))
        with pytest.raises(NotFound, match="deleted"):
            await ask(Get(name="greeting"))

    with_network(tmp_path, check)


def test_topics_and_content(tmp_path: Path) -> None:
    async def check(net: Loopback, ask: Ask) -> None:
        immutable = await ask(Put(value="00ff", immutable=True))
        assert (await ask(Get(content=immutable["key"])))["value"] == "00ff"
        await ask(Put(topic="lobby", value="01"))
        found = (await ask(Get(topic="lobby")))["results"]
        assert [r["value"] for r in found] == ["01"]
        assert (await ask(Get(topic="lobby", owner=found[0]["owner"])))["value"] == "01"
        for wrong in (Get(), Get(name="a", topic="b"), Get(content="00")):
            with pytest.raises(ConfigError):
                await ask(wrong)
        with pytest.raises(ConfigError, match="only its owner"):
            await ask(Put(name="x", owner="ab" * 32, value=""))

    with_network(tmp_path, check)


def test_announcing_and_finding(tmp_path: Path) -> None:
    async def check(net: Loopback, ask: Ask) -> None:
        me = net.nodes[3]
        said = await ask(Announce(listen_port=51820, wireguard_key="07" * 32, attributes={"a": "b"}))
        assert said["endpoints"] == [f"{me.env.addresses[0].partition('/')[2].partition(':')[0]}:51820"]
        peer = await net.nodes[1].find_peer(me.owner_id)
        assert (list(peer.endpoints), peer.wireguard_key) == (said["endpoints"], bytes([7]) * 32)
        found = await ask(FindPeer(owner=me.owner_id.hex(), ignore_local=True))
        assert found["attributes"] == {"a": "b"}
        assert found["result"]["verdict"] == "confirmed"
        with pytest.raises(ConfigError, match="nothing to announce"):
            await ask(Announce())

    with_network(tmp_path, check)


def test_failures_arrive_as_what_they_were(tmp_path: Path) -> None:
    async def check(net: Loopback, ask: Ask) -> None:
        with pytest.raises(NotFound, match="no valid record under") as caught:
            await ask(Get(name="never written"))
        assert caught.value.result["verdict"] == "absent"
        await net.nodes[0].put("peer", b"not a peer record")
        with pytest.raises(RecordInvalid):
            await ask(FindPeer(owner=OwnerId(net.nodes[0].owner_id).hex()))
        with pytest.raises(ConfigError, match="64 hex digits"):
            await ask(FindPeer(owner="short"))

    with_network(tmp_path, check)


def test_any_line_is_answered(tmp_path: Path) -> None:
    async def check(net: Loopback, ask: Ask) -> None:
        reader, writer = await asyncio.open_unix_connection(default_socket(tmp_path))
        lines = [b"", b"\xff", b"[]", b"{}", b'{"method":1}', b'{"method":"status","params":{"x":1}}', b'"']
        for line in lines:
            writer.write(line + b"\n")
            answer = json.loads(await reader.readline())
            assert answer["error"]["type"] == "ConfigError"
        writer.write(b'{"method": "table"}\n{"method": "sta')  # two at once, one cut
        assert "peers" in json.loads(await reader.readline())["result"]
        writer.write(b'tus"}\n')
        assert "node_id" in json.loads(await reader.readline())["result"]
        writer.close()

    with_network(tmp_path, check)


def test_callers_do_not_wait_for_each_other(tmp_path: Path) -> None:
    async def check(net: Loopback, ask: Ask) -> None:
        statuses = await asyncio.gather(*(ask(Status()) for _ in range(50)))
        assert {s["node_id"] for s in statuses} == {net.nodes[3].node_id.hex()}

    with_network(tmp_path, check)


def test_only_the_owner_may_ask(tmp_path: Path) -> None:
    async def check(net: Loopback, ask: Ask) -> None:
        assert default_socket(tmp_path).stat().st_mode & 0o777 == 0o600

    with_network(tmp_path, check)


def test_a_second_daemon_is_refused_and_a_dead_ones_socket_replaced(tmp_path: Path) -> None:
    path = default_socket(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))  # as a killed daemon leaves it

    async def main() -> None:
        dht = SecureDHT(Config(network="demo", listen=()))
        async with control_server(dht, path):
            with pytest.raises(ListenError, match="a daemon already answers"):
                async with control_server(dht, path):
                    pass
            with pytest.raises(PqdhtError, match="not running"):
                await ControlClient(path).call(Status())

    asyncio.run(main())


def test_a_socket_that_cannot_be_had_is_a_typed_error(tmp_path: Path) -> None:
    async def main() -> None:
        dht = SecureDHT(Config(network="demo", listen=()))
        (tmp_path / "control.sock").write_text("a file of somebody's")
        with pytest.raises(ListenError, match="cannot listen on"):
            async with control_server(dht, tmp_path / "control.sock"):
                pass
        assert (tmp_path / "control.sock").read_text() == "a file of somebody's"
        with pytest.raises(ConfigError, match="shorter --control"):
            async with control_server(dht, tmp_path / ("x" * MAX_PATH)):
                pass

    asyncio.run(main())


@pytest.mark.skipif(not HANDLES.is_dir(), reason="needs handles in the file system")
def test_a_data_directory_may_lie_deep(tmp_path: Path) -> None:
    directory = tmp_path.joinpath(*["deep" * 10] * 5)
    path = default_socket(directory)

    async def main() -> None:
        dht = SecureDHT(Config(network="demo", listen=()))
        assert not ControlClient(path).is_answered()
        async with control_server(dht, path), dht:
            assert path.stat().st_mode & 0o777 == 0o600
            assert (await ControlClient(path).call(Status()))["node_id"] == dht.node_id.hex()
            with pytest.raises(ListenError, match="already answers"):
                async with control_server(dht, path):
                    pass

    asyncio.run(main())


def test_a_daemon_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pqdht.daemon.control.MARGIN_S", 0.05)

    async def main() -> None:
        async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()
            await writer.wait_closed()
            ended.set()

        ended = asyncio.Event()
        path = default_socket(tmp_path)
        server = await asyncio.start_unix_server(hang, path)
        with pytest.raises(ControlError, match="did not answer within"):
            await ControlClient(path).call(Status())
        await ended.wait()
        server.close()
        await server.wait_closed()

    asyncio.run(main())


def test_a_daemon_that_is_not_there_or_leaves(tmp_path: Path) -> None:
    path = default_socket(tmp_path)

    async def main() -> None:
        client = ControlClient(path)
        assert not client.is_answered()
        with pytest.raises(ControlError, match="start one with `pqdht run`"):
            await client.call(Status())

        async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readexactly(1))
            writer.close()

        server = await asyncio.start_unix_server(leave, path)
        assert client.is_answered()
        with pytest.raises(ControlError, match="ended before it answered"):
            await client.call(Status())
        server.close()
        await server.wait_closed()

    asyncio.run(main())
