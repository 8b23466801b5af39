"""Dialling, listening, closing and datagrams in the simulated network."""

from __future__ import annotations

import asyncio
from itertools import pairwise

import pytest

from pqdht.errors import Closed, ListenError, PeerTimeout, PeerUnreachable
from pqdht.testing.latency import Constant
from pqdht.testing.loop import run
from pqdht.testing.simnet import SimNetwork
from pqdht.transport.base import Transport
from pqdht.wire.address import Address, parse_address

from .ends import End, Listener, at, dial, pair

RTT = 0.08


def now() -> float:
    return asyncio.get_running_loop().time()


def test_it_is_a_transport() -> None:
    async def main() -> str:
        transport: Transport = SimNetwork().transport("10.0.1.1")
        return transport.scheme

    assert run(main) == "tcp"


def test_listening_resolves_ports_and_refuses_what_cannot_be() -> None:
    async def main() -> None:
        net = SimNetwork()
        transport = net.transport("10.0.1.1")
        assert await transport.listen(at("10.0.1.1", 5), End) == at("10.0.1.1", 5)
        first = await transport.listen(at("10.0.1.1", 0), End)
        second = await transport.listen(parse_address("tcp/0.0.0.0:0"), End)
        assert first.port != second.port
        assert first.port >= 49152
        for wrong in (at("10.0.1.1", 5), at("10.0.9.9", 6), parse_address("udp/10.0.1.1:7")):
            with pytest.raises(ListenError):
                await transport.listen(wrong, End)
        v6 = net.transport("2001:db8::1")
        assert str(await v6.listen(at("2001:db8::1"), End)) == "tcp/[2001:db8::1]:4733"

    run(main)


def test_a_dial_takes_one_round_trip() -> None:
    async def main() -> float:
        net = SimNetwork(latency=Constant(RTT))
        await Listener(net, "10.0.2.1").start()
        await dial(net.transport("10.0.1.1"), "10.0.2.1")
        return now()

    assert run(main) == pytest.approx(RTT)


def test_bytes_written_at_once_follow_the_opening() -> None:
    async def main() -> bytes:
        net = SimNetwork(seed=1, latency=Constant(RTT, jitter=1.0))
        listener = await Listener(net, "10.0.2.1").start()
        near = await dial(net.transport("10.0.1.1"), "10.0.2.1")
        near.link.write(b"early")
        near.link.close()
        await asyncio.sleep(1)
        assert listener.ends[0].error is None
        return listener.ends[0].data

    assert run(main) == b"early"


def test_nobody_listening_is_refused_after_a_round_trip() -> None:
    async def main() -> None:
        net = SimNetwork(latency=Constant(RTT))
        net.transport("10.0.2.1")
        with pytest.raises(PeerUnreachable, match="refused") as caught:
            await dial(net.transport("10.0.1.1"), "10.0.2.1")
        assert not isinstance(caught.value, PeerTimeout)
        assert now() == pytest.approx(RTT)

    run(main)


@pytest.mark.parametrize("fault", ["unknown", "unreachable", "firewalled", "partition", "silent crash"])
def test_a_black_hole_times_out(fault: str) -> None:
    async def main() -> None:
        net = SimNetwork()
        if fault != "unknown":
            await Listener(net, "10.0.2.1").start()
        if fault == "unreachable":
            net.unreachable("10.0.2.1")
        elif fault == "firewalled":
            net.unreachable("10.0.2.1", inbound_only=True)
        elif fault == "partition":
            net.partition([["10.0.2.1"]])
        elif fault == "silent crash":
            net.crash("10.0.2.1", silent=True)
        with pytest.raises(PeerTimeout):
            await dial(net.transport("10.0.1.1"), "10.0.2.1", timeout=7)
        assert now() == pytest.approx(7)

    run(main)


def test_a_name_or_another_scheme_cannot_be_dialled() -> None:
    async def main() -> None:
        transport = SimNetwork().transport("10.0.1.1")
        for text in ("tcp/example.org:1", "udp/10.0.2.1:1"):
            with pytest.raises(PeerUnreachable, match="no host"):
                await transport.dial(parse_address(text), End, 5)

    run(main)


def test_a_lost_syn_is_repeated_after_one_second_then_two() -> None:
    async def main(seed: int) -> float:
        net = SimNetwork(seed=seed, latency=Constant(RTT), loss=0.5)
        await Listener(net, "10.0.2.1").start()
        net.loop.call_later(6.9, setattr, net, "loss", 0.0)
        await dial(net.transport("10.0.1.1"), "10.0.2.1", timeout=20)
        return round(now() - RTT, 6)

    assert {run(main(seed)) for seed in range(60)} == {0.0, 1.0, 3.0, 7.0}


def test_a_dial_survives_a_partition_that_heals_in_time() -> None:
    async def main() -> float:
        net = SimNetwork(latency=Constant(RTT))
        await Listener(net, "10.0.2.1").start()
        net.partition([["10.0.1.1"], ["10.0.2.1"]], heal_at=2.5)
        await dial(net.transport("10.0.1.1"), "10.0.2.1")
        return now()

    assert run(main) == pytest.approx(3 + RTT)


