"""Every limit of a receiver, hit by real nodes: a typed answer, and what was there before stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pqdht.constants import TESTNET, ParameterSet
from pqdht.errors import (
    DialHeldBack,
    PeerError,
    PeerTimeout,
    PeerUnreachable,
    QuorumNotReached,
    WireCode,
)
from pqdht.node.exchange import BUSY_MS
from pqdht.records import Named, Topic
from pqdht.wire.address import parse_address
from pqdht.wire.messages import Ping
from tests.sim.harness import Net, codes, contact, counter, one_group, play, strangers, with_limits


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

        async def ping_on() -> None:
            for _ in range(100):
                await a._peers.request(to, Ping())

        with pytest.raises(PeerError) as e:
            await ping_on()
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
        assert busy  # and what was not read meanwhile is served afterwards: nothing is lost
        assert outcomes.count(["OK"]) == len(records) - len(busy) >= 3
        assert {(o.code, o.retry_after) for o in busy} == {(WireCode.BUSY, BUSY_MS)}

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


def test_in_a_full_group_a_session_that_is_idle_makes_room() -> None:
    """A caller may keep its session for long, but not against others of its own group."""

    async def scenario(net: Net) -> None:
        node = net.nodes[0]
        for _ in range(2):
            await (await net.add(listen=())).bootstrapped(10.0)
        await asyncio.sleep(200.0)
        before = [c for c in node._peers._all if not c.outbound]
        assert len(before) == 2
        await (await net.add(listen=())).bootstrapped(10.0)
        await asyncio.sleep(1.0)  # it takes its place with its first frame
        assert sum(c.is_closed for c in before) == 1
        assert len([c for c in node._peers._all if not c.outbound]) == 2

    play(scenario, 1, params=small(sessions_per_group=2), ips=one_group)


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
        assert [e.lost for e in ends] == [True] * (10 - most) + [False] * most, "the oldest make room"
        assert counter(node, "half_open_evicted") == 10 - most
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
