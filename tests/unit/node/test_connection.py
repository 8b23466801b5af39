"""One link: split anywhere, changed anywhere, ended at any time."""

from __future__ import annotations

import asyncio

import pytest

from pqdht.errors import PeerUnreachable, RemoteError
from pqdht.node.connection import RETIRE_AFTER_S
from pqdht.testing.loop import run
from pqdht.wire.messages import Ping, Pong
from tests.sim.harness import Net, contact, counter


def test_bytes_may_be_cut_anywhere() -> None:
    async def main() -> None:
        net = Net(simulator={"split": True})
        await net.grow(6)
        await net.nodes[1].put("x", b"1" * 20_000)
        result = await net.nodes[4].get("x", owner=net.nodes[1].owner_id, ignore_local=True)
        assert result.value == b"1" * 20_000
        assert all(counter(n, "failed.SessionFailed") == 0 for n in net.nodes)
        await net.close()

    run(main)


@pytest.mark.parametrize("size", [1, 300, 70_000])
def test_garbage_never_passes_and_the_peer_is_reached_again(size: int) -> None:
    """A whole frame of it ends the session at once; the beginning of one, when the peer is given up."""

    async def main() -> None:
        net = Net()
        await net.grow(2)
        node, to = net.nodes[0], contact(net, 0, 1)
        evil = net.nodes[1]._peers.sessions[node.node_id]
        evil.link.write(bytes(size))
        await asyncio.sleep(0.2)
        assert counter(node, "failed.SessionFailed") == (1 if size == 70_000 else 0)
        assert (net.nodes[1].node_id in node._peers.sessions) == (size != 70_000)
        if size != 70_000:
            with pytest.raises(RemoteError):
                await node._peers.request(to, Ping())
            await asyncio.sleep(900.0)
        assert isinstance((await node._peers.request(to, Ping())).body, Pong)
        await net.close()

    run(main)


def test_who_hangs_up_fails_what_is_under_way_at_once() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        node, to = net.nodes[0], contact(net, 0, 1)
        asking = asyncio.create_task(node._peers.request(to, Ping()))
        await asyncio.sleep(0.01)
        begun = asyncio.get_running_loop().time()
        net.nodes[1]._peers.sessions[node.node_id].close()
        with pytest.raises(PeerUnreachable):
            await asking
        assert asyncio.get_running_loop().time() - begun < 0.1
        await net.close()

    run(main)


def test_a_retired_session_finishes_what_it_began() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        node, to = net.nodes[0], contact(net, 0, 1)
        conn = node._peers.sessions[net.nodes[1].node_id]
        asking = asyncio.create_task(node._peers.request(to, Ping()))
        await asyncio.sleep(0.01)
        conn.retire()
        closed = [conn.is_closed]
        assert isinstance((await asking).body, Pong)
        await asyncio.sleep(RETIRE_AFTER_S)
        assert [*closed, conn.is_closed] == [False, True]
        await net.close()

    run(main)


def test_sessions_are_renewed_after_their_hour() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        node, to = net.nodes[0], contact(net, 0, 1)
        first = node._peers.sessions[net.nodes[1].node_id]
        await asyncio.sleep(3700.0)
        await node._peers.request(to, Ping())
        await asyncio.sleep(1.0)
        await node._peers.request(to, Ping())
        second = node._peers.sessions[net.nodes[1].node_id]
        assert first.is_closed
        assert second is not first
        await net.close()

    run(main)


def test_padding_and_signing_settings_understand_each_other() -> None:
    async def main() -> None:
        net = Net()
        await net.add()
        for padding, signing, early in (
            ("off", "claims", "never"),
            ("constant", "every", "reads"),
            ("256", "claims", "reads"),
        ):
            await (await net.add(padding=padding, signing=signing, early=early)).bootstrapped(10.0)
        await asyncio.sleep(2.0)
        for i, node in enumerate(net.nodes):
            await node.put("x", b"%d" % i)
        for reader in net.nodes:
            for i, node in enumerate(net.nodes):
                result = await reader.get("x", owner=node.owner_id)
                assert result.value == b"%d" % i
        await net.close()

    run(main)
