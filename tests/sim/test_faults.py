"""What goes wrong between honest nodes: clocks, partitions, restarts, limits.  Each ends in a typed error."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pqdht.constants import MINUTE_MS, TESTNET
from pqdht.errors import (
    NotBootstrapped,
    NotFound,
    PeerIdentityMismatch,
    PeerUnreachable,
    QuorumNotReached,
)
from pqdht.identity.keys import OwnerIdentity
from pqdht.kad.quorum import Verdict
from pqdht.node.results import PutResult
from pqdht.records import Named
from pqdht.wire.messages import Ping
from tests.sim.harness import Net, codes, contact, counter, play, strangers

K4 = replace(TESTNET, k=4)


# --- small networks ----------------------------------------------------------------------------


def test_one_node_alone_is_its_own_network_and_says_so() -> None:
    async def scenario(net: Net) -> None:
        (node,) = net.nodes
        put = await node.put("x", b"1")
        assert (put.need, put.confirmed) == (1, 1)
        assert (await node.get("x")).verdict is Verdict.ALONE
        with pytest.raises(NotBootstrapped, match="no other node is known") as e:
            await node.get("y")
        assert e.value.result.verdict is Verdict.ALONE
        with pytest.raises(NotBootstrapped, match="no other node is known"):
            await node.get_topic("t")
        await node.delete("x")
        with pytest.raises(NotFound, match="deleted"):
            await node.get("x")

    play(scenario, 1)


def test_two_nodes_alone_are_a_working_network() -> None:
    async def scenario(net: Net) -> None:
        a, b = net.nodes
        put = await a.put("x", b"1")
        assert (put.need, put.confirmed) == (2, 2)
        for reader in (a, b):
            result = await reader.get("x", owner=a.owner_id)
            assert (result.value, result.verdict) == (b"1", Verdict.CONFIRMED)
        await a.delete("x")
        with pytest.raises(NotFound) as e:
            await b.get("x", owner=a.owner_id, ignore_local=True)
        assert e.value.fields["deleted_at"] == e.value.result.record.timestamp

    play(scenario, 2)


def test_the_bootstrap_entry_may_be_unreachable_at_first() -> None:
    async def scenario(net: Net) -> None:
        await net.crash(0)
        node = await net.add()
        with pytest.raises(NotBootstrapped):
            await node.bootstrapped(3.0)
        with pytest.raises(NotBootstrapped):
            await node.get("x")
        await net.restart(0)
        await node.bootstrapped(120.0)
        assert len(node.peers()) >= 1

    play(scenario, 1)


# --- clocks ------------------------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_wrong_clock_costs_a_round_trip_and_not_membership(minutes: int) -> None:
    async def scenario(net: Net) -> None:
        net.sim.set_skew("10.0.6.1", minutes * MINUTE_MS)
        node = await net.add()
        await node.bootstrapped(30.0)
        await node.find_node(node.node_id)
        assert len(node.peers()) >= 4
        assert counter(node, "early_requests_repeated") > 0
        await net.nodes[1].put("x", b"1")
        if minutes < 0:  # to a clock that is behind, the record is from the future
            with pytest.raises(NotFound) as e:
                await node.get("x", owner=net.nodes[1].owner_id, ignore_local=True)
            assert e.value.result.verdict is Verdict.INVALID_ONLY
            assert counter(node, "records_disbelieved.CLOCK_SKEW") > 0
            await asyncio.sleep(6 * 60)
        result = await node.get("x", owner=net.nodes[1].owner_id, ignore_local=True)
        assert result.verdict is Verdict.CONFIRMED
        seen = await net.nodes[2].find_node(node.node_id)
        assert node.node_id in [n.node_id for n in seen]

    play(scenario, 6)


def test_records_from_the_future_are_refused_and_their_author_is_told() -> None:
    async def scenario(net: Net) -> None:
        net.sim.set_skew("10.0.5.1", 10 * MINUTE_MS)
        ahead = await net.add()
        await ahead.bootstrapped(30.0)
        with pytest.raises(QuorumNotReached, match="clock") as e:
            await ahead.put("x", b"1")
        refused = [r.code for r in e.value.result.receipts if r.node != ahead.node_id]
        assert len(refused) >= 3
        assert set(refused) == {"CLOCK_SKEW"}
        net.sim.set_skew("10.0.5.1", 0)
        await asyncio.sleep(11 * 60)  # now is no longer in the future, and the queue is worked off
        result = await net.nodes[1].get("x", owner=ahead.owner_id, ignore_local=True)
        assert result.value == b"1"

    play(scenario, 5)


# --- partitions and restarts -------------------------------------------------------------------


@pytest.mark.parametrize("minutes", [2, 40])
def test_a_partition_heals(minutes: int) -> None:
    """After the longer one every node has long dropped all on the other side."""

    async def scenario(net: Net) -> None:
        owner = net.nodes[1].owner_id
        await net.nodes[1].put("x", b"1")
        left = [s.ip for s in net.seats[:6]]
        net.sim.partition([left])
        await asyncio.sleep(minutes * 60)
        await net.nodes[1].put("x", b"2")
        inside = await net.nodes[2].get("x", owner=owner, ignore_local=True)
        assert inside.value == b"2"
        net.sim.heal()
        await asyncio.sleep(15 * 60)
        for reader in net.nodes:
            result = await reader.get("x", owner=owner, ignore_local=True)
            assert (result.value, result.verdict) == (b"2", Verdict.CONFIRMED)
        sides = [{n.group for n in node.peers()} for node in net.nodes]
        assert all(any(f"10.0.{i}.0/24" in groups for i in range(6)) for groups in sides)
        assert all(any(f"10.0.{i}.0/24" in groups for i in range(6, 12)) for groups in sides)

    play(scenario, 12, params=K4)


def test_the_bootstrap_node_restarts_and_still_holds_what_it_signed_for() -> None:
    async def scenario(net: Net) -> None:
        async def promised(name: str) -> PutResult | None:
            put = await net.nodes[3].put(name, b"1")
            signed = [r.node for r in put.receipts if r.code == "OK"]
            return put if net.seats[0].identity.node_id in signed else None

        puts = [put for i in range(8) if (put := await promised(f"x{i}")) is not None]
        put, name = puts[0], puts[0].record.name or ""
        peers = len(net.nodes[0].peers())
        await asyncio.sleep(120.0)
        await net.crash(0)
        assert (await net.nodes[5].get(name, owner=net.nodes[3].owner_id, ignore_local=True)).value == b"1"
        node = await net.restart(0)
        await node.bootstrapped(30.0)
        await asyncio.sleep(5.0)
        assert len(node.peers()) >= peers // 2
        kept = node._keeper.find(put.key, net.nodes[3].owner_id)
        assert [r.record_id for r in kept] == [put.record.record_id]
        newcomer = await net.add()
        await newcomer.bootstrapped(30.0)
        assert (await newcomer.get(name, owner=net.nodes[3].owner_id, ignore_local=True)).value == b"1"

    play(scenario, 8)


def test_remembered_contacts_do_without_any_bootstrap_node() -> None:
    async def scenario(net: Net) -> None:
        await net.nodes[2].put("x", b"1")
        await asyncio.sleep(120.0)  # long enough to write the contacts down
        await net.crash(0)
        await net.crash(5)
        node = await net.restart(5)
        await node.bootstrapped(30.0)
        result = await node.get("x", owner=net.nodes[2].owner_id, ignore_local=True)
        assert (result.value, result.verdict) == (b"1", Verdict.CONFIRMED)

    play(scenario, 7)


def test_an_older_version_is_not_published_again_after_a_restart() -> None:
    """The journal keeps the newest version, whichever PUT ends last."""

    async def scenario(net: Net) -> None:
        node = net.nodes[1]
        first = asyncio.create_task(node.put("x", b"old"))
        await asyncio.sleep(0.01)
        second = asyncio.create_task(node.put("x", b"new"))
        old = (await first).record
        assert not second.done()
        await net.crash(1)
        second.cancel()
        await asyncio.wait([second])
        node = await net.restart(1)
        last = node._publisher.last(Named(node.owner_id, "x"), node.owner_id)
        assert last is not None
        assert last.timestamp > old.timestamp
        assert last.value == b"new"

    play(scenario, 6)


# --- sessions ----------------------------------------------------------------------------------


def test_simultaneous_dials_end_in_one_session() -> None:
    async def scenario(net: Net) -> None:
        a, b = net.nodes[1], net.nodes[2]
        for node, other in ((a, b), (b, a)):
            conn = node._peers.sessions.get(other.node_id)
            if conn is not None:
                conn.close()
        await asyncio.sleep(1.0)
        assert b.node_id not in a._peers.sessions
        await asyncio.gather(
            *(a._peers.request(contact(net, 1, 2), Ping()) for _ in range(3)),
            *(b._peers.request(contact(net, 2, 1), Ping()) for _ in range(3)),
        )
        await asyncio.sleep(200.0)  # what lost the choice is idle and ends
        ours, theirs = a._peers.sessions[b.node_id], b._peers.sessions[a.node_id]
        assert ours.outbound == (a.node_id < b.node_id) == (not theirs.outbound)
        for node, other in ((a, b), (b, a)):
            both = [c for c in node._peers._all if c.peer and c.peer.node_id == other.node_id]
            assert len(both) == 1

    play(scenario, 4)


def test_another_node_at_the_address_is_found_out() -> None:
    async def scenario(net: Net) -> None:
        (stranger,) = await strangers(net, 1, lambda i: net.seats[1].ip)
        wrong = stranger.with_addresses([f"tcp/{net.seats[1].ip}:4733"])
        with pytest.raises(PeerUnreachable):  # pqIK to another key: it cannot even read our first flight
            await net.nodes[0]._peers.request(wrong, Ping())
        with pytest.raises(PeerIdentityMismatch):  # pqXX: it says who it is
            await net.nodes[0].ping(f"{stranger.node_id.hex()}@{wrong.addresses[0]}")
        await net.nodes[0].ping(net.nodes[1].node_id)

    play(scenario, 3)


def test_records_of_other_owners_and_keys_are_not_accepted_in_their_name() -> None:
    async def scenario(net: Net) -> None:
        now = net.clock()
        mine, other = net.seats[0].owner, OwnerIdentity.generate(net.seats[0].suite)
        good = net.sign(mine, Named(mine.owner_id, "x"), b"v", timestamp=now)
        foreign = net.sign(other, Named(other.owner_id, "x"), b"v", timestamp=now)
        forged = replace(good, wire=type(good.wire)(good.wire.tbs, foreign.wire.signature))
        moved = replace(
            good, wire=type(good.wire)(good.wire.tbs.replace(good.key, foreign.key), good.wire.signature)
        )
        cut = replace(good, wire=type(good.wire)(good.wire.tbs[:-1], good.wire.signature))
        assert await codes(net, 0, 1, forged, moved, cut) == ["BAD_RECORD", "BAD_RECORD", "MALFORMED"]
        assert net.nodes[1].status()["records"] == 0

    play(scenario, 2)
