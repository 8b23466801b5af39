"""Versions, the journal, receipts, and keeping alive."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import msgspec
import pytest

from pqdht.constants import TESTNET
from pqdht.envelope import request_hash, signed_bytes
from pqdht.errors import ConfigError, NotBootstrapped, QuorumNotReached, StorageError, WireCode
from pqdht.ids import NodeId, distance
from pqdht.kad.quorum import PutTally
from pqdht.node.connection import Connection
from pqdht.node.exchange import Reply
from pqdht.node.publication import RETRY_MOST_S, STATE, Placement, Publication, decode_journal
from pqdht.node.publisher import code_name
from pqdht.node.results import StoreReceipt
from pqdht.records import Content, Named
from pqdht.testing.loop import run
from pqdht.wire.codec import encode
from pqdht.wire.messages import Body, Error, Receipt, Store, Stored, WireRecord, decode_envelope
from tests.sim.harness import Disk, Net
from tests.unit.node.parts import environment, sign


def closest(net: Net, key: bytes, n: int) -> list[NodeId]:
    return sorted((node.node_id for node in net.nodes), key=lambda i: distance(i, key))[:n]


def test_timestamps_rise_and_a_new_version_lasts_as_long_as_the_old() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(1)
        (node,) = net.nodes
        first = (await node.put("x", b"1", ttl=10_000)).record
        second = (await node.put("x", b"2", ttl=100)).record  # at the same instant
        assert second.timestamp == first.timestamp + 1
        assert second.expires >= first.expires
        gone = (await node.delete("x")).record
        assert gone.is_tombstone
        assert gone.ttl == net.params.limits.ttl_max_s
        after = (await node.put("x", b"3", ttl=100)).record
        assert after.expires >= gone.expires - 1000
        net.sim.set_skew(net.seats[0].ip, -240_000)  # the clock is set back
        last = (await node.put("x", b"4")).record
        assert last.timestamp == after.timestamp + 1
        await net.close()

    run(main)


def test_the_journal_survives_a_crash_so_no_timestamp_is_used_twice() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(1)
        put = await net.nodes[0].put("x", b"1")
        await net.crash(0)
        net.sim.set_skew(net.seats[0].ip, -240_000)
        node = await net.restart(0)
        again = await node.put("x", b"2")
        assert again.record.timestamp == put.record.timestamp + 1
        await net.close()

    run(main)


def test_a_damaged_journal_entry_is_counted_and_left() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(1)
        await net.nodes[0].put("x", b"1")
        await net.nodes[0].put("y", b"1")
        (name, _) = net.seats[0].disk.list_states("publication/")
        await net.seats[0].disk.save_state(name, b"garbage")
        await net.crash(0)
        node = await net.restart(0)
        assert node.status()["counters"]["publications_damaged"] == 1
        assert len(node._publisher._own) == 1
        await net.close()

    run(main)


def test_a_journal_whose_signature_is_damaged_is_never_sent() -> None:
    """A STORE is signed too: what the disk forgot would be proof against us."""

    async def main() -> None:
        net = Net()
        await net.grow(2)
        await net.nodes[1].put("x", b"1")
        await net.crash(1)
        states = net.seats[1].disk._states
        (name,) = (n for n in states if n.startswith(STATE))
        journal = decode_journal(states[name])
        wire = journal.record
        bad = WireRecord(wire.tbs, bytes([wire.signature[0] ^ 1]) + wire.signature[1:])
        states[name] = encode(msgspec.structs.replace(journal, record=bad, confirmed=False))
        node = await net.restart(1)
        await node.bootstrapped(30.0)
        served = net.nodes[0].status()["counters"].get("stores_served", 0)
        await node._publisher.retry()
        await node._publisher.retry()
        counters = node.status()["counters"]
        assert (counters["publications_damaged"], counters["puts_failed"]) == (1, 1)
        assert net.nodes[0].status()["counters"].get("stores_served", 0) == served
        await net.close()

    run(main)


def test_what_could_not_be_journalled_was_never_published(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        node = net.nodes[0]
        first = await node.put("x", b"1")

        async def fail(self: Disk, name: str, blob: bytes) -> None:
            raise StorageError("no")

        with monkeypatch.context() as m:
            m.setattr(Disk, "save_state", fail)
            with pytest.raises(StorageError):
                await node.put("x", b"2")
        assert node._publisher.last(Named(node.owner_id, "x"), node.owner_id) == first.record
        assert (await net.nodes[1].get("x", owner=node.owner_id, ignore_local=True)).value == b"1"
        await net.close()

    run(main)


@pytest.mark.parametrize("ttl", [0, 59, 604_801])
def test_what_no_storer_would_take_is_not_signed(ttl: int) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(1)
        for where, value, lasting in (
            ("x", b"1", ttl),
            ("x", bytes(40_000), 60),
            (Content.of(b"a"), b"b", 60),
        ):
            with pytest.raises(ConfigError):
                await net.nodes[0].put(where, value, ttl=lasting)
        assert net.nodes[0].status()["records"] == 0
        await net.close()

    run(main)


def test_short_of_quorum_says_who_said_what_and_is_retried() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(5)
        for seat in net.seats[1:]:
            seat.disk._index._max_bytes = 0  # full disks
        with pytest.raises(QuorumNotReached) as e:
            await net.nodes[0].put("x", b"1")
        result = e.value.result
        assert (result.need, result.confirmed) == (3, 1)
        assert sorted(r.code for r in result.receipts) == ["OK"] + ["STORAGE_FULL"] * 4
        for seat in net.seats[1:]:
            seat.disk._index._max_bytes = 10**9
        await asyncio.sleep(30.0)
        found = await net.nodes[3].get("x", owner=net.nodes[0].owner_id, ignore_local=True)
        assert found.value == b"1"
        assert net.nodes[0].status()["counters"]["puts_retried"] >= 1
        await net.close()

    run(main)


def test_what_is_refused_again_and_again_is_tried_more_and_more_rarely() -> None:
    """Each try may search a whole region, if whoever refuses sits at the key."""

    async def main() -> None:
        net = Net()
        await net.grow(5)
        for seat in net.seats[1:]:
            seat.disk._index._max_bytes = 0
        node = net.nodes[0]
        with pytest.raises(QuorumNotReached):
            await node.put("x", b"1")
        await asyncio.sleep(3600.0)
        tries = node.status()["counters"]["puts_retried"]
        assert 12 <= tries <= 18  # of 240 rounds
        for seat in net.seats[1:]:
            seat.disk._index._max_bytes = 10**9
        await asyncio.sleep(RETRY_MOST_S + 30.0)
        assert node.status()["counters"]["puts_retried"] == tries + 1
        (publication,) = node._publisher._own.values()
        assert (publication.confirmed, publication.tries) == (True, 0)
        await net.close()

    run(main)


def test_who_knows_nobody_but_should_does_not_pretend() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(2)
        await net.crash(0)
        lonely = await net.add()
        with pytest.raises(NotBootstrapped):
            await lonely.put("x", b"1")
        await net.close()

    run(main)


def test_records_are_put_again_and_announcements_renewed() -> None:
    async def main() -> None:
        net = Net(republish_interval_s=600.0, announce_ttl_s=1200)
        await net.grow(4)
        node = net.nodes[1]
        await node.put("x", b"1", ttl=3000)
        announced = await node.announce(["203.0.113.5:51820"])
        for disk in (s.disk for s in net.seats):
            for key in disk.keys():
                disk._index.remove(key, node.owner_id)
        await asyncio.sleep(1000.0)
        assert (await net.nodes[3].get("x", owner=node.owner_id, ignore_local=True)).value == b"1"
        await asyncio.sleep(1500.0)  # longer than the announcement was to live
        peer = await net.nodes[3].find_peer(node.owner_id, ignore_local=True)
        assert peer.endpoints == ("203.0.113.5:51820",)
        assert peer.result.record is not None
        assert peer.result.record.timestamp > announced.record.timestamp
        await asyncio.sleep(1500.0)
        assert len(net.nodes[3]._keeper.find(Named(node.owner_id, "x").key())) == 0  # not renewed: it ends
        await net.close()

    run(main)


@pytest.mark.parametrize(
    ("kind", "code"), [("error", "UNREACHABLE"), ("short", "TOO_SHORT"), ("other", "UNREACHABLE")]
)
def test_what_promises_nothing_is_no_receipt(kind: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(4)

        def cheat(conn: Connection, body: Body, reply: Reply) -> None:
            assert isinstance(body, Store)
            record = net.nodes[0].env.records.parse(body.records[0])
            skew = net.params.limits.clock_skew_ms
            short = Receipt(record.record_id, int(WireCode.OK), record.expires - skew - 1)
            other = Receipt(bytes(32), int(WireCode.OK), record.expires)
            reply(
                Error(int(WireCode.OK))
                if kind == "error"
                else Stored((short if kind == "short" else other,), 1)
            )

        for node in net.nodes[1:]:
            honest = node._handlers.serve
            monkeypatch.setattr(
                node._handlers,
                "serve",
                lambda c, b, r, honest=honest: cheat(c, b, r) if isinstance(b, Store) else honest(c, b, r),
            )
        with pytest.raises(QuorumNotReached) as e:
            await net.nodes[0].put("x", b"1")
        assert (e.value.result.confirmed, e.value.result.need) == (1, 3)
        assert sorted(r.code for r in e.value.result.receipts) == sorted(["OK", *[code] * 3])
        await net.close()

    run(main)


def test_receipts_come_with_what_proves_them() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(4)
        node = net.nodes[0]
        result = await node.put("x", b"1")
        others = [r for r in result.receipts if r.node != node.node_id]
        assert others
        for receipt in others:
            answer, asked = decode_envelope(receipt.envelope), decode_envelope(receipt.request)
            assert (answer.sender, asked.receiver) == (receipt.node, receipt.node)
            assert answer.request == request_hash(signed_bytes(net.tag, asked))
        assert "envelope" not in repr(others[0])
        assert all("envelope" not in r for r in result.as_dict()["receipts"])
        await net.close()

    run(main)


def test_the_quorum_does_not_come_from_one_address_group() -> None:
    """Nine nodes of one /24 closest to the key, and six in groups of their own: two of the nine count."""

    async def main() -> None:
        net = Net(params=replace(TESTNET, k=5), ips=lambda i: f"10.6.6.{i}" if i > 6 else f"10.0.{i}.1")
        await net.grow(16)
        evil = {n.node_id for n in net.nodes[7:]}
        node = net.nodes[1]
        name = next(
            str(i)
            for i in range(10_000)
            if len(evil & set(closest(net, Named(node.owner_id, str(i)).key(), 5))) >= 4
        )
        result = await node.put(name, b"1")
        counting = [r for r in result.receipts if r.counts]
        assert sum(r.node in evil for r in counting) <= 2
        found = await net.nodes[2].get(name, owner=node.owner_id, ignore_local=True)
        assert len(set(found.dissent) & evil) <= 2
        assert found.value == b"1"
        await net.close()

    run(main)


def test_one_record_that_fails_does_not_hold_up_those_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        node = net.nodes[0]
        publisher = node._publisher
        for name in ("a", "b"):
            await node.put(name, b"1")
        placed: list[bytes] = []

        async def place(publication: Publication) -> None:
            placed.append(publication.record.key)
            raise error

        monkeypatch.setattr(publisher, "place", place)
        for publication in publisher._own.values():
            publication.confirmed = False
        error: Exception = StorageError("no")
        await publisher.retry()
        assert len(placed) == 2
        assert node.status()["counters"]["puts_failed"] == 2
        for publication in publisher._own.values():
            publication.confirmed, publication.placed_at = True, 0
        await publisher.republish()
        assert len(placed) == 4
        error = NotBootstrapped("cut off")
        with pytest.raises(NotBootstrapped):
            await publisher.republish()
        assert len(placed) == 5  # it befalls all: the round is over
        await net.close()

    run(main)


def test_a_placement_counts_receipts_of_the_closest_only() -> None:
    async def main() -> None:
        env, _ = await environment()
        a, b, c = (bytes([i]) * 32 for i in range(3))
        placement = Placement(sign(env), PutTally([(a, "1"), (b, "2")], 20, True), waiting=3)
        placement.add(StoreReceipt(NodeId(c), "3", "OK", 1, False))
        placement.add(StoreReceipt(NodeId(a), "1", "OK", 1, True))
        assert not placement.reached.is_set()
        placement.add(StoreReceipt(NodeId(b), "2", "QUOTA", 0, True))
        assert placement.reached.is_set()  # everybody has spoken
        assert not placement.tally.reached
        assert code_name(0) == "OK"
        assert code_name(999) == "CODE_999"

    run(main)
