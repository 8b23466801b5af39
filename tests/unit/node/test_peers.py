"""Sessions: found again, de-duplicated, bounded, kept alive, ended."""

from __future__ import annotations

import asyncio

import pytest

from pqdht.errors import Closed, DialHeldBack, PeerTimeout, PeerUnreachable
from pqdht.ids import NodeId
from pqdht.node.timeouts import DEAD_FIRST_S
from pqdht.testing.latency import Constant
from pqdht.testing.loop import run
from pqdht.wire.address import parse_address
from pqdht.wire.messages import FindNode, Nodes, Ping, Pong
from tests.sim.harness import Net, at, contact, counter


def test_questions_asked_at_once_share_one_dial() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        node, to = net.nodes[0], contact(net, 0, 1)
        for conn in list(node._peers.sessions.values()):
            conn.close()
        await asyncio.sleep(1.0)
        dials = counter(node, "dials")
        answers = await asyncio.gather(*(node._peers.request(to, Ping()) for _ in range(10)))
        assert all(isinstance(a.body, Pong) for a in answers)
        assert counter(node, "dials") == dials + 1
        assert node._peers._dialing == {}
        await net.close()

    run(main)


def test_the_next_address_is_tried_where_the_first_is_dead() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        node = net.nodes[0]
        for conn in list(node._peers.sessions.values()):
            conn.close()
        await asyncio.sleep(1.0)
        to = contact(net, 0, 1).with_addresses(["tcp/10.0.2.1:9", at(net.seats[1].ip)])
        assert isinstance((await node._peers.request(to, Ping())).body, Pong)
        with pytest.raises(PeerUnreachable, match="no address"):
            await node._peers.request(contact(net, 0, 2).with_addresses([]), Ping())
        await net.close()

    run(main)


def test_a_dead_peer_costs_a_time_out_and_a_dead_session_nothing_more() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        node, to = net.nodes[0], contact(net, 0, 1)
        await node._peers.request(to, Ping())
        await net.crash(1, silent=True)
        with pytest.raises(PeerUnreachable):
            await node._peers.request(to, Ping(), timeout_s=0.2)
        await asyncio.sleep(5.0)
        assert net.seats[1].identity.node_id not in node._peers.sessions
        with pytest.raises((PeerTimeout, DialHeldBack)):
            await node._peers.request(to, Ping())
        await net.close()

    run(main)


def test_idle_sessions_end_and_wanted_ones_are_kept_alive() -> None:
    async def main() -> None:
        net = Net(session_idle_s=60.0, keepalive_s=100.0)
        await net.grow(3)
        client = await net.add(listen=())
        await client.bootstrapped(10.0)
        await asyncio.sleep(5.0)
        node = net.nodes[0]
        assert client.node_id in node._peers.sessions
        await asyncio.sleep(10.0)
        for conn in list(client._peers.sessions.values()):
            conn.link.abort()
        await asyncio.sleep(120.0)
        assert client.node_id not in node._peers.sessions
        others = [n.node_id for n in net.nodes[1:3]]
        await asyncio.sleep(400.0)
        assert all(i in node._peers.sessions for i in others)
        assert all(
            asyncio.get_running_loop().time() - c.last_heard < 150 for c in node._peers.sessions.values()
        )
        await net.close()

    run(main)


def test_more_sessions_than_allowed_end_the_oldest_unwanted() -> None:
    async def main() -> None:
        net = Net(max_sessions=4)
        await net.grow(3)
        for _ in range(4):
            await (await net.add(listen=())).bootstrapped(10.0)
        await asyncio.sleep(2.0)
        wanted = [n.node_id for n in net.nodes[1:3]]
        assert len(net.nodes[0]._peers.sessions) <= 4
        assert all(i in net.nodes[0]._peers.sessions for i in wanted)
        await net.close()

    run(main)


def test_early_questions_save_a_round_trip() -> None:
    async def ask(early: str) -> float:
        net = Net(early=early)
        await net.grow(2)
        node, to = net.nodes[0], contact(net, 0, 1)
        for conn in list(node._peers.sessions.values()):
            conn.close()
        await asyncio.sleep(1.0)
        begun = asyncio.get_running_loop().time()
        answer = await node._peers.request(to, FindNode(bytes(32)))
        assert isinstance(answer.body, Nodes)
        took = asyncio.get_running_loop().time() - begun
        await net.close()
        return took

    async def main() -> None:
        assert await ask("reads") == pytest.approx(0.1, abs=0.002)  # connect, then handshake and answer
        assert await ask("never") == pytest.approx(0.15, abs=0.002)

    run(main)


