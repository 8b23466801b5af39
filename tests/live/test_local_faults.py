"""Faults of our own machine: ports, key files, disks, settings. Each gives a typed error; nothing is lost."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from pqdht import (
    ConfigError,
    KeyFileError,
    ListenError,
    PeerError,
    QuorumNotReached,
    SecureDHT,
    StorageError,
    StorageFull,
    WireCode,
)
from pqdht.constants import DAY_MS
from pqdht.node.environment import Parts, system_clock
from pqdht.storage.sqlite import SqliteStore
from pqdht.wire.messages import FindValue, Store, Stored
from tests.live.harness import (
    address,
    assert_serves,
    counter,
    entry,
    make,
    run,
    strict,
)

# --- our own faults ------------------------------------------------------------------------------------


def test_an_occupied_port(tmp_path: Path) -> None:
    async def main() -> None:
        async with make(0) as node:
            second = make(1, listen=(str(address(node)),), data_dir=tmp_path)
            with pytest.raises(ListenError, match="another program listens") as caught:
                await second.start()
            assert caught.value.fields["address"] == str(address(node))
            async with make(1, data_dir=tmp_path) as third:  # nothing of the second is left locked
                assert third.status()["bootstrapped"] in (True, False)

    run(main())


@pytest.mark.parametrize("name", ["node.key", "owner.key"])
def test_an_unusable_key_file(tmp_path: Path, name: str) -> None:
    async def main() -> None:
        async with make(0, data_dir=tmp_path):
            pass
        path = tmp_path / name
        good = path.read_bytes()
        path.chmod(0o644)
        with pytest.raises(KeyFileError, match="chmod 600"):
            await make(0, data_dir=tmp_path).start()
        for bad in (b"", good[:100], good.replace(b"_seed", b"_speed"), b"\xff" * 100, bytes(1 << 20)):
            path.write_bytes(bad)
            path.chmod(0o600)
            with pytest.raises(KeyFileError, match="damaged"):
                await make(0, data_dir=tmp_path).start()
            assert path.read_bytes() == bad, "a key file is never overwritten"
        path.unlink()
        path.mkdir(mode=0o700)
        with pytest.raises(KeyFileError, match=r"cannot be read|not a file"):
            await make(0, data_dir=tmp_path).start()
        path.rmdir()
        path.write_bytes(good)
        path.chmod(0o600)
        async with make(0, data_dir=tmp_path) as node:
            assert node.status()["bootstrapped"] in (True, False)

    run(main())


def test_keys_of_another_network_or_suite(tmp_path: Path) -> None:
    async def main() -> None:
        async with make(0, data_dir=tmp_path):
            pass
        with pytest.raises(KeyFileError, match="another data directory"):
            await make(0, data_dir=tmp_path, network="testnet").start()
        with pytest.raises(KeyFileError, match="another data directory"):
            await make(0, data_dir=tmp_path, suite=3).start()

    run(main())


def test_an_expired_identity_is_replaced_and_kept(tmp_path: Path) -> None:
    async def main() -> None:
        old = Parts(clock=lambda: system_clock() - 40 * DAY_MS)
        async with make(0, data_dir=tmp_path, parts=old) as node:
            before, owner = node.node_id, node.owner_id
        async with make(0, data_dir=tmp_path) as node:
            assert node.node_id != before
            assert node.owner_id == owner
            assert (tmp_path / "node.key.1").exists()

    run(main())


def test_a_data_directory_serves_one_node(tmp_path: Path) -> None:
    async def main() -> None:
        async with make(0, data_dir=tmp_path) as node:
            with pytest.raises(StorageError, match="in use by process") as caught:
                await make(1, data_dir=tmp_path).start()
            assert caught.value.fields["pid"] == os.getpid()
            await assert_serves(node)

    run(main())


@pytest.mark.parametrize(
    "settings",
    [{"bootstrap": ("nonsense",)}, {"listen": ("tcp/nowhere",)}, {"listen": ("obfs4/127.0.0.1:1",)}],
)
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError):
            await make(0, **settings).start()

    run(main())


@pytest.mark.parametrize("damage", ["middle", "header", "cut", "garbage"])
def test_a_corrupt_database_is_kept_aside_and_what_can_be_read_is_saved(tmp_path: Path, damage: str) -> None:
    async def main() -> None:
        async with make(0, data_dir=tmp_path) as node:
            for i in range(30):
                await node.put(f"name {i}", bytes(3_000))
            assert node.status()["records"] == 30
            before = node.node_id
        path = tmp_path / "records.sqlite"
        data = bytearray(path.read_bytes())
        match damage:
            case "middle":
                middle = len(data) // 2 // 4096 * 4096
                data[middle : middle + 8192] = random.Random(3).randbytes(8192)
            case "header":
                data[:100] = random.Random(3).randbytes(100)
            case "cut":
                del data[len(data) // 2 :]
            case _:
                data[:] = random.Random(3).randbytes(len(data))
        path.write_bytes(bytes(data))
        async with make(0, data_dir=tmp_path) as node:
            assert node.node_id == before
            kept = [name for name in os.listdir(tmp_path) if ".corrupt-" in name]
            assert len(kept) == 1
            assert path.with_name(kept[0]).read_bytes() == bytes(data)
            if damage == "middle":
                assert node.status()["records"] > 15
            await node.put("new", b"!")
            await assert_serves(node)

    run(main())


def test_a_database_damaged_under_a_running_node_answers_so(tmp_path: Path) -> None:
    """The disk fails: who asks is told, and the node answers everything else."""

    async def main() -> None:
        async with make(0, data_dir=tmp_path) as node, make(1, bootstrap=(entry(node),)) as other:
            await other.bootstrapped(10)
            put = await node.put("name", bytes(3_000))
            other_has = [r for r in put.receipts if r.node == other.node_id]
            assert [r.code for r in other_has] == ["OK"]
            contact = other._routing.table.get(node.node_id)
            assert contact is not None
            break_reads(node)
            with pytest.raises(PeerError) as caught:
                await other._peers.request(contact.contact, FindValue(put.key))
            assert caught.value.code is WireCode.INTERNAL
            stored = (await other._peers.request(contact.contact, Store((put.record.wire,)))).body
            assert isinstance(stored, Stored)
            assert [r.code for r in stored.receipts] == [WireCode.INTERNAL]
            assert await other.ping(node.node_id) < 5
            # Cold: the question travels in the handshake.
            for conn in list(other._peers._all):
                conn.close()
            with pytest.raises(PeerError):
                await other._peers.request(contact.contact, FindValue(put.key))

    run(main())


def break_reads(node: SecureDHT) -> None:
    """Every further read of a record fails as on a broken disk."""
    store = node.env.store
    assert isinstance(store, SqliteStore)
    store._reader.close()
    broken = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    store._reader = broken


def test_a_full_disk_refuses_and_keeps_what_was_there(tmp_path: Path) -> None:
    async def main() -> None:
        full = SqliteStore(tmp_path / "records.sqlite", 1 << 30, 0, max_pages=40)
        async with make(0, parts=Parts(store=full)) as node, make(1, bootstrap=(entry(node),)) as other:
            await other.bootstrapped(10)
            accepted: list[int] = []
            codes: dict[str, int] = {}
            for i in range(30):
                try:
                    result = await other.put(f"name {i}", bytes(4_000))
                except QuorumNotReached as e:
                    result = e.result
                code = next(r.code for r in result.receipts if r.node == node.node_id)
                codes[code] = codes.get(code, 0) + 1
                if code == "OK":
                    accepted.append(i)
            assert set(codes) == {"OK", "STORAGE_FULL"}
            assert counter(node, "commits_failed.STORAGE_FULL") == codes["STORAGE_FULL"]
            for i in accepted:
                key = other.named(f"name {i}").key()
                assert node.env.store.get(key), "what a receipt promised is kept"
            record = result.record.wire
            contact = await other._entrance.reach(node.node_id, address(node))
            answer = (await other._peers.request(contact, Store((record, record)))).body
            assert isinstance(answer, Stored)
            assert {r.code for r in answer.receipts} == {WireCode.STORAGE_FULL}, (
                "no promise before the disk has it"
            )
            own = await node.put_many({f"own {i}": bytes(4_000) for i in range(30)})
            assert StorageFull in set(map(type, own.values())), "where not even the journal has room"
            assert await other.ping(node.node_id) < 5

    run(main())


def test_a_quota_refuses_and_says_so() -> None:
    async def main() -> None:
        network = strict(records_per_owner=3, bytes_per_owner=1 << 20)
        async with (
            make(0, network=network) as node,
            make(1, network=network, bootstrap=(entry(node),)) as other,
        ):
            await other.bootstrapped(10)
            for i in range(3):
                await other.put(f"name {i}", b"!")
            with pytest.raises(QuorumNotReached) as caught:
                await other.put("one too many", b"!")
            assert {r.code for r in caught.value.result.receipts} == {"QUOTA"}
            await other.put("name 1", b"a new version takes no new place")

    run(main())
