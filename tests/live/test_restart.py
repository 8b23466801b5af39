"""What survives: contacts outlive the bootstrap node, journals outlive clocks (receipts: test_crash)."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pqdht import Config, OwnerIdentity, SecureDHT, Verdict
from pqdht.daemon.requests import Get, Put
from pqdht.node.environment import Parts, system_clock
from pqdht.testing.processes import ProcessNode
from pqdht.testing.testnet import Testnet, group_address, join_all
from tests.live.harness import address, counter, make, run, until

HOUR_MS = 3_600_000


def test_remembered_contacts_replace_a_bootstrap_node_that_is_gone(tmp_path: Path) -> None:
    async def main() -> None:
        async with Testnet.loopback(6, data_dir=tmp_path) as net:
            gone, back = net.nodes[0], net.nodes[5]
            await back.announce(["10.9.9.9:51820"])
            config, owner, node_id = back.config, back.owner_id, back.node_id
            assert counter(back, "table_entered") >= 3
            await back.close()
            await gone.close()
            async with SecureDHT(config) as again:
                await again.bootstrapped(10)
                assert again.node_id == node_id
                assert again.owner_id == owner
                found = await net.nodes[2].find_peer(owner, ignore_local=True)
                assert found.endpoints == ("10.9.9.9:51820",)
                assert counter(again, "join_attempts_failed") >= 1, "the bootstrap node was really down"
                assert len(await again.find_node(node_id)) >= 3

    run(main())


def test_contacts_are_remembered_from_the_first_minute_on(tmp_path: Path) -> None:
    """Killed right after it joined, a process finds its way back without the bootstrap node."""

    async def main() -> None:
        process = ProcessNode(9, group_address(9), tmp_path, network="demo")
        async with Testnet.loopback(4) as net:
            try:
                await process.start(net.bootstrap)
                await process.call(Put(name="own", value="00"))
                await until(lambda: remembers(tmp_path / "records.sqlite"))
                await process.kill()
                await net.nodes[0].close()
                await process.start()
                assert process.events["ready"]["table"] >= 1
                assert process.events["ready"]["node_id"] == process.node_id
                await process.call(Get(name="own", ignore_local=True))
            finally:
                await process.close()

    run(main())


def remembers(database: Path) -> bool:
    """Whether the contacts of a running node are on its disk."""
    with contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as db:
        found = db.execute("SELECT 1 FROM states WHERE name = 'contacts'").fetchone()
        return found is not None


@pytest.mark.parametrize("whose", ["own", "another owner's"])
def test_timestamps_rise_though_the_clock_is_set_back(tmp_path: Path, whose: str) -> None:
    async def main() -> None:
        async with Testnet.loopback(4) as net:
            reader = net.nodes[2]
            settings: dict[str, Any] = {"bootstrap": net.bootstrap, "data_dir": tmp_path}
            async with make(20, **settings) as node:
                await node.bootstrapped(10)
                owner = node.env.owner if whose == "own" else OwnerIdentity.generate(node.env.suite)
                puts = await asyncio.gather(*(node.put("name", b"%d" % i, owner=owner) for i in range(8)))
                newest = max(puts, key=lambda p: p.record.timestamp)
                assert len({p.record.timestamp for p in puts}) == 8
            back = Parts(clock=lambda: system_clock() - HOUR_MS)
            async with make(20, parts=back, **settings) as node:
                await node.bootstrapped(10)
                result = await node.put("name", b"after", owner=owner)
                assert result.record.timestamp == newest.record.timestamp + 1
                assert result.record.expires >= newest.record.expires
            got = await reader.get("name", owner=owner.owner_id)
            assert (got.value, got.verdict, got.rollback_from) == (b"after", Verdict.CONFIRMED, None)

    run(main())


def test_unplaced_publications_are_placed_after_a_restart(tmp_path: Path) -> None:
    """Written while nobody could be reached, found once somebody is."""

    async def main() -> None:
        async with make(0, data_dir=tmp_path) as lonely:
            alone = await lonely.put("early", b"bird")
            owner = lonely.owner_id
        async with (
            Testnet.loopback(4) as net,
            make(0, data_dir=tmp_path, bootstrap=net.bootstrap) as node,
        ):
            await node.bootstrapped(10)
            await node._publisher.republish()
            got = await net.nodes[3].get("early", owner=owner, ignore_local=True)
            assert got.value == b"bird"
            assert got.record is not None
            assert got.record.record_id == alone.record.record_id
            assert counter(node, "records_republished") == 1

    run(main())


def test_a_restarted_node_takes_its_place_again(tmp_path: Path) -> None:
    """Same id, another port: the others find it where it is now."""

    async def main() -> None:
        async with Testnet.loopback(5, data_dir=tmp_path) as net:
            node = net.nodes[3]
            before, port = node.node_id, address(node).port
            await node.close()
            async with SecureDHT(
                Config(
                    network="demo",
                    listen=(f"tcp/{group_address(3)}:0",),
                    data_dir=tmp_path / "node03",
                    bootstrap=net.bootstrap,
                )
            ) as again:
                await again.bootstrapped(10)
                net.nodes[3] = again
                assert again.node_id == before
                await join_all(net.nodes)
                assert address(again).port != port
                for other in net.nodes:
                    if other is not again:
                        assert await other.ping(before) < 5

    run(main())
