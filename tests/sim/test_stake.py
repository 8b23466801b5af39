"""Stakes among real nodes: found in the background, told in open sessions, shown in topic records."""

from __future__ import annotations

import asyncio
from typing import Any

from pqdht.constants import DAY_MS, TESTNET
from pqdht.identity.stake import epoch_of
from pqdht.ids import NodeId
from pqdht.node.dht import SecureDHT
from pqdht.records import Topic, topic_stake
from tests.sim.harness import Net, counter, one_group, play, with_limits

BITS = 6


def seen_by(net: Net, who: int, of: int) -> int:
    """The bits that node `who` believes of the peer `of`, by its session."""
    node, peer = net.nodes[who], net.seats[of].identity.node_id
    conn = node._peers.sessions[NodeId(peer)]
    assert conn.peer is not None
    return node.env.contacts.stake_bits(peer, conn.peer.contact.stake, node.env.clock())


def told_by(node: SecureDHT) -> bytes:
    """The stake that a node's contact says, b"" for none."""
    return node.env.stake or b""


def test_a_stake_is_found_told_to_who_has_a_session_and_shown_under_topics() -> None:
    async def scenario(net: Net) -> None:
        index = len(net.nodes)
        await (await net.add(stake_bits=BITS)).bootstrapped(60.0)
        staker = net.nodes[index]
        await asyncio.sleep(2.0)
        assert not told_by(staker)
        assert seen_by(net, 0, index) == 0
        await asyncio.sleep(60.0)
        assert told_by(staker)
        assert counter(staker, "stakes_found") == 1
        assert seen_by(net, 0, index) >= BITS  # in the session there was
        await staker.put(Topic("t"), b"v")
        (result,) = await net.nodes[0].get_topic("t")
        assert result.record is not None
        assert topic_stake(result.record.wire.tbs) == told_by(staker)
        assert all(counter(n, "stakes_found") == 0 for n in net.nodes[:index])

    play(scenario, 4)


def test_a_node_keeps_its_stake_over_a_restart() -> None:
    async def scenario(net: Net) -> None:
        index = len(net.nodes)
        await (await net.add(stake_bits=BITS)).bootstrapped(60.0)
        await asyncio.sleep(60.0)
        stake = net.nodes[index].env.stake
        await net.crash(index)
        await net.restart(index)
        await asyncio.sleep(60.0)
        assert net.nodes[index].env.stake == stake is not None
        assert counter(net.nodes[index], "stakes_found") == 0
        assert epoch_of(net.clock(index)) == net.clock(index) // DAY_MS // 7

    play(scenario, 3)


def test_who_fails_a_rule_of_address_groups_is_served_and_not_stored_on() -> None:
    """Many ids behind one address: nobody is turned away for it, and few of them count."""

    async def scenario(net: Net) -> None:
        table = net.nodes[0]._routing.table
        inside = [i for i in range(1, len(net.nodes)) if net.seats[i].identity.node_id in table]
        outside = [i for i in range(1, len(net.nodes)) if i not in inside]
        assert len(inside) == 3
        assert len(outside) == 6
        await net.nodes[0].put("x", b"v")
        for i in outside:
            result = await net.nodes[i].get("x", owner=net.seats[0].owner.owner_id)
            assert result.value == b"v"
        receipts: dict[Any, str] = {r.node: r.code for r in (await net.nodes[0].put("y", b"v")).receipts}
        assert not {net.seats[i].identity.node_id for i in outside} & set(receipts)

    play(scenario, 10, params=with_limits(TESTNET, table_per_group=3, bucket_per_group=3), ips=one_group)
