"""One link: split anywhere, changed anywhere, ended at any time."""

from __future__ import annotations

import asyncio

import pytest

from pqdht.channel.session import Session
from pqdht.constants import TESTNET
from pqdht.errors import PeerUnreachable, RemoteError
from pqdht.node.connection import RETIRE_AFTER_S, Connection
from pqdht.testing.loop import run
from pqdht.wire.messages import Ping, Pong
from tests.sim.harness import Net, contact, counter, with_limits


def session_of(conn: Connection) -> Session:
    assert conn._session is not None
    return conn._session


def is_throttled(conn: Connection) -> bool:
    return conn._throttle is not None


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


def test_a_session_gets_new_keys_after_its_hour_and_loses_nothing() -> None:
    """Questions of both sides all the while, and the session stays the one it was."""

    async def main() -> None:
        net = Net(simulator={"split": True})
        await net.grow(2)
        one, two = net.nodes
        ends = [one._peers.sessions[two.node_id], two._peers.sessions[one.node_id]]
        bound = session_of(ends[0]).handshake_hash
        await asyncio.sleep(3597.0)
        for _ in range(60):
            answers = await asyncio.gather(
                *(one._peers.request(contact(net, 0, 1), Ping()) for _ in range(5)),
                *(two._peers.request(contact(net, 1, 0), Ping()) for _ in range(5)),
            )
            assert all(isinstance(a.body, Pong) for a in answers)
        assert [one._peers.sessions[two.node_id], two._peers.sessions[one.node_id]] == ends
        assert [counter(n, "sessions_renewed") for n in net.nodes] == [1, 1]
        assert [session_of(end).handshake_hash for end in ends] == [bound, bound]
        await asyncio.sleep(3600.0)
        await one._peers.request(contact(net, 0, 1), Ping())
        await asyncio.sleep(1.0)
        assert [counter(n, "sessions_renewed") for n in net.nodes] == [2, 2]
        assert not any(counter(n, "failed.SessionFailed") for n in net.nodes)
        await net.close()

    run(main)


@pytest.mark.parametrize("old", [0, 1], ids=["the called one", "the caller"])
def test_with_a_peer_of_an_older_version_a_new_dial_replaces_the_session(
    old: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ignores RENEW and never begins one.  Node 1 joined last, so it called."""

    def on_renewal(conn: Connection, content: bytes) -> None:
        if session_of(conn)._renewal is not None:
            takes(conn, content)

    async def main() -> None:
        net = Net()
        await net.grow(2)
        node, other = net.nodes[1 - old], net.nodes[old]
        first = node._peers.sessions[other.node_id]
        session_of(other._peers.sessions[node.node_id])._renewal = None
        assert other._peers.sessions[node.node_id].outbound == (old == 1)
        for _ in range(30):
            await asyncio.sleep(150.0)
            assert isinstance((await node._peers.request(contact(net, 1 - old, old), Ping())).body, Pong)
        await asyncio.sleep(2.0)
        assert first.is_closed
        assert not node._peers.sessions[other.node_id].is_closed
        assert [counter(n, "sessions_renewed") for n in net.nodes] == [0, 0]
        assert not any(counter(n, "failed.SessionFailed") for n in net.nodes)
        await net.close()

    takes = Connection._on_renewal
    monkeypatch.setattr(Connection, "_on_renewal", on_renewal)
    run(main)


def test_who_renews_all_the_time_is_read_more_slowly() -> None:
    """A renewal costs the caller's address group what a handshake does."""

    async def main() -> None:
        # Half of it is for handshakes.
        net = Net(params=with_limits(TESTNET, group_cost_per_s=8.0, group_cost_burst=32.0))
        await net.grow(2)
        called, caller = net.nodes
        conn, end = caller._peers.sessions[called.node_id], called._peers.sessions[caller.node_id]
        await asyncio.sleep(60.0)
        for n in range(5):
            assert not is_throttled(end), n
            conn._write(session_of(conn).renew())
            await asyncio.sleep(0.2)
        assert is_throttled(end)
        await asyncio.sleep(10.0)
        assert not is_throttled(end)
        assert session_of(conn).renewed == session_of(end).renewed >= 4
        assert isinstance((await caller._peers.request(contact(net, 1, 0), Ping())).body, Pong)
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
