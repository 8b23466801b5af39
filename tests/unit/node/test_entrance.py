"""Joining: with the first answer, whoever else is silent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pqdht.errors import NotBootstrapped
from pqdht.node.entrance import RETRY_MOST_S
from pqdht.testing.latency import Constant
from pqdht.testing.loop import run
from tests.sim.harness import Net, counter

RTT = 0.05
JOINED = 3 * RTT
"""Connect, and pqXX with the first question in its second flight."""


def now() -> float:
    return asyncio.get_running_loop().time()


def network(**settings: Any) -> Net:
    return Net(simulator={"latency": Constant(RTT)}, **settings)


def test_one_answer_is_enough_whoever_else_is_silent() -> None:
    async def main() -> None:
        net = network()
        await net.grow(6)
        for i in (1, 2):
            net.sim.unreachable(net.seats[i].ip)
        begun = now()
        node = await net.add(bootstrap=tuple(net.entry(i) for i in (1, 2, 3)))
        await node.bootstrapped(60.0)
        assert now() - begun == pytest.approx(JOINED, abs=0.001)
        await asyncio.sleep(10.0)
        assert counter(node, "join_attempts_failed") == 2
        assert len(node.env.join_errors) == 2
        assert node.status()["table"] == 4, "the look around went on meanwhile"
        await net.close()

    run(main)


def test_the_look_around_begins_with_the_neighbours_that_the_first_answer_named() -> None:
    async def main() -> None:
        net = network()
        await net.grow(12)
        node = await net.add()
        await node.bootstrapped(60.0)
        await asyncio.sleep(3.5 * RTT)  # connect, pqXX: not a question before
        assert node.status()["table"] > 3, "they were dialled at once, not asked for again"
        await net.close()

    run(main)


def test_without_early_questions_joining_takes_one_more_round_trip() -> None:
    async def main() -> None:
        net = network(early="never")
        await net.grow(3)
        begun = now()
        node = await net.add()
        await node.bootstrapped(60.0)
        assert now() - begun == pytest.approx(JOINED + RTT, abs=0.001)
        await net.close()

    run(main)


def test_who_closes_while_others_are_still_silent_leaves_nothing_behind() -> None:
    async def main() -> None:
        net = network()
        await net.grow(3)
        net.sim.unreachable(net.seats[1].ip)
        one = await net.add(bootstrap=(net.entry(1), net.entry(2)))
        await one.bootstrapped(60.0)
        await one.close()
        other = await net.add(bootstrap=(net.entry(1),))
        with pytest.raises(NotBootstrapped):
            await other.bootstrapped(1.0)
        await other.close()
        net.up[3] = net.up[4] = False
        await net.close()

    run(main)  # fails if a task is left


def test_who_finds_nobody_tries_again() -> None:
    async def main() -> None:
        net = network()
        await net.grow(3)
        net.sim.unreachable(net.seats[1].ip)
        node = await net.add(bootstrap=(net.entry(1),))
        await asyncio.sleep(8.0)
        assert not node.status()["bootstrapped"]
        net.sim.unreachable(net.seats[1].ip, False)
        await node.bootstrapped(60.0)
        assert counter(node, "join_attempts_failed") >= 1
        await net.close()

    run(main)


def test_an_entry_that_was_down_for_long_is_joined_soon_after_it_is_back() -> None:
    """What the operator wrote is nobody's hint: no cool-down of unverified dials holds it back."""

    async def main() -> None:
        net = network()
        await net.grow(2)
        net.sim.unreachable(net.seats[1].ip)
        node = await net.add(bootstrap=(net.entry(1),))
        await asyncio.sleep(400.0)
        assert counter(node, "dials_held_back") == 0
        assert len(node._routing.table) == 0
        assert list(node.env.join_errors) == [net.entry(1)]
        net.sim.unreachable(net.seats[1].ip, False)
        await node.bootstrapped(RETRY_MOST_S * 1.2 + 10.0)
        await net.close()

    run(main)
