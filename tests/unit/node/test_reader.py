"""GET: verdicts, repair, what is never believed."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pqdht.constants import TESTNET
from pqdht.errors import NotBootstrapped, NotConfirmed, NotFound, WireCode
from pqdht.identity.keys import OwnerIdentity
from pqdht.ids import NodeId, OwnerId, distance
from pqdht.kad.lookup import Candidate
from pqdht.kad.quorum import Verdict
from pqdht.node.connection import Connection
from pqdht.node.dht import SecureDHT
from pqdht.node.exchange import Reply
from pqdht.node.handlers import to_wire
from pqdht.node.hunt import Hunt
from pqdht.node.identities import load_or_make_node
from pqdht.records import Content, Named, Record, Topic
from pqdht.testing.adversaries import Forger, Gang, Staler
from pqdht.testing.loop import run
from pqdht.wire.messages import Body, FindValue, Receipt, Store, Stored, Values, WireRecord
from tests.sim.harness import Net, counter


async def plant(net: Net, record: Record, *at: int) -> None:
    """Put a record into some nodes' stores, as if it had been stored there."""
    for i in at:
        (receipt,) = await net.nodes[i]._keeper.keep([record.wire], "planted", replica=True)
        assert receipt.code == 0


def refuse(node: SecureDHT, code: WireCode = WireCode.OUTDATED) -> None:
    """Answer every STORE with a code and no promise; the rest as before."""
    liar = node._handlers

    class Refusing:
        def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
            if isinstance(body, Store):
                ids = [node.env.records.parse(w).record_id for w in body.records]
                reply(Stored(tuple(Receipt(i, int(code), 0) for i in ids), 0))
            else:
                liar.serve(conn, body, reply)

        async def close(self) -> None:
            await liar.close()

    node._handlers = Refusing()  # type: ignore[assignment]


def closest(net: Net, record: Record) -> list[int]:
    return sorted(range(len(net.nodes)), key=lambda i: distance(net.seats[i].identity.node_id, record.key))


def test_one_holder_among_empties_is_repaired_first() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(6)
        owner = net.seats[0].owner
        record = net.sign(owner, Named(owner.owner_id, "x"), b"1", timestamp=net.clock())
        await plant(net, record, 2)
        result = await net.nodes[5].get("x", owner=owner.owner_id, ignore_local=True)
        assert (result.verdict, result.repaired) == (Verdict.CONFIRMED, 4)
        assert sum(bool(n._keeper.find(record.key)) for n in net.nodes) == 5
        assert sum(e.holds == record.record_id for e in result.evidence) == 1
        await net.close()

    run(main)


def test_liars_who_refuse_the_newest_leave_it_contested_and_never_win() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(6)
        owner, now = net.seats[0].owner, net.clock()
        at = Named(owner.owner_id, "x")
        old = net.sign(owner, at, b"old", timestamp=now)
        new = net.sign(owner, at, b"new", timestamp=now + 1)
        await plant(net, old, 0, 1, 2, 3, 4)
        await plant(net, new, 4)
        for i in range(4):
            Staler(net.nodes[i], Gang(history=lambda key: [old.wire, new.wire]))
        how = {"owner": owner.owner_id, "ignore_local": True, "consistency": "all"}
        result = await net.nodes[5].get("x", **how)  # type: ignore[arg-type]
        assert (result.value, result.repaired) == (b"new", 4)  # they sign that they took it
        for i in range(4):
            refuse(net.nodes[i])
        with pytest.raises(NotConfirmed) as e:
            await net.nodes[5].get("x", **how)  # type: ignore[arg-type]
        assert (e.value.result.value, e.value.result.confirmations) == (b"new", 1)
        await net.close()

    run(main)


def test_a_newer_version_seen_only_outside_the_closest_wins_after_repair() -> None:
    async def main() -> None:
        net = Net(params=replace(TESTNET, k=4))
        await net.grow(14)
        owner, now = net.seats[0].owner, net.clock()
        at = Named(owner.owner_id, "x")
        old = net.sign(owner, at, b"old", timestamp=now)
        new = net.sign(owner, at, b"new", timestamp=now + 1)
        order = closest(net, old)
        await plant(net, old, *order[:5])
        await plant(net, new, order[7])
        reader = net.nodes[order[-1]]
        result = await reader.get("x", owner=owner.owner_id, ignore_local=True, consistency="all")
        assert result.value == b"new"
        assert result.verdict is Verdict.CONFIRMED
        assert result.repaired >= 3
        await net.close()

    run(main)


