"""A disk that is really full under a real daemon: a tmpfs of a few MiB, filled up beside the database."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pqdht import Named, SecureDHT, WireCode
from pqdht.identity.contact import VerifiedContact
from pqdht.node.environment import split_bootstrap
from pqdht.records import Record, make_record
from pqdht.testing.processes import ProcessNode
from pqdht.testing.testnet import group_address
from pqdht.wire.messages import FindValue, Store, Stored, Values
from tests.live.harness import entry, make, run

MIB = 1 << 20
DISK = 3 * MIB


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of `DISK` bytes."""
    path = tmp_path / "disk"
    path.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=700", "none", str(path)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a file system cannot be mounted here: run as root")
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


def fill_up(disk: Path) -> Path:
    """Write until nothing more fits."""
    path = disk / "ballast"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (65_536, 4096, 1):
            try:
                while True:
                    os.write(fd, bytes(size))
            except OSError:
                pass
    finally:
        os.close(fd)
    return path


class Client:
    """Stores its owner's values on one node, and remembers which of them were promised."""

    def __init__(self, node: SecureDHT, storer: ProcessNode) -> None:
        self.node = node
        self.storer = storer
        self.promised: list[Record] = []
        self._made = 0

    async def contact(self) -> VerifiedContact:
        return await self.node._entrance.reach(*split_bootstrap(self.storer.entry))

    async def store(self, size: int = 2_000) -> WireCode:
        env = self.node.env
        self._made += 1
        record = make_record(
            env.suite,
            env.network_tag,
            env.owner,
            Named(env.owner.owner_id, f"value {self._made}"),
            bytes(size),
            ttl=3600,
            timestamp=env.clock(),
            params=env.params,
        )
        answer = await self.node._peers.request(await self.contact(), Store((record.wire,)))
        assert isinstance(answer.body, Stored)
        code = WireCode(answer.body.receipts[0].code)
        if code is WireCode.OK:
            self.promised.append(record)
        return code

    async def check(self) -> None:
        """Everything that was promised is there."""
        for record in self.promised:
            answer = await self.node._peers.request(await self.contact(), FindValue(record.key))
            assert isinstance(answer.body, Values)
            assert [r.tbs for r in answer.body.records] == [record.wire.tbs]


def test_a_full_disk_refuses_with_a_typed_code_and_loses_nothing(disk: Path) -> None:
    async def main() -> None:
        storer = ProcessNode(9, group_address(9), disk, network="demo")
        async with make(0) as node:
            client = Client(node, storer)
            try:
                await storer.start((entry(node),))
                assert {await client.store() for _ in range(5)} == {WireCode.OK}
                ballast = fill_up(disk)
                codes = [await client.store(16_000) for _ in range(20)]
                assert set(codes[-10:]) == {WireCode.STORAGE_FULL}
                assert set(codes) <= {WireCode.OK, WireCode.STORAGE_FULL}
                await client.check()
                assert await client.node.ping(storer.node_id) < 10

                await storer.kill()
                await storer.start()  # on a disk that is still full
                assert storer.events["ready"]["records"] == len(client.promised)
                await client.check()
                fill_up(disk)
                codes = [await client.store(16_000) for _ in range(10)]
                assert set(codes[-5:]) == {WireCode.STORAGE_FULL}
                assert set(codes) <= {WireCode.OK, WireCode.STORAGE_FULL}

                ballast.unlink()
                assert {await client.store(16_000) for _ in range(20)} == {WireCode.OK}
                await client.check()
                assert await storer.stop() == 0
                await storer.start()
                await client.check()
            finally:
                await storer.close()

    run(main(), timeout_s=300.0)


def test_a_start_on_a_full_disk_says_so_and_leaves_what_is_there(disk: Path) -> None:
    """Stopped in order, nothing is left of log and shared memory, and there may be no room for new ones."""

    async def main() -> None:
        storer = ProcessNode(9, group_address(9), disk, network="demo")
        async with make(0) as node:
            client = Client(node, storer)
            try:
                await storer.start((entry(node),))
                assert {await client.store() for _ in range(5)} == {WireCode.OK}
                await storer.stop()
                ballast = fill_up(disk)
                process = await asyncio.create_subprocess_exec(
                    *storer.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
                _, err = await asyncio.wait_for(process.communicate(), 60)
                assert process.returncode == 4
                assert b"free some disk space" in err
                ballast.unlink()
                await storer.start()
                await client.check()
            finally:
                await storer.close()

    run(main(), timeout_s=300.0)
