"""testing.testnet on real sockets and with real processes."""

from __future__ import annotations

import asyncio
import os
import select
import subprocess
import sys
from pathlib import Path

import pytest

from pqdht.daemon.requests import Get, Put, Records, Status
from pqdht.errors import ControlError
from pqdht.testing.testnet import Testnet


def test_a_loopback_network_is_up_and_joined() -> None:
    async def main() -> None:
        async with Testnet.loopback(n=5, network="testnet") as net:
            assert [len(node.peers()) for node in net.nodes] == [4] * 5
            await net.nodes[0].put("greeting", b"hello")
            found = await net.nodes[4].get("greeting", owner=net.nodes[0].owner_id)
            assert found.value == b"hello"

    asyncio.run(main())


def test_loopback_nodes_may_keep_their_state(tmp_path: Path) -> None:
    async def main() -> list[bytes]:
        async with Testnet.loopback(n=2, data_dir=tmp_path) as net:
            return [node.node_id for node in net.nodes]

    assert asyncio.run(main()) == asyncio.run(main())


def test_processes_are_killed_started_again_and_keep_what_they_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with Testnet.processes(4, tmp_path) as net:
            author = net.nodes[1]
            put = await author.call(Put(name="greeting", value=b"hello".hex()))
            promised = {r["node"] for r in put["receipts"] if r["code"] == "OK"}
            victim = next(n for n in net.nodes[2:] if n.node_id in promised)  # 3 of 4 were needed
            pid, node_id = victim.pid, victim.node_id
            await victim.kill()
            assert not victim.is_running
            with pytest.raises(ControlError):
                await victim.call(Status())
            got = await net.nodes[0].call(Get(name="greeting", owner=author.owner_id))
            assert bytes.fromhex(got["value"]) == b"hello"
            await victim.start()
            assert victim.pid != pid
            assert victim.node_id == node_id
            held = [r["record_id"] for r in (await victim.call(Records()))["records"]]
            assert put["record_id"] in held
            assert await victim.stop() == 0

    asyncio.run(main())
    assert not list(tmp_path.glob("*/control.sock"))


def test_a_process_that_cannot_start_says_why(tmp_path: Path) -> None:
    async def main() -> None:
        net = Testnet.processes(1, tmp_path, arguments=lambda i: ("--suite", "9"))
        with pytest.raises(
            ControlError, match="node 0 ended before it reported 'ready': pqdht: suite must be"
        ):
            await net.start()
        await net.close()

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs handles of processes")
def test_no_process_outlives_its_parent(tmp_path: Path) -> None:
    """The parent is killed; its children notice that their standard input ended, and end in order."""
    program = (
        "import asyncio, pathlib\n"
        "from pqdht.testing.testnet import Testnet\n"
        "async def main():\n"
        f"    async with Testnet.processes(2, pathlib.Path({str(tmp_path)!r})) as net:\n"
        "        print(*(n.pid for n in net.nodes), flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        children = [os.pidfd_open(int(pid)) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(children) == 2
    for child in children:
        ended, _, _ = select.select([child], [], [], 20)
        assert ended == [child]
        os.close(child)
    assert not list(tmp_path.glob("*/control.sock"))
