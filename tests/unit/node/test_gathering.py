"""What goes to one peer in one turn travels as one message, and each asker gets its own part."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

import pytest

from pqdht.constants import KNOWN_PREFIX, MAX_FINDS, MAX_HAVE, MAX_KNOWN
from pqdht.errors import PeerError, RemoteError, WireCode
from pqdht.identity.keys import OwnerIdentity
from pqdht.node.connection import Connection
from pqdht.node.exchange import Reply
from pqdht.node.gathering import Gathering
from pqdht.records import Named
from pqdht.testing.loop import run
from pqdht.wire.messages import Body, Error, FindValue, FindValues, Ping, Store, Stored, Values
from tests.sim.harness import Net, contact, counter


async def at_once(*work: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*work, return_exceptions=True)


def test_questions_of_one_turn_are_one_message() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        gathering, to = Gathering(net.nodes[0]._peers), contact(net, 0, 1)
        before = counter(net.nodes[1], "requests_served")
        keys = [bytes([i]) * 32 for i in range(MAX_FINDS + 3)]
        answers = await at_once(*(gathering.request(to, FindValue(key)) for key in keys))
        assert counter(net.nodes[1], "requests_served") - before == 2
        assert [a.body.key for a in answers] == keys
        assert all(isinstance(a.body, Values) for a in answers)
        assert len({a.envelope for a in answers}) == 2
        assert counter(net.nodes[0], "questions_gathered") >= MAX_FINDS + 3
        one = await gathering.request(to, FindValue(keys[0]))
        assert isinstance(one.body, Values)
        assert counter(net.nodes[1], "requests_served") - before == 3
        assert isinstance((await gathering.request(to, Ping())).envelope, bytes)
        await net.close()

    run(main)


def test_stores_are_gathered_and_every_record_has_its_receipt() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        gathering, to = Gathering(net.nodes[0]._peers), contact(net, 0, 1)
        owner = OwnerIdentity.generate(net.seats[0].suite)
        records = [
            net.sign(owner, Named(owner.owner_id, str(i)), b"v", timestamp=net.clock()) for i in range(9)
        ]
        before = counter(net.nodes[1], "stores_served")
        answers = await at_once(*(gathering.request(to, Store((r.wire,))) for r in records))
        assert counter(net.nodes[1], "stores_served") - before == 2  # 48 KiB hold six of them
        for record, answer in zip(records, answers, strict=True):
            assert isinstance(answer.body, Stored)
            assert (record.record_id, 0) in [(r.record_id, r.code) for r in answer.body.receipts]
        await net.close()

    run(main)


@pytest.mark.parametrize("code", [WireCode.UNSUPPORTED, WireCode.BUSY])
def test_a_peer_that_does_not_know_it_is_asked_one_by_one_and_one_that_refuses_is_not(code: WireCode) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        handlers = net.nodes[1]._handlers
        serve = handlers.serve

        def older(conn: Connection, body: Body, reply: Reply) -> None:
            if isinstance(body, FindValues):
                reply(Error(int(code)))
            else:
                serve(conn, body, reply)

        handlers.serve = older  # type: ignore[method-assign]
        gathering, to = Gathering(net.nodes[0]._peers), contact(net, 0, 1)
        before = counter(net.nodes[1], "requests_served")
        outcomes = await at_once(*(gathering.request(to, FindValue(bytes([i]) * 32)) for i in range(5)))
        asked = counter(net.nodes[1], "requests_served") - before
        if code is WireCode.UNSUPPORTED:
            assert asked == 6
            assert [o.body.key[0] for o in outcomes] == list(range(5))
        else:
            assert asked == 1
            assert all(isinstance(o, PeerError) and o.code == code for o in outcomes)
        await net.close()

    run(main)


def test_a_lost_session_fails_all_and_a_cancelled_leader_leaves_the_others_their_answers() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        peers, to = net.nodes[0]._peers, contact(net, 0, 1)
        gathering = Gathering(peers)
        tasks = [asyncio.ensure_future(gathering.request(to, FindValue(bytes([i]) * 32))) for i in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        outcomes = await at_once(*(asyncio.shield(t) for t in tasks[1:]))
        assert [o.body.key[0] for o in outcomes] == [1, 2]
        net.sim.unreachable(net.seats[1].ip)
        outcomes = await at_once(*(gathering.request(to, FindValue(bytes([i]) * 32)) for i in range(3)))
        assert all(isinstance(o, RemoteError) for o in outcomes)
        net.sim.unreachable(net.seats[1].ip, False)
        await net.close()

    run(main)


def test_questions_that_name_many_records_are_spread_over_messages() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        gathering, to = Gathering(net.nodes[0]._peers), contact(net, 0, 1)
        have = tuple(bytes([i]) * 32 for i in range(MAX_HAVE))
        known = bytes(KNOWN_PREFIX * MAX_KNOWN)
        keys = [bytes([i]) * 32 for i in range(MAX_FINDS)]
        answers = await at_once(*(gathering.request(to, FindValue(k, k, have, known=known)) for k in keys))
        assert [a.body.key for a in answers] == keys
        assert len({a.envelope for a in answers}) == 2
        await net.close()

    run(main)