def test_the_first_question_to_a_bare_address_travels_in_the_handshake() -> None:
    async def ask(early: str) -> float:
        net = Net(early=early)
        await net.grow(2)
        node = await net.add(listen=(), bootstrap=())
        node_id, address = net.seats[1].identity.node_id, parse_address(at(net.seats[1].ip))
        begun = asyncio.get_running_loop().time()
        answer = await node._peers.ask_address(node_id, address, FindNode(bytes(32)))
        took = asyncio.get_running_loop().time() - begun
        assert answer.node_id == node_id
        again = await node._peers.ask_address(node_id, address, FindNode(bytes(32)))
        assert isinstance(again.body, Nodes)
        assert counter(node, "dials") == 1, "the second goes over the session"
        with pytest.raises(PeerUnreachable):
            await node._peers.ask_address(NodeId(bytes(32)), address.with_port(9), FindNode(bytes(32)))
        await net.close()
        return took

    async def main() -> None:
        assert await ask("reads") == pytest.approx(0.15, abs=0.002)  # connect, pqXX, the answer in it
        assert await ask("never") == pytest.approx(0.2, abs=0.002)

    run(main)


def test_who_did_not_answer_a_dial_is_remembered_while_others_answer() -> None:
    async def main() -> None:
        net = Net(simulator={"latency": Constant(0.05)})
        await net.grow(4)
        node, to = net.nodes[0], contact(net, 0, 1)
        for conn in list(node._peers.sessions.values()):
            conn.close()
        await asyncio.sleep(1.0)
        net.sim.unreachable(net.seats[1].ip)
        begun = asyncio.get_running_loop().time()

        async def of_another() -> None:
            await asyncio.sleep(0.1)
            await node._peers.request(contact(net, 0, 2), Ping())

        other = asyncio.ensure_future(of_another())
        with pytest.raises(PeerTimeout):
            await node._peers.request(to, Ping())
        await other
        assert asyncio.get_running_loop().time() - begun < 2.0, "what others take bounds the dial"
        dials = counter(node, "dials")
        with pytest.raises(DialHeldBack) as e:
            await node._peers.request(to, Ping())
        assert 0 < e.value.fields["retry_s"] <= DEAD_FIRST_S
        assert counter(node, "dials") == dials
        net.sim.unreachable(net.seats[1].ip, False)
        await asyncio.sleep(DEAD_FIRST_S)
        assert isinstance((await node._peers.request(to, Ping())).body, Pong)
        await net.close()

    run(main)


def test_nobody_is_held_to_be_dead_while_nobody_answers() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        node, to = net.nodes[0], contact(net, 0, 1)
        for conn in list(node._peers.sessions.values()):
            conn.close()
        await asyncio.sleep(1.0)
        net.sim.unreachable(net.seats[0].ip)
        with pytest.raises(PeerTimeout):
            await node._peers.request(to, Ping())
        net.sim.unreachable(net.seats[0].ip, False)
        assert isinstance((await node._peers.request(to, Ping())).body, Pong)
        await net.close()

    run(main)


def test_after_an_unanswered_question_others_are_asked_at_once() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        node, to = net.nodes[0], contact(net, 0, 1)
        await node._peers.request(to, Ping())
        await asyncio.sleep(1.0)
        assert 0.05 < node._peers.hedge(to.node_id) < 0.2
        assert not node._peers.is_cold(to.node_id)
        net.sim.unreachable(net.seats[1].ip)
        with pytest.raises(PeerTimeout):
            await node._peers.request(to, Ping(), timeout_s=0.2)
        assert node._peers.hedge(to.node_id) == 0.0
        assert node._peers.is_cold(bytes(32))
        assert node._peers.hedge(bytes(32)) > 0.15
        assert node._peers.patience(bytes(32)) > node._peers.hedge(bytes(32))
        await net.close()

    run(main)


def test_a_closed_node_asks_nobody() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        node, to = net.nodes[0], contact(net, 0, 1)
        await node.close()
        with pytest.raises(Closed):
            await node._peers.request(to, Ping())
        with pytest.raises(Closed):
            node.status()
        await node.close()
        await net.nodes[1].close()

    run(main)