def test_equivocation_is_contested_and_both_are_never_mixed() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(6)
        owner, now = net.seats[0].owner, net.clock()
        twins = [net.sign(owner, Named(owner.owner_id, "x"), v, timestamp=now) for v in (b"a", b"b")]
        await plant(net, twins[0], 0, 1, 2)
        await plant(net, twins[1], 3, 4)
        with pytest.raises(NotConfirmed) as e:
            await net.nodes[5].get("x", owner=owner.owner_id, ignore_local=True, consistency="all")
        assert e.value.result.verdict is Verdict.CONTESTED
        assert e.value.result.value == b"a"
        assert e.value.result.repaired == 0
        await net.close()

    run(main)


def test_forgeries_are_disbelieved_and_named() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(5)
        await net.nodes[0].put("x", b"1")
        owner = net.nodes[0].owner_id
        history = [r for n in net.nodes for r in n._keeper.find(Named(owner, "x").key())][:1]
        forgers = []
        for node in net.nodes[:4]:
            forgers.append(Forger(node, Gang(history=lambda key: [to_wire(r) for r in history])))
        with pytest.raises(NotFound) as e:
            await net.nodes[4].get("x", owner=owner, ignore_local=True)
        assert e.value.result.verdict is Verdict.INVALID_ONLY
        assert net.nodes[4].status()["counters"]["records_disbelieved.BAD_RECORD"] >= 4
        forgers[0].repent()
        with pytest.raises(NotFound):
            await net.nodes[4].get("y", owner=owner)
        await net.close()

    run(main)


def test_a_rollback_is_noticed_and_contested() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(6)
        owner, now = net.seats[0].owner, net.clock()
        at = Named(owner.owner_id, "x")
        old, new = (net.sign(owner, at, v, timestamp=t) for v, t in ((b"old", now), (b"new", now + 1)))
        await plant(net, new, 0, 1, 2, 3, 4)
        reader = net.nodes[5]
        assert (await reader.get("x", owner=owner.owner_id, ignore_local=True)).value == b"new"
        for i in range(5):
            Staler(net.nodes[i], Gang(history=lambda key: [old.wire]))
        with pytest.raises(NotConfirmed) as e:
            await reader.get("x", owner=owner.owner_id, ignore_local=True)
        assert e.value.result.rollback_from == now + 1
        assert reader.status()["counters"]["rollbacks_seen"] == 1
        await net.close()

    run(main)


def test_content_is_its_own_confirmation() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(6)
        at = Content.of(b"hello")
        record = net.sign(net.seats[0].owner, at, b"hello", timestamp=net.clock())
        await plant(net, record, 3)
        result = await net.nodes[5].get(at, ignore_local=True)
        assert (result.value, result.verdict, result.confirmations) == (b"hello", Verdict.CONFIRMED, 1)
        await net.close()

    run(main)


def test_topics_give_each_owners_value_with_its_own_verdict() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(7)
        for node in net.nodes[:3]:
            await node.put(Topic("t"), node.node_id.hex().encode())
        await net.nodes[1].delete(Topic("t"))
        found = await net.nodes[5].get_topic("t", ignore_local=True)
        owners = [net.nodes[0].owner_id, net.nodes[2].owner_id]
        assert [r.owner for r in found] == sorted(owners)
        assert all(r.verdict is Verdict.CONFIRMED for r in found)
        one = await net.nodes[5].get(Topic("t"), owner=owners[0], ignore_local=True)
        assert one.value == net.nodes[0].node_id.hex().encode()
        assert await net.nodes[4].get_topic("nobody") == []
        await net.close()

    run(main)


def test_one_node_id_does_not_fill_a_topic() -> None:
    """A storer that hands out many owners' records of one node: readers list one, and spread one."""

    async def main() -> None:
        net = Net()
        await net.grow(6)
        await net.nodes[1].put(Topic("t"), b"honest")
        liar, topic = net.nodes[0], Topic("t")
        flood = [
            net.sign(
                OwnerIdentity.generate(net.seats[0].suite),
                topic,
                b"%d" % i,
                timestamp=net.clock() - 1000 + i,
                node=net.seats[0].identity,
            )
            for i in range(8)
        ]

        def values(conn: Connection, body: FindValue) -> Values:
            first = body.cursor is None
            page = tuple(r.wire for r in (flood[:4] if first else flood[4:]))
            return Values(body.key, page, (), (), bytes(32) if first else None)

        liar._handlers._find_value = values  # type: ignore[method-assign]
        before = sum(counter(n, "stores_served") for n in net.nodes)
        found = await net.nodes[5].get_topic("t", ignore_local=True)
        assert sorted(r.value or b"" for r in found) == [b"7", b"honest"]
        assert sum(counter(n, "stores_served") for n in net.nodes) - before <= len(net.nodes)
        await net.close()

    run(main)


