"""Two walks of one target, from the table and from elsewhere: an eclipse shows where the two differ."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from pqdht.constants import TESTNET
from pqdht.identity.contact import VerifiedContact
from pqdht.ids import NodeId
from pqdht.node.dht import SecureDHT
from pqdht.node.maintenance import WALKS_PER_CHECK
from pqdht.testing.loop import run
from pqdht.trust.events import EventKind
from tests.sim.harness import Net

MEMBERS, PRISON = 24, 12
SMALL = replace(TESTNET, k=4)
"""Buckets so small that the captor's nodes fill them."""


def alarms(net: Net, i: int) -> int:
    return net.nodes[i]._guard.events.counts[EventKind.ECLIPSE_ALARM]


async def walk(net: Net, i: int, checks: int) -> None:
    for _ in range(checks * WALKS_PER_CHECK):
        await net.nodes[i]._maintenance.walk()


def test_a_node_among_honest_ones_raises_no_alarm() -> None:
    async def main() -> None:
        net = Net()
        await net.grow(4, pause_s=0.1)
        net.bootstrap = tuple(net.entry(i) for i in range(4))
        await net.grow(MEMBERS - 4, pause_s=0.1)
        await walk(net, 20, 6)
        assert alarms(net, 20) == 0
        await net.close()

    run(main)


def names_only(captor: SecureDHT, captors: set[NodeId]) -> None:
    """From now on a node names its own kind and nobody else."""
    honest = captor._routing.to_pass_on

    def to_pass_on(target: bytes, n: int, exclude: bytes) -> list[tuple[int, VerifiedContact]]:
        return [(away, c) for away, c in honest(target, 1000, exclude) if c.node_id in captors][:n]

    captor._routing.to_pass_on = to_pass_on  # type: ignore[method-assign]


def eclipsed(mode: str) -> tuple[int, int]:
    """(alarms, honest nodes in the table) of one whose table holds captors only, for six checks."""
    outcome: list[tuple[int, int]] = []

    async def main() -> None:
        net = Net(params=SMALL, defences={"walk_check": mode})
        await net.grow(4, pause_s=0.1)
        net.bootstrap = tuple(net.entry(i) for i in range(4))
        await net.grow(MEMBERS - 4, pause_s=0.1)
        honest = {s.identity.node_id for s in net.seats}
        known = net.bootstrap
        net.bootstrap = ()
        await net.add()  # another network: what a captor shows its victim
        net.bootstrap = (net.entry(MEMBERS),)
        await net.grow(PRISON - 1, pause_s=0.1)
        captors = {s.identity.node_id for s in net.seats[MEMBERS:]}
        for captor in net.nodes[MEMBERS:]:
            names_only(captor, captors)
        victim = await net.add()
        table = victim._routing.table
        await asyncio.sleep(30.0)
        victim.env.config = replace(victim.env.config, pinned=known)  # now its operator has heard of others
        assert len(table) > 4
        await walk(net, MEMBERS + PRISON, 6)
        outcome.append((alarms(net, MEMBERS + PRISON), sum(e.node_id in honest for e in table)))
        await net.close()

    run(main)
    return outcome[0]


def test_walks_from_elsewhere_lead_out_of_another_network() -> None:
    """Whoever they meet enters the table: the eclipse may end before it looks systematic."""
    assert eclipsed("enforce")[1] > 4
    assert eclipsed("off") == (0, 0)
