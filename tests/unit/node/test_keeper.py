"""Which record is kept, and every code a storer can answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from itertools import permutations
from typing import Any

import msgspec
import pytest

from pqdht.constants import DAY_MS, MINUTE_MS
from pqdht.crypto import puzzle
from pqdht.crypto.labels import RECORD
from pqdht.errors import StorageError, StorageFull, WireCode
from pqdht.identity.keys import OwnerIdentity
from pqdht.identity.stake import epoch_of, solved, stake_commit
from pqdht.node.environment import Environment
from pqdht.node.keeper import NO_OWNER, Keeper, promises
from pqdht.records import TOMBSTONE, Content, Named, Record, Topic, topic_rank
from pqdht.records.record import Tbs, _decode_tbs
from pqdht.storage.memory import MemoryStore
from pqdht.testing.loop import run
from pqdht.wire.codec import encode
from pqdht.wire.messages import Receipt, WireRecord
from tests.unit.node.parts import NOW, SlowStore, environment, identity, sign

GROUP = "203.0.113.0/24"


def retold(record: Record, **changes: Any) -> WireRecord:
    """The record with other fields under the old signature."""
    tbs: Tbs = _decode_tbs(record.wire.tbs)
    return WireRecord(encode(msgspec.structs.replace(tbs, **changes)), record.wire.signature)


async def codes(
    keeper: Keeper, *records: Record | WireRecord, group: str = GROUP, replica: bool = False
) -> list[str]:
    wires = [r.wire if isinstance(r, Record) else r for r in records]
    return [WireCode(r.code).name for r in await keeper.keep(wires, group, replica=replica)]


def held(keeper: Keeper, record: Record) -> list[bytes]:
    owner = NO_OWNER if isinstance(record.locator, Content) else record.owner_id
    return [r.record_id for r in keeper.find(record.key, owner)]


def test_a_record_is_kept_as_it_came_and_its_receipt_says_until_when() -> None:
    async def main() -> None:
        env, _ = await environment()
        keeper = Keeper(env)
        record = sign(env)
        (receipt,) = await keeper.keep([record.wire], GROUP)
        assert (receipt.record_id, receipt.code, receipt.expires) == (record.record_id, 0, record.expires)
        (kept,) = keeper.find(record.key)
        assert (kept.tbs, kept.signature, kept.group) == (record.wire.tbs, record.wire.signature, GROUP)
        assert keeper.keys() == [record.key]
        assert env.store.floor(record.key, record.owner_id) == NOW

    run(main)


def test_versions_follow_their_timestamps() -> None:
    async def main() -> None:
        env, clock = await environment()
        keeper = Keeper(env)
        first, second = sign(env, b"1"), sign(env, b"2", timestamp=NOW + 1)
        assert await codes(keeper, second, first, second) == ["OK", "OUTDATED", "OK"]
        assert held(keeper, second) == [second.record_id]
        clock.now += 2 * 3_600_000  # both are gone, and the floor is not
        third = sign(env, b"3", timestamp=NOW, ttl=90_000)
        assert keeper.find(second.key) == []
        assert await codes(keeper, third) == ["OUTDATED"]
        clock.now = NOW + env.params.limits.floor_ms + 1
        env.store.expire(clock.now)
        late = sign(env, b"4", timestamp=NOW, ttl=env.params.limits.ttl_max_s, params=env.params)
        assert await codes(keeper, late) == ["EXPIRED"]

    run(main)


def test_of_two_records_with_one_timestamp_the_smaller_id_stays() -> None:
    async def main() -> None:
        env, _ = await environment()
        small, large = sorted((sign(env, b"1"), sign(env, b"2")), key=lambda r: r.record_id)
        keeper = Keeper(env)
        assert await codes(keeper, small, large) == ["OK", "EQUIVOCATION"]
        other, _ = await environment()
        assert await codes(Keeper(other), large, small) == ["OK", "OK"]
        assert held(keeper, small) == [small.record_id]
        assert env.counters["equivocations_seen"] == other.counters["equivocations_seen"] == 1

    run(main)


def test_compare_and_set_is_for_new_writes_where_something_is_held() -> None:
    async def main() -> None:
        env, _ = await environment()
        keeper = Keeper(env)
        first = sign(env, b"1", previous=bytes(32))
        wrong = sign(env, b"2", timestamp=NOW + 1, previous=bytes(32))
        right = sign(env, b"3", timestamp=NOW + 2, previous=first.record_id)
        assert await codes(keeper, first, wrong, right) == ["OK", "CAS_MISMATCH", "OK"]
        replica = sign(env, b"4", timestamp=NOW + 3, previous=bytes(32))
        assert await codes(keeper, replica, replica=True) == ["OK"]

    run(main)


def test_what_is_not_a_good_record_is_refused_by_name() -> None:
    async def main() -> None:
        env, _ = await environment()
        keeper = Keeper(env)
        good, limits = sign(env), env.params.limits
        loose = replace(env.params, limits=replace(limits, ttl_min_s=1, ttl_max_s=10**8, max_value=50_000))
        cases = {
            "MALFORMED": [WireRecord(b"", b""), WireRecord(good.wire.tbs + b"\0", good.wire.signature)],
            "UNSUPPORTED": [retold(good, version=2), retold(good, kind=4), retold(good, kind=200)],
            "TOO_LARGE": [sign(env, bytes(limits.max_value + 1), params=loose).wire],
            "EXPIRED": [
                sign(env, timestamp=NOW - 61_000, ttl=60).wire,
                sign(env, timestamp=NOW - 60_000, ttl=60).wire,
            ],
            "CLOCK_SKEW": [sign(env, timestamp=NOW + limits.clock_skew_ms + 1).wire],
            "BAD_RECORD": [
                WireRecord(good.wire.tbs, bytes(len(good.wire.signature))),
                WireRecord(good.wire.tbs, good.wire.signature[:-1]),
                retold(good, value=b"w"),
                retold(good, key=bytes(32)),
                retold(good, network_tag=bytes(32)),
                retold(good, suite=2),
                retold(good, flags=128),
                retold(good, flags=TOMBSTONE),
                sign(env, ttl=limits.ttl_min_s - 1, params=loose).wire,
                sign(env, ttl=limits.ttl_max_s + 1, params=loose).wire,
            ],
        }
        for code, wires in cases.items():
            assert await codes(keeper, *wires) == [code] * len(wires)
            assert env.counters[f"records_refused.{code}"] == len(wires)
        assert env.store.usage().records == 0
        edge = sign(env, timestamp=NOW + limits.clock_skew_ms)
        assert await codes(keeper, edge) == ["OK"]

    run(main)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"records_per_owner": 2}, "QUOTA"),
        ({"bytes_per_owner": 15_000}, "QUOTA"),
        ({"records_per_group": 2}, "QUOTA"),
        ({"bytes_per_group": 15_000}, "QUOTA"),
        ({"bytes_total": 15_000}, "STORAGE_FULL"),
    ],
)
def test_quotas_count_what_is_on_its_way_to_the_disk(limits: dict[str, int], code: str) -> None:
    async def main() -> None:
        store = SlowStore(10**9)
        env, _ = await environment(limits=limits, store=store)
        keeper = Keeper(env)
        records = [sign(env, at=f"n{i}") for i in range(4)]
        assert 15_000 // 3 < records[0].size < 15_000 // 2
        store.gate.clear()
        first = asyncio.create_task(codes(keeper, *records[:3]))
        await asyncio.sleep(0)
        second = asyncio.create_task(
            codes(keeper, records[3], records[0], sign(env, b"w", at="n1", timestamp=NOW + 1))
        )
        await asyncio.sleep(0)
        store.gate.set()
        assert await first == ["OK", "OK", code]
        assert await second == [code, "OK", "OK"]
        assert env.store.usage().records == 2

    run(main)


def test_the_place_of_another_groups_record_is_not_free() -> None:
    async def main() -> None:
        env, _ = await environment(limits={"records_per_group": 1})
        keeper = Keeper(env)
        assert await codes(keeper, sign(env, at="a"), group="a") == ["OK"]
        assert await codes(keeper, sign(env, at="b"), group="b") == ["OK"]
        taken_over = sign(env, b"w", at="a", timestamp=NOW + 1)
        assert await codes(keeper, taken_over, group="b") == ["QUOTA"]
        assert await codes(keeper, taken_over, group="a") == ["OK"]

    run(main)


@pytest.mark.parametrize(
    ("error", "code"), [(StorageFull("full"), "STORAGE_FULL"), (StorageError("broken"), "INTERNAL")]
)
def test_no_receipt_before_it_is_on_disk(error: Exception, code: str) -> None:
    """Also for who sends the same record while the first is on its way."""

    async def main() -> None:
        store = SlowStore(10**9)
        env, _ = await environment(store=store)
        keeper = Keeper(env)
        record = sign(env)
        store.gate.clear()
        tasks = [asyncio.create_task(codes(keeper, record)) for _ in range(2)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert not any(t.done() for t in tasks)
        store.error = error
        store.gate.set()
        assert [await t for t in tasks] == [[code], [code]]
        assert keeper.find(record.key) == []
        store.error = None
        assert await codes(keeper, record) == ["OK"]

    run(main)


def test_content_keeps_the_latest_expiry_whoever_writes_it() -> None:
    async def main() -> None:
        env, _ = await environment()
        keeper = Keeper(env)
        at, other = Content.of(b"v"), OwnerIdentity.generate(env.suite)
        short, long = sign(env, at=at, ttl=100), sign(env, at=at, ttl=200, owner=other)
        assert await codes(keeper, short, long, short) == ["OK", "OK", "OK"]
        assert held(keeper, long) == [long.record_id]
        assert keeper.find(at.key(), env.owner.owner_id) == keeper.find(at.key())
        assert env.store.floors() == []

    run(main)


def test_a_full_topic_keeps_the_best_ranked_and_one_record_per_node() -> None:
    async def main() -> None:
        env, clock = await environment(limits={"records_per_key": 3})
        keeper = Keeper(env)
        topic = Topic("t")
        day = NOW // DAY_MS
        nodes = [await identity(env) for _ in range(6)]
        nodes.sort(key=lambda n: topic_rank(topic.key(), n.node_id, day))
        owners = [OwnerIdentity.generate(env.suite) for _ in nodes]
        records = [sign(env, at=topic, owner=o, node=n) for o, n in zip(owners, nodes, strict=True)]
        assert await codes(keeper, *records[2:5]) == ["OK"] * 3
        assert await codes(keeper, records[5]) == ["TOPIC_FULL"]
        assert await codes(keeper, records[0], records[1]) == [
            "OK",
            "OK",
        ]  # each takes the place of the worst
        kept = {r.node for r in keeper.find(topic.key())}
        assert kept == {n.node_id for n in nodes[:3]}
        again = sign(env, at=topic, owner=OwnerIdentity.generate(env.suite), node=nodes[0])
        assert await codes(keeper, again) == ["TOPIC_FULL"]  # the node has its record
        newer = sign(
            env, b"w", at=topic, owner=OwnerIdentity.generate(env.suite), node=nodes[0], timestamp=NOW + 1
        )
        assert await codes(keeper, newer) == ["OK"]
        assert len(keeper.find(topic.key())) == 3
        clock.now += 4 * 3_600_000
        assert keeper.find(topic.key()) == []

    run(main)


async def topic_of(env: Environment, n: int, bits: int = 0) -> list[Record]:
    """Records of `n` new nodes under one topic, with stakes of so many bits that hold for a day still; the
    best ranked first."""
    topic, made = Topic("t"), []
    for _ in range(n):
        node = await identity(env)
        stake = None
        if bits:
            epoch = epoch_of(NOW) - 1
            commit = stake_commit(node.node_id, epoch)
            salt = puzzle.salt(env.network_tag)
            nonce = puzzle.search_range(env.suite.provider, salt, commit, bits, 0, 1 << 20)
            assert nonce is not None
            stake = solved(env.suite.provider, env.network_tag, node.node_id, epoch, nonce).to_wire()
        owner = OwnerIdentity.generate(env.suite)
        made.append(sign(env, at=topic, owner=owner, node=node, stake=stake, ttl=3 * 86_400))

    def rank(record: Record) -> tuple[int, bytes]:
        assert record.node_id is not None
        return topic_rank(topic.key(), record.node_id, NOW // DAY_MS)

    return sorted(made, key=rank)


def test_a_full_topic_keeps_two_of_an_address_group_before_others_had_their_turn() -> None:
    async def main() -> None:
        env, _ = await environment(limits={"records_per_key": 4})
        keeper = Keeper(env)
        records = await topic_of(env, 8)
        crowd, others = records[:5], records[5:]
        assert await codes(keeper, *crowd) == ["OK"] * 4 + ["TOPIC_FULL"]
        for i, record in enumerate(others[:2]):
            assert await codes(keeper, record, group=f"198.51.{i}.0/24") == ["OK"]
        kept = {r.record_id for r in keeper.find(Topic("t").key())}
        assert kept == {r.record_id for r in (*crowd[:2], *others[:2])}
        assert await codes(keeper, others[2], group="198.51.9.0/24") == ["TOPIC_FULL"]  # the worst hash

    run(main)


def test_what_a_fellow_holder_passes_on_is_not_of_its_address_group() -> None:
    async def main() -> None:
        for is_holder, kept in ((True, 4), (False, 2)):
            env, _ = await environment(limits={"records_per_key": 4})
            keeper = Keeper(env)
            records = await topic_of(env, 7)
            crowd, others = records[:4], records[4:]
            answers: dict[bytes, bool] = {records[0].key: is_holder}
            await keeper.keep([r.wire for r in crowd], GROUP, replica=True, is_refresh=answers.__getitem__)
            for i, record in enumerate(others):
                await codes(keeper, record, group=f"198.51.{i}.0/24")
            held_now = {r.record_id for r in keeper.find(Topic("t").key())}
            assert len(held_now & {r.record_id for r in crowd}) == kept

    run(main)


def test_a_stake_goes_before_the_hash_and_only_while_it_holds() -> None:
    async def main() -> None:
        env, clock = await environment(limits={"records_per_key": 1})
        keeper = Keeper(env)
        (best,) = (await topic_of(env, 20))[:1]
        (staked,) = await topic_of(env, 1, bits=5)
        assert await codes(keeper, best, group="") == ["OK"]
        assert await codes(keeper, staked) == ["OK"]
        assert await codes(keeper, best) == ["TOPIC_FULL"]
        clock.now += DAY_MS  # the stake has lapsed, its record has not
        rivals = [await identity(env) for _ in range(40)]
        today = [topic_rank(best.key, n.node_id, clock.now // DAY_MS) for n in rivals]
        node = rivals[today.index(min(today))]
        fresh = sign(env, at=Topic("t"), owner=OwnerIdentity.generate(env.suite), node=node, ttl=3 * 86_400)
        assert keeper.find(best.key)
        assert await codes(keeper, fresh) == ["OK"]

    run(main)


def test_a_sender_with_a_stake_may_fill_more_of_its_groups_quota() -> None:
    async def main() -> None:
        env, _ = await environment(limits={"records_per_group": 4})
        keeper = Keeper(env)
        records = [sign(env, at=Named(env.owner.owner_id, f"n{i}")) for i in range(7)]
        assert await codes(keeper, *records) == ["OK"] * 4 + ["QUOTA"] * 3
        receipts = await keeper.keep([r.wire for r in records[4:]], GROUP, share=1.5)
        assert [WireCode(r.code).name for r in receipts] == ["OK", "OK", "QUOTA"]

    run(main)


def test_topic_records_of_outdated_or_foreign_nodes_are_refused() -> None:
    async def main() -> None:
        env, _ = await environment()
        keeper = Keeper(env)
        topic, day = Topic("t"), NOW // DAY_MS
        old = sign(env, at=topic, node=await identity(env, born=day - 38))
        ahead = sign(env, at=topic, node=await identity(env, born=day + 2))
        assert await codes(keeper, old, ahead) == ["EXPIRED", "CLOCK_SKEW"]
        other = OwnerIdentity.generate(env.suite)
        node = await identity(env)
        mine, theirs = sign(env, at=topic, node=node), sign(env, at=topic, node=node, owner=other)
        tbs: Tbs = _decode_tbs(mine.wire.tbs)
        stolen = encode(msgspec.structs.replace(tbs, extra=_decode_tbs(theirs.wire.tbs).extra))
        signed = WireRecord(stolen, env.owner.signing.sign(RECORD + stolen, RECORD))
        assert await codes(keeper, signed) == ["BAD_RECORD"]

    run(main)


def test_only_who_places_records_ends_their_replication() -> None:
    """Anybody can send back what we hold."""

    async def main() -> None:
        env, clock = await environment()
        keeper = Keeper(env)
        record = sign(env)
        assert not keeper.was_refreshed(record.record_id, 1)
        await codes(keeper, record)
        clock.now += 10 * MINUTE_MS
        assert keeper.was_refreshed(record.record_id, NOW)
        for replica in (False, True):
            assert await codes(keeper, record, replica=replica) == ["OK"]
        assert not keeper.was_refreshed(record.record_id, NOW + 1)
        await keeper.keep([record.wire], GROUP, is_refresh=lambda key: key == record.key)
        assert keeper.was_refreshed(record.record_id, clock.now)
        at = Content.of(b"v")  # anybody can sign it anew, only its first copy is new
        mine = sign(env, at=at, ttl=3600)
        again = sign(env, at=at, ttl=7200, owner=OwnerIdentity.generate(env.suite))
        assert await codes(keeper, mine) == await codes(keeper, again) == ["OK"]
        assert held(keeper, again) == [again.record_id]
        assert keeper.was_refreshed(mine.record_id, clock.now)
        assert not keeper.was_refreshed(again.record_id, 1)

    run(main)


def test_what_was_not_written_counts_as_no_replication() -> None:
    async def main() -> None:
        store = SlowStore(10**9)
        env, _ = await environment(store=store)
        keeper = Keeper(env)
        store.error = StorageError("broken")
        record = sign(env)
        assert await codes(keeper, record) == ["INTERNAL"]
        assert not keeper.was_refreshed(record.record_id, 1)

    run(main)


def test_a_closed_store_is_answered_as_a_failure_of_ours() -> None:
    async def main() -> None:
        env, _ = await environment()
        await env.store.close()
        assert await codes(Keeper(env), sign(env)) == ["INTERNAL"]

    run(main)


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_storers_end_with_the_same_record_whatever_the_order_of_arrival(order: tuple[int, ...]) -> None:
    async def main() -> None:
        env, _ = await environment()
        versions = [sign(env, b"%d" % i, timestamp=NOW + i // 2) for i in range(4)]
        keeper = Keeper(env)
        for i in order:
            await codes(keeper, versions[i])
        assert held(keeper, versions[0]) == [min(v.record_id for v in versions[2:])]

    run(main)


def test_a_promise_names_the_record_and_lasts_as_long_but_for_clocks() -> None:
    async def main() -> None:
        env, _ = await environment()
        record = sign(env)
        right = Receipt(record.record_id, 0, record.expires)
        assert promises(right, record, 0)
        assert promises(msgspec.structs.replace(right, expires=record.expires - 5), record, 5)
        for wrong in ({"expires": record.expires - 6}, {"code": 7}, {"record_id": bytes(32)}):
            assert not promises(msgspec.structs.replace(right, **wrong), record, 5)

    run(main)


@pytest.mark.parametrize("column", ["tbs", "signature", "record_id", "key"])
def test_a_damaged_record_is_not_served_and_a_good_copy_takes_its_place(column: str) -> None:
    """What we serve we sign, and it can be held against us: a disk must not make us liars."""

    async def main() -> None:
        env, _ = await environment()
        keeper = Keeper(env)
        record, other = sign(env), sign(env, at="y")
        await keeper.keep([record.wire, other.wire], "g")
        (kept,) = keeper.find(record.key)
        assert isinstance(env.store, MemoryStore)
        right: bytes = getattr(kept, column)
        change: dict[str, Any] = {column: bytes([right[0] ^ 1]) + right[1:]}
        damaged = replace(kept, **change)
        env.store._index._held[record.key][kept.owner] = damaged
        assert keeper.find(record.key) == []
        assert keeper.find(record.key, env.owner.owner_id) == []
        assert keeper.find(other.key) != []
        assert env.counters["records_damaged"] == 1
        assert Keeper(env).find(record.key) == []  # after a restart too
        (receipt,) = await keeper.keep([record.wire], "g", replica=True)
        assert receipt.code == WireCode.OK
        assert [r.record_id for r in keeper.find(record.key)] == [record.record_id]

    run(main)