def test_a_forged_record_on_a_further_page_is_held_against_its_sender() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(6)
        await net.nodes[1].put(Topic("t"), b"honest")
        liar, reader = net.nodes[0], net.nodes[5]
        seat, now = net.seats[0], net.clock()
        record = net.sign(seat.owner, Topic("t"), b"1", timestamp=now, node=seat.identity)
        forged = WireRecord(record.wire.tbs, bytes(len(record.wire.signature)))

        def values(conn: Connection, body: FindValue) -> Values:
            is_first = body.cursor is None
            return Values(body.key, () if is_first else (forged,), (), (), bytes(32) if is_first else None)

        liar._handlers._find_value = values  # type: ignore[method-assign]
        await reader.get_topic("t", ignore_local=True)
        assert reader.reputation(liar.node_id) <= 0.5
        assert counter(reader, "proofs_taken") == 1
        await net.close()

    run(main)


def test_a_receipt_that_promises_too_little_repairs_nothing() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(6)
        owner = net.seats[0].owner
        record = net.sign(owner, Named(owner.owner_id, "x"), b"1", timestamp=net.clock())
        await plant(net, record, 0)
        for i in range(1, 5):
            refuse(net.nodes[i], WireCode.OK)  # and expires at 0
        with pytest.raises(NotConfirmed) as e:
            await net.nodes[5].get("x", owner=owner.owner_id, ignore_local=True)
        assert e.value.result.repaired == 0
        await net.close()

    run(main)


def test_one_address_group_cannot_confirm_an_old_version_alone() -> None:
    """Eight of one /24 next to the key hold the old version, five of others the new one."""

    async def main() -> None:
        net = Net(params=replace(TESTNET, k=6), ips=lambda i: f"10.6.6.{i}" if i >= 6 else f"10.0.{i}.1")
        await net.grow(14)
        owner, now = net.seats[0].owner, net.clock()
        evil = {n.node_id for n in net.nodes[6:]}
        for i in range(10_000):
            at = Named(owner.owner_id, str(i))
            near = sorted((n.node_id for n in net.nodes), key=lambda n, at=at: distance(n, at.key()))  # type: ignore[misc]
            if evil >= set(near[:5]):
                break
        old = net.sign(owner, at, b"old", timestamp=now)
        new = net.sign(owner, at, b"new", timestamp=now + 1)
        await plant(net, old, *range(6, 14))
        await plant(net, new, *range(5))
        for i in range(6, 14):
            Staler(net.nodes[i], Gang(history=lambda key: [old.wire, new.wire]))
        result = await net.nodes[5].get(at, owner=owner.owner_id, ignore_local=True, consistency="all")
        assert (result.value, result.verdict, result.repaired) == (b"new", Verdict.CONFIRMED, 0)
        assert (result.confirmations, result.holders) == (4, 5)  # the eight are one unit
        await net.close()

    run(main)


def test_who_is_still_to_answer_is_looked_for_behind_a_full_group() -> None:
    """The k closest known are of one network: an early end must wait for others farther out."""

    async def main() -> None:
        net = Net(params=replace(TESTNET, k=4))
        await net.grow(1)
        reader, key = net.nodes[0]._reader, bytes(32)

        def candidates(*groups: str) -> list[Candidate[None]]:
            return [Candidate(bytes([i + 1]) * 32, None, g) for i, g in enumerate(groups)]

        class Known:
            def __init__(self, *groups: str) -> None:
                self.lookup, self.all = self, candidates(*groups)

            def closest_known(self, n: int) -> list[Candidate[None]]:
                return self.all[:n]

        hunt = Hunt(Named(OwnerId(key), "x"), None, "majority", 0.0)
        for groups, expected in (
            (["e"] * 9 + ["a", "b", "c"], 12),
            (["a", "b", "c", "d", "e"], 4),
            (["e"] * 5, 5),
        ):
            hunt.walk = Known(*groups)  # type: ignore[assignment]
            assert len(reader._pending(hunt, {})) == expected
        hunt.groups[NodeId(bytes([1]) * 32)] = "z"  # its real group, not the one it was named with
        hunt.walk = Known("a", "e", "e", "e", "b")  # type: ignore[assignment]
        assert [m.group for m in reader._pending(hunt, {})] == ["e", "e", "e", "b"]
        await net.close()

    run(main)


