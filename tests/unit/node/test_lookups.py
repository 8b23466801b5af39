"""Walks: whom they reach, what they count, how they end."""

from __future__ import annotations

import pytest

from pqdht.config import DefenceMode as Mode
from pqdht.errors import NotBootstrapped
from pqdht.ids import distance
from pqdht.node.exchange import Answer
from pqdht.testing.loop import run
from pqdht.wire.messages import FindNode
from tests.sim.harness import Net


def test_a_walk_finds_the_closest_nodes_over_several_paths() -> None:
    async def main() -> None:
        net = Net(seed=4)
        await net.grow(16)
        node, target = net.nodes[7], bytes(range(32))
        walk = await node._lookups.find(target, end=8)
        others = sorted((n.node_id for n in net.nodes if n is not node), key=lambda i: distance(i, target))
        assert [c.node_id for c in walk.lookup.closest(8)] == others[:8]
        assert walk.lookup.paths_used == 4
        assert walk.queries >= len(walk.answers) > 8
        assert walk.bytes > 0
        assert {a.node_id for a in walk.answers.values()} == set(walk.answers)
        assert all(a.envelope and a.request for a in walk.answers.values())
        assert node.status()["counters"]["lookups_over_many_paths"] > 0
        await net.close()

    run(main)


def test_without_anybody_there_is_no_walk() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(1)
        with pytest.raises(NotBootstrapped):
            net.nodes[0]._lookups.begin(bytes(32), lambda *_: FindNode(bytes(32)), lambda a, p: False, end=5)
        await net.close()

    run(main)


def test_a_walk_goes_round_the_silent_and_stops_when_told() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(10)
        for i in (3, 4, 5):
            net.sim.unreachable(net.seats[i].ip)
        node = net.nodes[0]
        walk = await node._lookups.find(net.nodes[3].node_id, end=8)
        assert len(walk.answers) == 6
        assert walk.failures == 3
        seen: list[bytes] = []

        def enough(answer: Answer, path: int) -> bool:
            seen.append(answer.node_id)
            return True

        first = node._lookups.begin(bytes(32), lambda *_: FindNode(bytes(32)), enough, end=5)
        await node._lookups.drive(first)
        assert len(seen) == 1
        assert not first.lookup.done
        await net.close()

    run(main)


def test_a_walk_ends_at_its_time_limit() -> None:
    async def main() -> None:
        net = Net(lookup_timeout_s=1.0)
        await net.grow(6)
        for seat in net.seats[1:]:
            net.sim.unreachable(seat.ip)
        node = net.nodes[0]
        for conn in list(node._peers.sessions.values()):
            conn.link.abort()
        walk = await node._lookups.find(bytes(32), end=5)
        assert walk.answers == {}
        assert node.status()["counters"]["lookups_timed_out"] == 1
        await net.close()

    run(main)


def test_no_web_of_liars_makes_a_walk_ask_more_than_it_may() -> None:
    async def main() -> None:
        net = Net(seed=4)
        await net.grow(16)
        walk = await net.nodes[7]._lookups.find(bytes(range(32)), end=8, most=5)
        assert (walk.queries, len(walk.answers)) == (5, 5)
        await net.close()

    run(main)


@pytest.mark.parametrize(("mode", "views"), [("enforce", 4), ("observe", 1), ("off", 1)])
def test_the_size_is_estimated_from_paths_that_there_are(
    mode: Mode, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path that asked nobody has seen our own seeds only: a far sparser network."""

    async def main() -> None:
        net = Net(seed=4, defences={"disjoint_paths": mode})
        await net.grow(16)
        node = net.nodes[7]
        seen: list[int] = []

        def observe(target: bytes, closest: list[list[bytes]], now: float, *, is_suspect: bool) -> bool:
            seen.append(len(closest))
            return True

        monkeypatch.setattr(node._routing.sizes, "observe_paths", observe)
        await node._lookups.find(bytes(range(32)), end=8, is_sample=True)
        assert seen == [views]
        await net.close()

    run(main)
