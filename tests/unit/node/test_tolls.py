"""Allowances: apart for each class, per node and per group, larger with a stake, told of when refused."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pqdht.crypto import puzzle
from pqdht.identity.stake import epoch_of, solved, stake_commit
from pqdht.node.connection import Connection
from pqdht.node.environment import Environment
from pqdht.node.guard import Guard
from pqdht.node.tolls import SHARES, Tolls, Work
from pqdht.testing.loop import run
from pqdht.trust.events import EventKind, SecurityEvent
from pqdht.wire.messages import MessageType
from tests.unit.node.parts import NOW, environment

SMALL = {"request_cost_per_s": 8.0, "request_cost_burst": 64.0}
READ, WRITE, EVIDENCE = MessageType.PING, MessageType.STORE, MessageType.REPORT


def caller(node: bytes, group: str = "192.0.2.0/24", stake: bytes | None = None) -> Connection:
    """As much of a connection as an allowance looks at."""
    peer = SimpleNamespace(node_id=node, contact=SimpleNamespace(stake=stake))
    return cast("Connection", SimpleNamespace(peer=peer, group=group))


async def tolls(limits: dict[str, Any] = SMALL, **settings: Any) -> tuple[Environment, Guard, Tolls]:
    env, _ = await environment(limits=limits, **settings)
    guard = Guard(env)
    return env, guard, Tolls(env, guard)


def served(t: Tolls, conn: Connection, kind: int, tries: int = 400) -> int:
    """How many of `tries` at once are."""
    return sum(not t.request(conn, kind, 0) for _ in range(tries))


def staked(env: Environment, node: bytes, bits: int) -> bytes:
    epoch = epoch_of(NOW)
    salt, commit = puzzle.salt(env.network_tag), stake_commit(node, epoch)
    for start in range(1 << 16):
        nonce = puzzle.search_range(env.suite.provider, salt, commit, bits, start, 1)
        if nonce is not None:
            made = solved(env.suite.provider, env.network_tag, node, epoch, nonce)
            if made.bits == bits:
                return made.to_wire()
    raise AssertionError("no nonce of exactly these bits")


def test_a_flood_of_one_class_takes_nothing_from_another() -> None:
    async def main() -> None:
        _, _, t = await tolls()
        a = caller(b"a" * 32)
        assert served(t, a, READ) == 64
        assert served(t, a, WRITE) == 64 * SHARES[Work.WRITE] / 4
        assert served(t, a, EVIDENCE) == 1  # a cost above the burst passes a full bucket, once
        assert t.link(a.group)
        await asyncio.sleep(1.0)
        assert served(t, a, READ) == 8

    run(main)


def test_what_a_node_is_refused_is_not_taken_from_its_group() -> None:
    async def main() -> None:
        _, _, t = await tolls(SMALL | {"group_cost_burst": 100.0, "group_cost_per_s": 8.0})
        assert served(t, caller(b"a" * 32), READ) == 64
        assert served(t, caller(b"b" * 32), READ) == 36  # the rest of the group's
        assert served(t, caller(b"c" * 32), READ) == 0
        assert served(t, caller(b"d" * 32, "198.51.100.0/24"), READ) == 64

    run(main)


def test_there_is_no_cap_on_ids_of_one_address() -> None:
    async def main() -> None:
        _, _, t = await tolls(SMALL | {"group_cost_burst": 1000.0})
        assert all(served(t, caller(i.to_bytes(32, "big")), READ, 1) for i in range(1000))

    run(main)


def test_handshakes_have_their_own_allowance_per_group() -> None:
    async def main() -> None:
        _, guard, t = await tolls(SMALL | {"group_cost_burst": 80.0, "group_cost_per_s": 8.0})
        assert sum(t.link("192.0.2.0/24") for _ in range(100)) == 10
        assert t.renewal("192.0.2.0/24") > 0
        assert t.link("198.51.100.0/24")
        assert served(t, caller(b"a" * 32), READ) == 64
        (event, *_) = guard.events.recent(kind=EventKind.RATE_LIMITED)
        assert (event.node, event.group, event.detail["work"]) == (None, "192.0.2.0/24", "handshake")

    run(main)


@pytest.mark.parametrize("bits", [4, 8])
def test_a_stake_makes_the_nodes_own_buckets_larger(bits: int) -> None:
    async def main() -> None:
        env, _, t = await tolls()
        node = b"s" * 32
        stake = staked(env, node, bits)
        extra = 2  # the Argon2id run is paid for
        assert served(t, caller(node, stake=stake), READ) == int(64 * (1 + bits / 20)) - extra
        false = stake[:13] + bytes(32)
        assert served(t, caller(b"f" * 32, stake=false), READ) == 64 - extra
        assert served(t, caller(b"g" * 32, stake=stake), READ) == 64 - extra  # another's
        assert served(t, caller(b"h" * 32, stake=b"junk"), READ) == 64

    run(main)


def test_a_stake_gives_its_address_group_no_more() -> None:
    async def main() -> None:
        env, _, t = await tolls(SMALL | {"group_cost_burst": 64.0, "group_cost_per_s": 8.0})
        node = b"s" * 32
        assert served(t, caller(node, stake=staked(env, node, 8)), READ) <= 64

    run(main)


@pytest.mark.parametrize("mode", ["enforce", "observe", "off"])
def test_modes_and_events(mode: str) -> None:
    async def main() -> None:
        _, guard, t = await tolls(defences={"rate_limits": mode})
        told: list[SecurityEvent] = []
        guard.subscribe(told.append)
        a = caller(b"a" * 32)
        assert served(t, a, READ) == (64 if mode == "enforce" else 400)
        if mode == "off":
            assert not told
            return
        assert 0 < len(told) <= 5  # of one node: the event log's bound
        assert guard.events.counts[EventKind.RATE_LIMITED] >= 300
        assert {(e.node, e.group, e.mode, e.detector) for e in told} == {
            (b"a" * 32, a.group, mode, "rate_limits")
        }
        assert {(e.detail["work"], e.detail["limit"]) for e in told} == {("read", "node")}

    run(main)
