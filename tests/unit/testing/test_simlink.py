"""A simulated link: ordered, delayed, retransmitted, reset, and held up by a slow reader."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from pqdht.errors import PeerUnreachable
from pqdht.testing.latency import Constant, Coordinates
from pqdht.testing.loop import Leaked, run
from pqdht.testing.simnet import Kind, SimNetwork
from pqdht.transport.base import Link

from .ends import PORT, End, at, dial, pair

RTT = 0.08


def test_bytes_take_half_a_round_trip_each_way() -> None:
    async def main() -> None:
        net = SimNetwork(latency=Constant(RTT))
        near, far = await pair(net)
        assert (near.link.outbound, far.link.outbound) == (True, False)
        assert near.link.remote == at("10.0.2.1")
        assert (far.link.remote.host, far.link.remote.ip is not None) == ("10.0.1.1", True)
        assert near.opened == pytest.approx(RTT)
        assert far.opened == pytest.approx(1.5 * RTT)
        near.link.write(b"question")
        await asyncio.sleep(RTT)
        far.link.write(b"answer")
        await asyncio.sleep(RTT)
        assert (far.data, near.data) == (b"question", b"answer")
        assert far.times[0] - near.times[0] == pytest.approx(-RTT)

    run(main)


def test_writes_of_one_instant_are_one_packet() -> None:
    async def main() -> None:
        net = SimNetwork(keep=10)
        near, far = await pair(net)
        net.recent.clear()
        for i in range(100):
            near.link.write(bytes([i]))
        near.link.write(b"")
        await asyncio.sleep(1)
        assert far.chunks == [bytes(range(100))]
        near.link.write(bytes(40_000))
        near.link.write(bytes(40_000))
        await asyncio.sleep(1)
        assert [(p.kind, p.length) for p in net.recent] == [
            (Kind.DATA, 100),
            (Kind.DATA, 40_000),
            (Kind.DATA, 40_000),
        ]

    run(main)


def test_split_cuts_segments_and_keeps_every_byte() -> None:
    async def main() -> int:
        net = SimNetwork(seed=5, split=True)
        near, far = await pair(net)
        sent = bytes(range(256)) * 10
        for i in range(0, len(sent), 64):
            near.link.write(sent[i : i + 64])
            await asyncio.sleep(0.1)
        await asyncio.sleep(1)
        assert far.data == sent
        assert b"" not in far.chunks
        return len(far.chunks)

    assert run(main) > 60  # 40 segments, each in 1 to 6 pieces


def test_a_paused_reader_gets_nothing_until_it_resumes() -> None:
    async def main() -> None:
        near, far = await pair(SimNetwork())
        far.link.pause_reading()
        near.link.write(b"one")
        await asyncio.sleep(10)
        near.link.write(b"two")
        near.link.close()
        await asyncio.sleep(10)
        assert (far.chunks, far.lost) == ([], [])
        far.link.resume_reading()
        await asyncio.sleep(1)
        assert far.chunks == [b"one", b"two"]
        assert far.error is None

    run(main)


def test_pausing_in_the_middle_of_a_split_segment_keeps_the_rest() -> None:
    class Hesitant(End):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.link.pause_reading()
            self.loop.call_later(1, self.link.resume_reading)

    async def main() -> None:
        net = SimNetwork(seed=3, split=True)
        ends: list[Hesitant] = []

        def accept(link: Link) -> Hesitant:
            ends.append(Hesitant(link))
            return ends[-1]

        await net.transport("10.0.2.1").listen(at("10.0.2.1"), accept)
        near = await dial(net.transport("10.0.1.1"), "10.0.2.1")
        near.link.write(bytes(range(200)))
        await asyncio.sleep(100)
        assert ends[0].data == bytes(range(200))
        assert len(ends[0].chunks) > 1
        assert all(b - a >= 1 for a, b in pairwise(ends[0].times))

    run(main)


def test_a_slow_reader_pauses_the_writer() -> None:
    async def main() -> None:
        near, far = await pair(SimNetwork(send_buffer=1000))
        far.link.pause_reading()
        near.link.write(bytes(1000))
        assert near.paused == []
        near.link.write(b"x")
        near.link.write(b"x")
        assert near.paused == [True]
        await asyncio.sleep(10)
        assert near.paused == [True]
        far.link.resume_reading()
        await asyncio.sleep(1)
        assert near.paused == [True, False]
        assert len(far.data) == 1002

    run(main)


def test_close_delivers_what_was_written_then_ends_both_sides() -> None:
    async def main() -> None:
        near, far = await pair(SimNetwork(latency=Constant(RTT)))
        near.link.write(b"last words")
        near.link.close()
        near.link.close()
        near.link.write(b"dropped")
        assert near.lost == []  # never from within the call
        await asyncio.sleep(1)
        assert far.data == b"last words"
        assert (near.error, far.error) == (None, None)
        assert far.lost[0][0] - near.lost[0][0] == pytest.approx(RTT / 2)

    run(main)


def test_abort_resets_the_other_end() -> None:
    async def main() -> None:
        near, far = await pair(SimNetwork())
        near.link.abort()
        await asyncio.sleep(1)
        assert near.error is None
        assert isinstance(far.error, PeerUnreachable)
        far.link.write(b"dropped")
        far.link.close()
        await asyncio.sleep(1)
        assert len(far.lost) == len(near.lost) == 1

    run(main)


def test_writing_to_an_end_that_is_gone_resets() -> None:
    async def main() -> None:
        net = SimNetwork()
        near, far = await pair(net)
        net.crash("10.0.2.1", silent=True)
        net.restart("10.0.2.1")
        await asyncio.sleep(100)
        assert near.lost == []
        near.link.write(b"anybody there?")
        await asyncio.sleep(1)
        assert isinstance(near.error, PeerUnreachable)
        assert (far.lost, far.data) == ([], b"")

    run(main)


def test_a_loss_costs_one_retransmission_timeout_and_holds_up_what_follows() -> None:
    async def main(seed: int) -> tuple[int, float, bool]:
        net = SimNetwork(seed=seed, latency=Constant(RTT))
        near, far = await pair(net)
        net.loss = 0.5
        start = asyncio.get_running_loop().time()
        near.link.write(b"first")
        losses = net.traffic("10.0.1.1").losses
        net.loss = 0
        await asyncio.sleep(0.001)
        near.link.write(b"second")
        await asyncio.sleep(2)
        if far.chunks:
            assert far.chunks == [b"first", b"second"]
            assert far.times[1] >= far.times[0]
        return losses, (far.times[0] if far.chunks else far.lost[0][0]) - start, bool(far.chunks)

    seen = set()
    for seed in range(100):
        losses, took, arrived = run(main(seed))
        seen.add(losses)
        assert arrived == (losses < 3)
        assert took == pytest.approx(RTT / 2 + 0.2 * losses)
    assert seen == {0, 1, 2, 3}


def test_a_long_path_has_a_long_retransmission_timeout() -> None:
    async def main() -> float:
        net = SimNetwork(seed=1, latency=Constant(0.6))
        near, far = await pair(net)
        net.loss = 1.0
        start = asyncio.get_running_loop().time()
        near.link.write(b"never")
        await asyncio.sleep(10)
        assert isinstance(far.error, PeerUnreachable)
        assert isinstance(near.error, PeerUnreachable)
        return near.lost[0][0] - start

    assert run(main) == pytest.approx(3 * 0.6)


def test_loss_and_reset_rates_are_those_asked_for() -> None:
    async def main() -> tuple[int, int, int]:
        net = SimNetwork(seed=2, latency=Coordinates(2))
        near, far = await pair(net)
        net.loss = 0.2
        resets = 0
        for _ in range(4000):
            near.link.write(b"x")
            await asyncio.sleep(3)
            if near.lost:
                resets += 1
                net.loss = 0.0
                near = await dial(near.link.owner, "10.0.2.1")  # type: ignore[attr-defined]
                net.loss = 0.2
        del far
        return 4000, net.traffic("10.0.1.1").losses, resets

    sent, losses, resets = run(main)
    # expected losses per segment: p + p^2 + p^3 = 0.248; resets: p^3 = 0.008 (4 sigma: 22)
    assert 0.22 < losses / sent < 0.28
    assert 10 < resets < 54


def test_bandwidth_takes_time_and_is_shared_by_the_links_of_a_host() -> None:
    async def main() -> None:
        net = SimNetwork(latency=Constant(RTT), bandwidth=10_000)
        near, far = await pair(net)
        other = await dial(near.link.owner, "10.0.2.1")  # type: ignore[attr-defined]
        start = asyncio.get_running_loop().time()
        near.link.write(bytes(5_000))
        other.link.write(bytes(5_000))
        near.link.write(b"x")
        await asyncio.sleep(5)
        assert far.times == pytest.approx([start + 0.5 + RTT / 2, start + 1.0001 + RTT / 2])

    run(main)


def test_a_handler_that_fails_is_reported_and_loses_its_link() -> None:
    class Broken(End):
        def data_received(self, data: bytes) -> None:
            raise KeyError("broken handler")

    async def main() -> None:
        net = SimNetwork()
        ends: list[Broken] = []

        def accept(link: Link) -> Broken:
            ends.append(Broken(link))
            return ends[-1]

        await net.transport("10.0.2.1").listen(at("10.0.2.1"), accept)
        near = await dial(net.transport("10.0.1.1"), "10.0.2.1")
        near.link.write(b"boom")
        await asyncio.sleep(1)
        assert isinstance(ends[0].error, KeyError)
        assert isinstance(near.error, PeerUnreachable)

    with pytest.raises(Leaked, match="broken handler"):
        run(main)


def test_links_within_one_host_work() -> None:
    async def main() -> None:
        near, far = await pair(SimNetwork(), "10.0.1.1", "10.0.1.1")
        near.link.write(b"loopback")
        await asyncio.sleep(0.001)
        assert far.data == b"loopback"
        assert far.link.remote.port >= 49152
        assert near.link.remote.port == PORT

    run(main)
