"""What is said, in bytes: the fake suite has the exact lengths of the real one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from pqdht.channel.framing import Kind as Frame
from pqdht.channel.handshake import PADDED_MOST, Handshake
from pqdht.channel.session import FrameKind, Session
from pqdht.config import Config
from pqdht.testing.loop import run
from pqdht.wire.messages import Body, FindNode, Nodes, Ping, Pong
from tests.sim.harness import Net, contact, counter

FIRST_WINDOW = 14_000
"""Bytes a TCP responder may send before the first acknowledgement, about: 10 segments (RFC 6928)."""


@pytest.mark.parametrize(("ask", "answer"), [(Ping, Pong), (lambda: FindNode(bytes(32)), Nodes)])
def test_the_reply_to_a_first_flight_fits_a_first_window(
    ask: Callable[[], Body], answer: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With k = 20 contacts, two of them with their KEM keys, and padding."""
    replies: list[int] = []
    finish = Handshake.finish

    def watched(handshake: Handshake, *rest: object) -> bytes:
        kind = handshake._next_kind()
        frame = finish(handshake, *rest)  # type: ignore[arg-type]
        if kind is Frame.IK_2:
            replies.append(len(frame))
        return frame

    async def main() -> None:
        net = Net()
        await net.grow(24, pause_s=0.1)
        asker, to = net.nodes[1], contact(net, 1, 2)
        monkeypatch.setattr(Handshake, "finish", watched)
        for _ in range(20):
            asker._peers.sessions[to.node_id].close()
            await asyncio.sleep(2.0)
            replies.clear()
            got = await asker._peers.request(to, ask())
            assert isinstance(got.body, answer)
            if isinstance(got.body, Nodes):
                assert len(got.body.contacts) == 20
                assert sum(c.kem_key is not None for c in got.body.contacts) == 2
            assert replies
            assert all(size <= FIRST_WINDOW for size in replies)
        assert counter(asker, "early_requests_repeated") == 0
        monkeypatch.undo()
        await net.close()

    assert PADDED_MOST <= FIRST_WINDOW
    run(main)


def test_a_peer_outside_our_table_may_keep_its_session_with_us_and_hears_us() -> None:
    """Nobody asks anybody, and no session is made twice: keep-alives are answered."""

    async def main() -> None:
        net = Net(walk_interval_s=1e6, walk_interval_young_s=1e6, refresh_idle_s=1e6)
        await net.grow(4)
        await asyncio.sleep(60.0)
        one, two = net.nodes[1], net.nodes[2]
        conn = one._peers.sessions[two.node_id]
        caller, called = (one, two) if conn.outbound else (two, one)
        called._routing.table.remove(caller.node_id, 0.0)
        made, asked = counter(caller, "handshakes"), counter(caller, "messages_signed")
        await asyncio.sleep(2000.0)
        assert called.node_id in caller._peers.sessions
        entry = caller._routing.table.get(called.node_id)
        assert entry is not None
        assert asyncio.get_running_loop().time() - entry.last_heard <= Config().keepalive_s + 20
        assert caller.node_id not in called._routing.table
        assert (counter(caller, "handshakes"), counter(caller, "messages_signed")) == (made, asked)
        await net.close()

    run(main)


def test_who_wants_a_session_no_longer_ends_it_for_both() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        await asyncio.gather(*(node._maintenance.close() for node in net.nodes))
        one, two = net.nodes[1], net.nodes[2]
        conn = one._peers.sessions[two.node_id]
        caller, called = (one, two) if conn.outbound else (two, one)
        for a, b in ((caller, called), (called, caller)):
            a._routing.table.remove(b.node_id, 0.0)
        await asyncio.sleep(140.0)
        assert called.node_id not in caller._peers.sessions
        assert caller.node_id not in called._peers.sessions
        await net.close()

    run(main)


def test_keepalives_are_small_and_two_ends_do_not_echo_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    send = Session.send

    def watched(session: Session, kind: FrameKind, content: bytes) -> bytes:
        frame = send(session, kind, content)
        if kind is FrameKind.KEEPALIVE:
            sizes.append(len(frame))
        return frame

    async def main() -> None:
        net = Net(walk_interval_s=1e6, walk_interval_young_s=1e6, refresh_idle_s=1e6)
        await net.grow(2)
        await asyncio.sleep(100.0)
        monkeypatch.setattr(Session, "send", watched)
        await asyncio.sleep(3000.0)
        monkeypatch.undo()
        await net.close()

    run(main)
    assert set(sizes) == {34}
    assert 18 <= len(sizes) <= 22  # one there and one back every 300 s
