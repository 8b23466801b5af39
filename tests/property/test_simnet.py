"""A simulated link is an ordered, reliable stream, whatever is written when, lost, cut or paused."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from pqdht.errors import PeerUnreachable
from pqdht.testing.latency import Coordinates
from pqdht.testing.loop import run
from pqdht.testing.simnet import SimNetwork

from ..unit.testing.ends import pair

WRITES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.0, 1e-6, 0.01, 0.3, 2.0]), st.binary(max_size=40), st.booleans()),
    max_size=25,
)


@given(
    writes=WRITES,
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.05, 0.4]),
    split=st.booleans(),
    bandwidth=st.sampled_from([None, 500.0]),
    end=st.sampled_from(["close", "abort", "crash", "cut", "open"]),
)
def test_the_reader_sees_a_prefix_of_what_was_written_and_all_of_it_after_an_orderly_end(
    writes: list[tuple[float, bytes, bool]],
    seed: int,
    loss: float,
    split: bool,
    bandwidth: float | None,
    end: str,
) -> None:
    async def main() -> None:
        net = SimNetwork(
            seed=seed, latency=Coordinates(seed), split=split, bandwidth=bandwidth, send_buffer=100
        )
        near, far = await pair(net)
        net.loss = loss
        sent = b""
        for wait, data, reading in writes:
            if wait:
                await asyncio.sleep(wait)
            if not near.lost:
                sent += data
            near.link.write(data)
            (far.link.resume_reading if reading else far.link.pause_reading)()
        far.link.resume_reading()
        if end == "cut":
            net.unreachable("10.0.2.1")
        elif end == "crash":
            net.crash("10.0.1.1")
        elif end != "open":
            getattr(near.link, end)()
        await asyncio.sleep(120)

        assert sent.startswith(far.data)
        assert len(far.lost) <= 1
        assert len(near.lost) <= 1
        assert all(a != b for a, b in pairwise(near.paused))
        assert far.times == sorted(far.times)
        if far.lost and far.error is None:
            assert end == "close"
            assert far.data == sent
        if end == "open" and not loss:
            assert (far.data, near.lost, far.lost) == (sent, [], [])
        if end in ("abort", "crash"):
            assert isinstance(far.error, PeerUnreachable)

    run(main)
