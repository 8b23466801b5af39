"""The simulated network as a whole: faults, clocks, counters, and the same trace from the same seed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pqdht.errors import Closed, PeerTimeout, PeerUnreachable
from pqdht.testing.latency import Constant, Coordinates
from pqdht.testing.loop import run
from pqdht.testing.simnet import EPOCH_MS, Kind, SimNetwork
from pqdht.transport.base import Link

from .ends import End, Listener, at, dial, pair

A, B, C = "10.0.1.1", "10.0.2.1", "10.0.3.1"


def test_a_partition_divides_and_heals() -> None:
    async def main() -> None:
        net = SimNetwork(latency=Constant(0.02))
        listeners = {ip: await Listener(net, ip).start() for ip in (A, B, C)}
        a = listeners[A].transport
        ab, ac = await dial(a, B), await dial(a, C)
        await asyncio.sleep(1)
        net.partition([[A, C]], heal_at=60.0)
        ab.link.write(b"lost")
        ac.link.write(b"same side")
        await asyncio.sleep(5)
        assert isinstance(ab.error, PeerUnreachable)
        assert listeners[C].ends[0].data == b"same side"
        assert listeners[B].ends[0].data == b""
        assert listeners[B].ends[0].lost == []  # half open: it has heard nothing
        with pytest.raises(PeerTimeout):
            await dial(a, B)
        await asyncio.sleep(60)
        listeners[B].ends[0].link.write(b"still there?")
        await asyncio.sleep(1)
        assert isinstance(listeners[B].ends[0].error, PeerUnreachable)
        again = await dial(a, B)
        again.link.write(b"healed")
        await asyncio.sleep(1)
        assert listeners[B].ends[1].data == b"healed"

    run(main)


def test_a_short_partition_only_delays() -> None:
    async def main() -> None:
        net = SimNetwork(latency=Constant(0.02))
        near, far = await pair(net)
        net.partition([[A]], heal_at=1.3)
        near.link.write(b"late")
        await asyncio.sleep(5)
        assert far.data == b"late"
        assert far.times[0] == pytest.approx(1.04 + 0.01 + 2 * 0.2, abs=0.05)
        assert near.lost == []

    run(main)


def test_a_late_heal_does_not_end_a_newer_partition() -> None:
    async def main() -> None:
        net = SimNetwork()
        await Listener(net, B).start()
        a = net.transport(A)
        net.partition([[A], [B]], heal_at=10.0)
        net.partition([[A], [B]], heal_at=100.0)
        await asyncio.sleep(20)
        with pytest.raises(PeerTimeout):
            await dial(a, B)
        net.heal()
        assert (await dial(a, B)).lost == []

    run(main)


def test_a_crash_resets_the_peers_and_kills_the_transport() -> None:
    async def main() -> None:
        net = SimNetwork()
        near, far = await pair(net)
        dead = far.link.owner  # type: ignore[attr-defined]
        waiting = asyncio.ensure_future(dial(dead, "10.0.77.1"))
        await asyncio.sleep(0.01)
        net.crash(B)
        far.link.write(b"from beyond")
        far.link.close()
        await asyncio.sleep(1)
        assert isinstance(near.error, PeerUnreachable)
        assert near.data == b""
        assert far.lost == []  # the dead hear nothing
        with pytest.raises(Closed):
            await waiting
        with pytest.raises(PeerUnreachable, match="refused"):
            await dial(near.link.owner, B)  # type: ignore[attr-defined]
        net.restart(B)
        for attempt in (dead.listen(at(B), End), dead.dial(at(A), End, 1)):
            with pytest.raises(Closed):
                await attempt
        reborn = await Listener(net, B).start()
        again = await dial(near.link.owner, B)  # type: ignore[attr-defined]
        again.link.write(b"welcome back")
        await asyncio.sleep(1)
        assert reborn.ends[0].data == b"welcome back"

    run(main)


def test_a_silent_crash_is_noticed_only_by_writing() -> None:
    async def main() -> None:
        net = SimNetwork()
        near, _ = await pair(net)
        net.crash(B, silent=True)
        await asyncio.sleep(1000)
        assert near.lost == []
        near.link.write(b"hello?")
        await asyncio.sleep(1)
        assert isinstance(near.error, PeerUnreachable)
        assert "three losses" in str(near.error)

    run(main)


def test_unreachable_cuts_both_ways_and_a_firewall_only_dials() -> None:
    async def main() -> None:
        net = SimNetwork()
        b = await Listener(net, B).start()
        a = await Listener(net, A).start()
        net.unreachable(B, inbound_only=True)
        near = await dial(b.transport, A)
        near.link.write(b"out")
        await asyncio.sleep(1)
        a.ends[0].link.write(b"and back")
        await asyncio.sleep(1)
        assert (a.ends[0].data, near.data) == (b"out", b"and back")
        net.unreachable(B)
        near.link.write(b"cut")
        await asyncio.sleep(1)
        assert isinstance(near.error, PeerUnreachable)
        assert a.ends[0].data == b"out"
        net.unreachable(B, False)
        net.unreachable(B, False, inbound_only=True)
        assert (await dial(a.transport, B)).lost == []

    run(main)


def test_clocks_follow_virtual_time_and_their_skew() -> None:
    async def main() -> None:
        net = SimNetwork()
        a, b = net.clock(A), net.clock(B)
        assert a() == b() == EPOCH_MS
        await asyncio.sleep(1.001)
        assert a() == EPOCH_MS + 1001
        net.set_skew(B, -90_000)
        assert b() - a() == -90_000
        net.set_skew(B, 5)
        assert b() - a() == 5
        assert SimNetwork(epoch_ms=0).clock(A)() == 1001

    run(main)


def test_counters_and_recent_packets_tell_what_arrived() -> None:
    async def main() -> None:
        net = SimNetwork(keep=3, latency=Constant(0.02))
        near, far = await pair(net)  # SYN and OPEN against SYN_ACK
        near.link.write(bytes(100))
        await asyncio.sleep(1)
        near.link.close()
        await asyncio.sleep(0.005)
        far.link.write(bytes(7))  # nobody is there any more
        await asyncio.sleep(1)
        a, b = net.traffic(A), net.traffic(B)
        assert (a.bytes_sent, a.bytes_received) == (b.bytes_received, b.bytes_sent) == (100, 7)
        assert (a.packets_sent, a.packets_received) == (b.packets_received, b.packets_sent) == (4, 2)
        assert a.losses == b.losses == 0
        packets = [(p.time_us, p.kind, p.source, p.length) for p in net.recent]
        assert packets == [
            (1_030_000, Kind.DATA, A, 100),
            (2_030_000, Kind.FIN, A, 0),
            (2_035_000, Kind.DATA, B, 7),
        ]

    run(main)


async def _crowd(seed: int, split: bool = False) -> SimNetwork:
    """Twenty hosts that chatter, with every kind of fault, until a group of tasks is cancelled."""

    class Echo(End):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(data) > 1:
                self.link.write(data[1:])

    net = SimNetwork(seed=seed, latency=Coordinates(seed), loss=0.05, split=split, reorder=0.2, duplicate=0.1)
    ips = [f"10.0.{i}.1" for i in range(20)]
    transports = {ip: net.transport(ip) for ip in ips}
    for ip in ips:
        await transports[ip].listen(at(ip), Echo)

    async def talk(i: int) -> None:
        for j in range(1, 6):
            try:
                link: Link = await transports[ips[i]].dial(at(ips[(i + j) % 20]), Echo, 5)
            except (PeerUnreachable, Closed):
                continue
            link.write(bytes([i, j]) * 20)
            await asyncio.sleep(1)
            link.close()

    async def last_word(link: Link, i: int) -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            link.write(i.to_bytes(2, "big"))

    net.loop.call_at(2.0, net.partition, [ips[:5], ips[5:]], 9.0)
    net.loop.call_at(1.0, net.crash, ips[7])
    net.loop.call_at(1.5, net.unreachable, ips[9])
    await asyncio.gather(*(talk(i) for i in range(20)))
    link = await transports[ips[0]].dial(at(ips[1]), Echo, 5)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1), asyncio.TaskGroup() as group:
            for i in range(2000):  # so many that the set's order shows where memory lies
                group.create_task(last_word(link, i))
    await asyncio.sleep(60)
    return net


def test_the_same_seed_gives_the_same_trace_under_any_hash_seed() -> None:
    """In three processes, so that memory addresses differ too."""
    program = (
        "from tests.unit.testing.test_simnet import _crowd\n"
        "from pqdht.testing.loop import run\n"
        "for split in (False, True):\n"
        "    print(run(_crowd(11, split)).trace_hash())\n"
    )
    root = Path(__file__).parents[3]

    def hashes(hash_seed: str) -> list[str]:
        path = os.pathsep.join([str(root / "src"), str(root)])
        env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", program], env=env, cwd=root, capture_output=True, text=True, check=True
        )
        return done.stdout.split()

    first = hashes("0")
    assert len(set(first)) == 2
    assert hashes("1") == first
    assert hashes("4242") == first


def test_another_seed_gives_another_trace() -> None:
    traces = [run(_crowd(seed)) for seed in (11, 12)]
    assert traces[0].trace_hash() != traces[1].trace_hash()
    assert traces[0].traffic("10.0.0.1").packets_sent > 20


def test_the_trace_covers_content_and_time() -> None:
    async def main(data: bytes, wait: float) -> str:
        net = SimNetwork()
        near, _ = await pair(net)
        await asyncio.sleep(wait)
        near.link.write(data)
        await asyncio.sleep(1)
        return net.trace_hash()

    hashes = [run(main(*case)) for case in ((b"a", 0.0), (b"b", 0.0), (b"a", 0.000001), (b"a", 0.0))]
    assert len(set(hashes)) == 3
    assert hashes[0] == hashes[3]