def test_the_own_copy_is_left_out_when_asked_and_never_enough() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        owner = OwnerIdentity.generate(net.seats[0].suite)
        record = net.sign(owner, Named(owner.owner_id, "x"), b"1", timestamp=net.clock())
        await plant(net, record, 0)
        with pytest.raises(NotFound):
            await net.nodes[0].get("x", owner=owner.owner_id, ignore_local=True)
        for i in (1, 2):
            net.sim.unreachable(net.seats[i].ip)
        with pytest.raises(NotBootstrapped) as e:  # cut off: the own copy proves nothing
            await net.nodes[1].get("x", owner=owner.owner_id, timeout=20.0)
        assert e.value.result.verdict is Verdict.NOT_BOOTSTRAPPED
        await net.close()

    run(main)


def test_a_get_ends_at_its_time_limit() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(4)
        await net.nodes[0].put("x", b"1")
        for seat in net.seats[:3]:
            net.sim.unreachable(seat.ip)
        at = asyncio.get_running_loop().time()
        with pytest.raises(NotBootstrapped) as e:
            await net.nodes[3].get("x", owner=net.nodes[0].owner_id, ignore_local=True, timeout=0.3)
        assert asyncio.get_running_loop().time() - at == pytest.approx(0.3)
        assert e.value.result.verdict is Verdict.TIMED_OUT
        await net.close()

    run(main)


def test_what_expired_is_not_found() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        await net.nodes[0].put("x", b"1", ttl=60)
        await asyncio.sleep(61.0)
        with pytest.raises(NotFound):
            await net.nodes[0].get("x")
        await net.close()

    run(main)


def test_a_get_that_nobody_answered_is_begun_once_more() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(5)
        await net.nodes[1].put("x", b"1")
        reader, owner = net.nodes[4], net.nodes[1].owner_id

        def cut(on: bool) -> None:
            for seat in net.seats[:4]:
                net.sim.unreachable(seat.ip, on)

        cut(True)
        asyncio.get_running_loop().call_later(1.05, cut, False)
        got = await reader.get("x", owner=owner, ignore_local=True)
        assert got.value == b"1"
        assert counter(reader, "lookups_repeated") == 1
        cut(True)
        with pytest.raises(NotBootstrapped):
            await reader.get("x", owner=owner, ignore_local=True)
        assert counter(reader, "lookups_repeated") == 2
        cut(False)
        await net.close()

    run(main)


def test_crowded_topics_read_at_once_are_read_whole() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(4)
        topics = [Topic(f"t{i}") for i in range(3)]
        for topic in topics:
            for i in range(9):  # 48 KiB hold fewer
                owner = OwnerIdentity.generate(net.seats[0].suite)
                node = await load_or_make_node(net.nodes[0].config, owner.suite, net.tag, net.clock())
                value = bytes(net.params.limits.max_value - i)
                await plant(net, net.sign(owner, topic, value, timestamp=net.clock(), node=node), 1, 2, 3)
        found = await asyncio.gather(*(net.nodes[0].get_topic(t.name, ignore_local=True) for t in topics))
        assert [len(f) for f in found] == [9, 9, 9]
        await net.close()

    run(main)


def test_who_claims_a_record_and_stalls_when_asked_for_it_holds_up_nobody() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(8)
        loop = asyncio.get_running_loop()
        honest = net.nodes[3]._handlers

        class Stalling:
            def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
                if isinstance(body, FindValue) and body.closer_than is None:
                    reply(Values(body.key, (), (bytes(32),), ()))
                elif not isinstance(body, FindValue):
                    honest.serve(conn, body, reply)

            async def close(self) -> None:
                await honest.close()

        reader, begun = net.nodes[1], loop.time()
        with pytest.raises(NotFound):
            await reader.get("absent", ignore_local=True)
        usual_s, begun = loop.time() - begun, loop.time()
        net.nodes[3]._handlers = Stalling()  # type: ignore[assignment]
        with pytest.raises(NotFound):
            await reader.get("absent", ignore_local=True)
        limit_s = reader._peers.patience(net.nodes[3].node_id)
        # Once after each of the two walks.
        assert loop.time() - begun <= 2 * (usual_s + limit_s), (loop.time() - begun, usual_s, limit_s)
        await net.close()

    run(main)