def test_a_cancelled_dial_leaves_no_link() -> None:
    async def main(cancel_at: float) -> None:
        net = SimNetwork(latency=Constant(RTT))
        listener = await Listener(net, "10.0.2.1").start()
        ends: list[End] = []

        def accept(link: object) -> End:
            ends.append(End(link))  # type: ignore[arg-type]
            task.cancel()
            return ends[0]

        transport = net.transport("10.0.1.1")
        task = asyncio.ensure_future(transport.dial(at("10.0.2.1"), accept, 5))
        if cancel_at:
            net.loop.call_later(cancel_at, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(1)
        assert len(ends) == (0 if cancel_at else 1)
        assert all(len(e.lost) == 1 for e in ends + listener.ends)
        assert not transport.host.links
        assert not listener.transport.host.links

    run(main(RTT / 2))  # while the SYN is on its way
    run(main(0))  # in the very moment the link comes up


def test_an_accept_that_fails_fails_the_dial() -> None:
    async def main() -> None:
        net = SimNetwork()
        listener = await Listener(net, "10.0.2.1").start()

        def accept(link: object) -> End:
            raise KeyError("no handler")

        with pytest.raises(KeyError, match="no handler"):
            await net.transport("10.0.1.1").dial(at("10.0.2.1"), accept, 5)
        await asyncio.sleep(1)
        assert isinstance(listener.ends[0].error, PeerUnreachable)

    run(main)


def test_close_ends_links_listeners_and_dials() -> None:
    async def main() -> None:
        net = SimNetwork()
        near, far = await pair(net)
        transport = near.link.owner  # type: ignore[attr-defined]
        await transport.listen(at("10.0.1.1"), End)
        waiting = asyncio.ensure_future(dial(transport, "10.0.77.1"))
        await asyncio.sleep(0.01)
        await transport.close()
        assert near.error is None
        with pytest.raises(Closed):
            await waiting
        with pytest.raises(Closed):
            await dial(transport, "10.0.2.1")
        with pytest.raises(Closed):
            await transport.listen(at("10.0.1.1", 9), End)
        await asyncio.sleep(1)
        assert far.error is None
        with pytest.raises(PeerUnreachable, match="refused"):
            await dial(far.link.owner, "10.0.1.1")  # type: ignore[attr-defined]
        await transport.close()

    run(main)


def test_two_transports_of_one_host_close_apart() -> None:
    async def main() -> None:
        net = SimNetwork()
        one, two = net.transport("10.0.1.1"), net.transport("10.0.1.1")
        await one.listen(at("10.0.1.1", 1), End)
        await two.listen(at("10.0.1.1", 2), End)
        await one.close()
        link = await net.transport("10.0.2.1").dial(at("10.0.1.1", 2), End, 5)
        assert link.remote == at("10.0.1.1", 2)
        with pytest.raises(PeerUnreachable):
            await net.transport("10.0.2.1").dial(at("10.0.1.1", 1), End, 5)

    run(main)


def test_a_listener_that_closes_before_the_opening_arrives_resets() -> None:
    async def main() -> None:
        net = SimNetwork(latency=Constant(RTT))
        listener = await Listener(net, "10.0.2.1").start()
        near = await dial(net.transport("10.0.1.1"), "10.0.2.1")
        await listener.transport.close()
        await asyncio.sleep(1)
        assert listener.ends == []
        assert isinstance(near.error, PeerUnreachable)

    run(main)


def test_datagrams_arrive_once_in_half_a_round_trip() -> None:
    async def main() -> None:
        net = SimNetwork(latency=Constant(RTT))
        got: list[tuple[float, bytes, Address]] = []
        port = net.datagram("10.0.2.1", 5, lambda data, source: got.append((now(), data, source)))
        sender = net.datagram("10.0.1.1", 9, lambda data, source: None)
        sender.send(b"hello", port.address)
        sender.send(b"to nobody", parse_address("udp/10.0.2.1:6"))
        sender.send(b"to nowhere", parse_address("udp/10.0.3.1:5"))
        await asyncio.sleep(1)
        ((when, data, source),) = got
        assert (data, source) == (b"hello", sender.address)
        assert when == pytest.approx(RTT / 2)
        with pytest.raises(ListenError):
            net.datagram("10.0.2.1", 5, lambda data, source: None)
        with pytest.raises(ValueError, match="65507"):
            sender.send(bytes(65508), port.address)
        port.close()
        sender.send(b"too late", port.address)
        await asyncio.sleep(1)
        assert len(got) == 1
        net.crash("10.0.1.1")
        net.datagram("10.0.2.1", 5, lambda data, source: got.append((now(), data, source)))
        sender.send(b"from the dead", port.address)
        await asyncio.sleep(1)
        assert len(got) == 1

    run(main)


def test_datagrams_are_lost_doubled_and_reordered_as_asked() -> None:
    async def main() -> None:
        net = SimNetwork(seed=4, latency=Constant(RTT), loss=0.1, duplicate=0.2, reorder=0.3)
        got: list[int] = []
        port = net.datagram("10.0.2.1", 5, lambda data, source: got.append(int.from_bytes(data, "big")))
        sender = net.datagram("10.0.1.1", 9, lambda data, source: None)
        for i in range(5000):
            sender.send(i.to_bytes(4, "big"), port.address)
            await asyncio.sleep(0.005)
        await asyncio.sleep(1)
        # 1.2 copies each, nine tenths of which arrive
        assert 5200 < len(got) < 5600
        assert 4550 < len(set(got)) < 4750
        assert sum(a > b for a, b in pairwise(got)) > 500

    run(main)
