"""What goes wrong between honest nodes: clocks, partitions, restarts, limits.  Each ends in a typed error."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from pqdht.constants import MINUTE_MS, TESTNET, ParameterSet
from pqdht.errors import (
    DialHeldBack,
    NotBootstrapped,
    NotFound,
    PeerError,
    PeerIdentityMismatch,
    PeerTimeout,
    PeerUnreachable,
    QuorumNotReached,
    WireCode,
)
from pqdht.identity.keys import OwnerIdentity
from pqdht.kad.quorum import Verdict
from pqdht.records import Named, Topic
from pqdht.testing.loop import run
from pqdht.wire.address import parse_address
from pqdht.wire.messages import Ping, Store, Stored
from tests.sim.harness import Net, contact, counter, one_group, strangers, with_limits

Scenario = Callable[[Net], Awaitable[None]]
K4 = replace(TESTNET, k=4)


def play(scenario: Scenario, nodes: int, **options: Any) -> None:
    """Run a scenario on a fresh network of `nodes`; nothing may be left behind."""

    async def main() -> None:
        net = Net(**options)
        await net.grow(nodes)
        await scenario(net)
        await net.close()

    run(main)


async def codes(net: Net, asker: int, of: int, *records: Any, replica: bool = False) -> list[str]:
    """What a node answers to one STORE."""
    wires = tuple(r.wire for r in records)
    answer = await net.nodes[asker]._peers.request(contact(net, asker, of), Store(wires, replica))
    assert isinstance(answer.body, Stored)
    return [WireCode(r.code).name for r in answer.body.receipts]


# --- small networks ----------------------------------------------------------------------------


def test_one_node_alone_is_its_own_network_and_says_so() -> None:
    async def scenario(net: Net) -> None:
        (node,) = net.nodes
        put = await node.put("x", b"1")
        assert (put.need, put.confirmed) == (1, 1)
        assert (await node.get("x")).verdict is Verdict.ALONE
        with pytest.raises(NotFound) as e:
            await node.get("y")
        assert e.value.result.verdict is Verdict.ALONE

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
        put = await net.nodes[3].put("x", b"1")
        assert net.seats[0].identity.node_id in [r.node for r in put.receipts if r.code == "OK"]
        peers = len(net.nodes[0].peers())
        await asyncio.sleep(120.0)
        await net.crash(0)
        assert (await net.nodes[5].get("x", owner=net.nodes[3].owner_id, ignore_local=True)).value == b"1"
        node = await net.restart(0)
        await node.bootstrapped(30.0)
        await asyncio.sleep(5.0)
        assert len(node.peers()) >= peers // 2
        kept = node._keeper.find(put.key, net.nodes[3].owner_id)
        assert [r.record_id for r in kept] == [put.record.record_id]
        newcomer = await net.add()
        await newcomer.bootstrapped(30.0)
        assert (await newcomer.get("x", owner=net.nodes[3].owner_id, ignore_local=True)).value == b"1"

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
        for i in (3, 4, 5):  # the first PUT waits for them
            net.sim.unreachable(net.seats[i].ip)
        first = asyncio.create_task(node.put("x", b"old"))
        await asyncio.sleep(0.2)
        for i in (3, 4, 5):
            net.sim.unreachable(net.seats[i].ip, False)
        second = await node.put("x", b"new")
        await asyncio.wait([first])
        if not first.cancelled():
            first.exception()
        await net.crash(1)
        node = await net.restart(1)
        last = node._publisher.last(Named(node.owner_id, "x"), node.owner_id)
        assert last is not None
        assert last.record_id == second.record.record_id

    play(scenario, 6)


# --- limits ------------------------------------------------------------------------------------


def small(**limits: Any) -> ParameterSet:
    return with_limits(TESTNET, **limits)


@pytest.mark.parametrize(
    "limits",
    [
        {"request_cost_burst": 30.0, "request_cost_per_s": 2.0},
        {"group_cost_burst": 60.0, "group_cost_per_s": 2.0},
    ],
    ids=["per node", "per group"],
)
def test_too_many_requests_are_answered_busy_with_the_time_to_wait(limits: dict[str, float]) -> None:
    async def scenario(net: Net) -> None:
        a = net.nodes[0]
        to = contact(net, 0, 1)
        with pytest.raises(PeerError) as e:
            for _ in range(100):
                await a._peers.request(to, Ping())
        assert e.value.code is WireCode.BUSY
        assert 0 < e.value.retry_after <= 1000
        assert counter(net.nodes[1], "requests_refused_busy") == 1
        await asyncio.sleep(e.value.retry_after / 1000)
        await a._peers.request(to, Ping())

    play(scenario, 2, params=small(**limits))


def test_requests_in_flight_of_one_session_are_bounded() -> None:
    async def scenario(net: Net) -> None:
        owner = net.seats[0].owner
        records = [
            net.sign(owner, Named(owner.owner_id, f"n{i}"), b"v", timestamp=net.clock()) for i in range(6)
        ]
        outcomes = await asyncio.gather(*(codes(net, 0, 1, r) for r in records), return_exceptions=True)
        busy = [o for o in outcomes if isinstance(o, PeerError)]
        assert [o for o in outcomes if isinstance(o, list)] == [["OK"]] * 3
        assert len(busy) == 3
        assert {(o.code, o.retry_after) for o in busy} == {(WireCode.BUSY, 1000)}

    play(scenario, 2, params=small(requests_in_flight=3))


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"records_per_owner": 3}, "QUOTA"),
        ({"bytes_per_owner": 25_000}, "QUOTA"),
        ({"records_per_group": 3}, "QUOTA"),
        ({"bytes_per_group": 25_000}, "QUOTA"),
        ({"bytes_total": 25_000}, "STORAGE_FULL"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else v,
)
def test_quotas_hold_in_one_batch_and_over_many(limits: dict[str, int], code: str) -> None:
    async def scenario(net: Net) -> None:
        now = net.clock()
        owner = net.seats[0].owner
        records = [net.sign(owner, Named(owner.owner_id, f"n{i}"), b"v", timestamp=now) for i in range(5)]
        assert 8_000 > records[0].size > 25_000 / 4
        assert await codes(net, 0, 1, *records) == ["OK"] * 3 + [code] * 2
        assert await codes(net, 0, 1, records[4]) == [code]
        assert await codes(net, 0, 1, records[0]) == ["OK"]  # held already
        newer = net.sign(owner, records[0].locator, b"w", timestamp=now + 1)
        assert await codes(net, 0, 1, newer) == ["OK"]  # takes the place of what it replaces
        assert net.nodes[1].status()["records"] == 3

    play(scenario, 2, params=small(**limits))


def test_a_full_topic_keeps_one_record_per_node_and_the_best_ranked() -> None:
    async def scenario(net: Net) -> None:
        topic = Topic("vpn")
        for node in net.nodes[1:]:
            try:
                await node.put(topic, node.node_id.hex()[:8].encode())
            except QuorumNotReached as e:
                assert "TOPIC_FULL" in [r.code for r in e.result.receipts]  # noqa: PT017
        full = [len(n._keeper.find(topic.key())) for n in net.nodes]
        assert max(full) == 3
        found = await net.nodes[0].get_topic("vpn", ignore_local=True)
        assert len(found) >= 3
        assert len({r.owner for r in found}) == len(found)
        assert sum(counter(n, "records_refused.TOPIC_FULL") for n in net.nodes) > 0

    play(scenario, 8, params=small(records_per_key=3))


def test_what_a_record_may_be_is_checked_where_it_is_stored() -> None:
    """ttl_min_s, ttl_max_s, max_value, clock_skew_ms, floor_ms: made under looser rules, refused here."""

    async def scenario(net: Net) -> None:
        owner, now = net.seats[0].owner, net.clock()
        strict = net.params
        net.params = with_limits(strict, ttl_min_s=1, ttl_max_s=10**8, max_value=60_000)
        at = Named(owner.owner_id, "x")
        short = net.sign(owner, at, b"v", timestamp=now, ttl=59)
        long = net.sign(owner, at, b"v", timestamp=now, ttl=strict.limits.ttl_max_s + 1)
        big = net.sign(owner, at, bytes(strict.limits.max_value + 1), timestamp=now)
        ahead = net.sign(owner, at, b"v", timestamp=now + strict.limits.clock_skew_ms + 60_000)
        past = net.sign(owner, at, b"v", timestamp=now - 100_000, ttl=60)
        good = net.sign(owner, at, b"v", timestamp=now, ttl=60)
        older = net.sign(owner, at, b"v", timestamp=now - 1, ttl=10_000)
        net.params = strict
        assert await codes(net, 0, 1, short, long) == ["BAD_RECORD"] * 2
        assert await codes(net, 0, 1, big) == ["TOO_LARGE"]
        assert await codes(net, 0, 1, ahead, past, good) == ["CLOCK_SKEW", "EXPIRED", "OK"]
        await asyncio.sleep(300)
        assert net.nodes[1]._keeper.find(at.key()) == []
        assert await codes(net, 0, 1, older) == ["OUTDATED"]  # the floor outlives the record
        await asyncio.sleep(net.params.limits.floor_ms / 1000)
        assert await codes(net, 0, 1, older) == ["OK"]  # and is forgotten

    play(scenario, 2, params=small(floor_ms=1_200_000))


def test_nobody_can_aim_our_dials_at_a_victim() -> None:
    async def scenario(net: Net) -> None:
        node = net.nodes[0]
        victims = await strangers(net, 9, lambda i: f"10.9.9.{i + 1}")
        outcomes = await asyncio.gather(
            *(node._peers.request(v, Ping()) for v in victims), return_exceptions=True
        )
        held = [o for o in outcomes if isinstance(o, DialHeldBack)]
        assert len(held) == 7
        assert sum(isinstance(o, PeerTimeout) for o in outcomes) == 2
        for victim in victims[2:4]:
            with pytest.raises(PeerTimeout):
                await node._peers.request(victim, Ping())
        with pytest.raises(DialHeldBack) as e:  # four failures in a row: ten minutes of rest
            await node._peers.request(victims[5], Ping())
        assert e.value.fields["retry_s"] > 500
        assert counter(node, "dials_held_back") == 8
        await node.ping(net.nodes[1].node_id)

    play(scenario, 2)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"sessions_per_group": 2}, "sessions"), ({"sessions_total": 2}, "sessions")],
    ids=["per group", "in all"],
)
def test_sessions_are_bounded(limits: dict[str, int], reason: str) -> None:
    async def scenario(net: Net) -> None:
        for _ in range(4):
            await net.add()
        await asyncio.sleep(8.0)
        inbound = [c for c in net.nodes[0]._peers._all if not c.outbound]
        assert len(inbound) == 2
        assert counter(net.nodes[0], f"links_refused.{reason}") > 0
        joined = [n for n in net.nodes[1:] if n.peers()]
        assert len(joined) >= 2

    play(scenario, 1, params=small(**limits), ips=one_group)


class _Mute:
    """A link handler that says what it is told to and hears nothing."""

    def __init__(self, link: Any) -> None:
        self.link = link
        self.lost = False

    def data_received(self, data: bytes) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...
    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True


@pytest.mark.parametrize(
    ("limits", "most"),
    [({}, 8), ({"half_open_per_group": 3}, 3), ({"half_open_total": 2}, 2)],
    ids=["default", "per group", "in all"],
)
def test_half_open_handshakes_are_bounded_and_end_in_time(limits: dict[str, int], most: int) -> None:
    async def scenario(net: Net) -> None:
        node = net.nodes[0]
        stranger = net.sim.transport("10.7.7.1")
        ends: list[_Mute] = []

        def accept(link: Any) -> _Mute:
            ends.append(_Mute(link))
            return ends[-1]

        for _ in range(10):
            await stranger.dial(parse_address(f"tcp/{net.seats[0].ip}:4733"), accept, 5.0)
            ends[-1].link.write(bytes(10))  # the beginning of a first flight, and no more
        await asyncio.sleep(1.0)
        assert sum(not e.lost for e in ends) == most
        assert counter(node, "links_refused.half_open") == 10 - most
        await asyncio.sleep(net.params.limits.handshake_timeout_s)
        assert all(e.lost for e in ends)
        assert counter(node, "handshakes_timed_out") == most
        newcomer = await net.add()
        await newcomer.bootstrapped(10.0)
        await stranger.close()

    play(scenario, 1, params=small(**limits))


def test_a_responder_that_stalls_costs_one_time_out() -> None:
    async def scenario(net: Net) -> None:
        (mute,) = await strangers(net, 1, lambda i: "10.7.7.1")
        transport = net.sim.transport("10.7.7.1")
        await transport.listen(parse_address("tcp/10.7.7.1:9"), _Mute)
        with pytest.raises(PeerTimeout):
            await net.nodes[0]._peers.request(mute, Ping())
        await transport.close()
        with pytest.raises(PeerUnreachable):
            await net.nodes[0]._peers.request(mute, Ping())
        assert len(net.nodes[0]._peers._all) == len(net.nodes[0]._peers.sessions)

    play(scenario, 2)


def test_address_groups_are_bounded_in_tables() -> None:
    async def scenario(net: Net) -> None:
        for node in net.nodes:
            groups = [p.group for p in node.peers()]
            assert len(groups) <= 4
        assert sum(counter(n, "table_refused.group_in_table") for n in net.nodes) > 0
        assert sum(counter(n, "table_refused.group_in_bucket") for n in net.nodes) > 0

    play(scenario, 12, params=small(table_per_group=4), ips=one_group)


def test_wide_groups_are_bounded_in_tables() -> None:
    async def scenario(net: Net) -> None:
        assert all(len(node.peers()) <= 3 for node in net.nodes)
        assert sum(counter(n, "table_refused.wide_group_in_table") for n in net.nodes) > 0

    def ip(i: int) -> str:
        return f"2001:db8:{i:x}::1"

    play(scenario, 8, params=small(table_per_wide_group=3), ips=ip)


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
