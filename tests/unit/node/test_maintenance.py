"""What a node does by itself."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from pqdht.constants import TESTNET
from pqdht.errors import PqdhtError
from pqdht.identity.contact import VerifiedContact
from pqdht.ids import distance, id_in_bucket
from pqdht.records import Named
from pqdht.testing.loop import VirtualLoop, run
from tests.sim.harness import Net, codes, counter, strangers

K4 = replace(TESTNET, k=4)


def test_a_newcomer_is_given_what_it_is_responsible_for() -> None:
    async def main() -> None:
        net = Net(params=K4)
        await net.grow(8)
        owner = net.nodes[0].owner_id
        for i in range(12):
            await net.nodes[0].put(f"n{i}", b"v")
        newcomer = await net.add()
        await newcomer.bootstrapped(10.0)
        await asyncio.sleep(30.0)
        ids = [s.identity.node_id for s in net.seats]
        keys = [Named(owner, f"n{i}").key() for i in range(12)]
        mine = [k for k in keys if newcomer.node_id in sorted(ids, key=lambda n, k=k: distance(n, k))[:4]]  # type: ignore[misc]
        assert mine
        assert all(newcomer._keeper.find(k) for k in mine)
        assert sum(counter(n, "records_handed_over") for n in net.nodes) >= len(mine)
        await net.close()

    run(main)


def test_a_dead_holder_next_to_the_key_does_not_cost_a_newcomer_its_records() -> None:
    """The closest holder has lost power, and nobody has noticed yet."""

    async def main() -> None:
        net = Net(params=K4)
        await net.grow(10)
        owner = net.nodes[0].owner_id
        for i in range(30):
            await net.nodes[0].put(f"n{i}", b"v")
        keys = [Named(owner, f"n{i}").key() for i in range(30)]
        newcomer = await net.add()
        ids: list[bytes] = [s.identity.node_id for s in net.seats]
        victim = min(range(1, 10), key=lambda i: distance(ids[i], newcomer.node_id))
        await net.crash(victim, silent=True)
        await newcomer.bootstrapped(10.0)
        await asyncio.sleep(30.0)
        dead = ids[victim]

        def closest(key: bytes) -> list[bytes]:
            return sorted(ids, key=lambda n: distance(n, key))[:4]

        orphans = [k for k in keys if newcomer.node_id in closest(k) and dead in closest(k)[:2]]
        assert orphans
        assert all(newcomer._keeper.find(k) for k in orphans)
        await net.close()

    run(main())


def test_records_outlive_all_who_first_stored_them() -> None:
    """Storers replicate: each hour some die, and the record stays."""

    async def main() -> None:
        net = Net(params=K4, replicate_interval_s=300.0)
        await net.grow(12)
        put = await net.nodes[0].put("x", b"v")
        owner = net.nodes[0].owner_id
        first = [r.node for r in put.receipts if r.code == "OK"]
        for i in [i for i, s in enumerate(net.seats) if i and s.identity.node_id in first][:6]:
            await net.crash(i)
            await asyncio.sleep(700.0)
        await net.crash(0)
        reader = next(n for n, up in zip(net.nodes, net.up, strict=True) if up)
        assert (await reader.get("x", owner=owner, ignore_local=True)).value == b"v"
        assert (
            sum(counter(n, "records_replicated") for n, up in zip(net.nodes, net.up, strict=True) if up) > 0
        )
        await net.close()

    run(main)


def test_what_expired_leaves_the_disk() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(3)
        await net.nodes[0].put("x", b"v", ttl=60)
        assert net.nodes[1].status()["records"] == 1
        await asyncio.sleep(150.0)
        assert [n.status()["records"] for n in net.nodes] == [0, 0, 0]
        assert counter(net.nodes[1], "records_expired") == 1
        await net.close()

    run(main)


def test_the_dead_leave_the_tables_and_the_living_stay() -> None:
    async def main() -> None:
        net = Net(max_table_idle_s=300.0)
        await net.grow(8)
        await net.crash(5, silent=True)
        await asyncio.sleep(2400.0)
        dead = net.seats[5].identity.node_id
        for node, up in zip(net.nodes, net.up, strict=True):
            if up:
                peers = [p.node_id for p in node.peers()]
                assert dead not in peers
                assert len(peers) == 6
        assert counter(net.nodes[0], "walks") > 3
        await net.close()

    run(main)


def test_a_full_bucket_is_refreshed_without_a_lookup_and_gets_candidates() -> None:
    async def main() -> None:
        net = Net(params=K4, refresh_idle_s=600.0, walk_interval_s=1e6, walk_interval_young_s=1e6)
        await net.grow(40)
        node = net.nodes[0]
        table = node._routing.table
        full = [cpl for cpl in range(3) if table.is_bucket_full(cpl)]
        assert 0 in full
        for entry in table.candidates():
            table.remove(entry.node_id, 0.0)
        await asyncio.sleep(1.0)
        for cpl in range(20):
            table.looked_up(id_in_bucket(node.node_id, cpl, bytes(32)), asyncio.get_running_loop().time())
        table.looked_up(id_in_bucket(node.node_id, 0, bytes(32)), -1e6)
        before = counter(node, "lookups"), counter(node, "refreshes"), len(table.candidates())
        await node._maintenance.refresh()
        after = counter(node, "lookups"), counter(node, "refreshes"), len(table.candidates())
        assert after[:2] == (before[0], before[1] + 1)
        assert after[2] > before[2]
        now = asyncio.get_running_loop().time()
        assert 0 not in table.buckets_to_refresh(now, 600.0)
        await net.close()

    run(main)


def test_dead_peers_do_not_hold_up_the_probe_of_the_living() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        net = Net()
        await net.grow(3)
        node = net.nodes[0]
        table = node._routing.table
        for i, dead in enumerate(await strangers(net, 16, lambda i: f"10.9.{i}.1")):
            net.sim.unreachable(f"10.9.{i}.1")
            table.add(dead.node_id, dead, dead.group, dead.wide_group, loop.time())
        for entry in table:
            entry.last_heard -= 10_000 if entry.group.startswith("10.9.") else 1000
        alive = table.get(net.nodes[1].node_id)
        assert alive is not None
        begun = loop.time()
        await node._maintenance.probe()
        assert loop.time() - begun <= 60.0
        assert alive.last_heard >= begun
        silent = [e for e in table if e.group.startswith("10.9.")]
        assert all(e.failures == 1 for e in silent)  # each had its turn
        await net.close()

    run(main)


def test_a_slow_newcomer_does_not_hold_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        net = Net(params=K4)
        await net.grow(3)
        node = net.nodes[0]
        await node.put("x", b"1")
        slow, quick = await strangers(net, 2, lambda i: f"10.9.{i}.1")
        given: list[VerifiedContact] = []

        async def hand_over(to: VerifiedContact) -> None:
            if to is slow:
                await asyncio.sleep(1e6)
            given.append(to)

        monkeypatch.setattr(node._maintenance, "_hand_over", hand_over)
        for newcomer in (slow, quick):
            node._maintenance.hand_over_to(newcomer)
        await asyncio.sleep(1.0)
        assert given == [quick]
        await net.close()

    run(main)


def test_sending_back_what_is_held_does_not_stop_its_replication() -> None:
    async def main() -> None:
        net = Net(params=K4)
        await net.grow(8)
        record = net.sign(net.seats[0].owner, Named(net.nodes[0].owner_id, "x"), b"1", timestamp=net.clock())
        order = sorted(range(8), key=lambda i: distance(net.seats[i].identity.node_id, record.key))
        storer, near, far = order[0], order[1], order[-1]
        node = net.nodes[storer]
        assert await codes(net, far, storer, record) == ["OK"]
        stored_at = net.clock(storer)
        await asyncio.sleep(10.0)
        for replica in (False, True):
            assert await codes(net, far, storer, record, replica=replica) == ["OK"]
        assert await codes(net, near, storer, record) == ["OK"]
        assert not node._keeper.was_refreshed(record.record_id, stored_at + 5000)
        assert await codes(net, near, storer, record, replica=True) == ["OK"]
        assert node._keeper.was_refreshed(record.record_id, stored_at + 5000)
        await net.close()

    run(main)


def test_a_failing_chore_ends_no_other() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        net = Net()
        await net.grow(2)
        maintenance = net.nodes[0]._maintenance

        async def broken() -> None:
            raise ValueError("a bug")

        async def refused() -> None:
            raise PqdhtError("not now")

        await maintenance._guarded(broken)
        await maintenance._guarded(refused)
        assert counter(net.nodes[0], "chores_failed.broken") == 1
        assert counter(net.nodes[0], "chores_failed.refused") == 1
        await asyncio.sleep(600.0)
        assert counter(net.nodes[0], "walks") > 0
        assert loop.unhandled == []
        await net.close()

    run(main)
