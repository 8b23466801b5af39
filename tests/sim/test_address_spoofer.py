"""The address spoofer: nodes in one /24 claim addresses in as many networks, to be counted more often."""

from __future__ import annotations

from pqdht.testing.adversaries import Gang, enlist
from tests.sim.arena import Arena, run, small, without_observed_addresses

HONEST, SPOOFERS = 10, 14
MOST = 4
"""Contacts of one /24 in a table."""


def ips(i: int) -> str:
    return f"10.0.{i}.1" if i < HONEST else f"10.66.6.{i}"


async def scenario(arena: Arena) -> list[int]:
    """How many spoofers each honest node holds in its table."""
    net = arena.net
    await net.grow(HONEST, pause_s=0.1)
    gang = Gang()
    for _ in range(SPOOFERS):
        node = await net.add()
        await node.bootstrapped(60.0)
        enlist("address_spoofer", [node], gang)
    for honest in range(HONEST):
        for member in gang.members.values():
            await member.meet(net.entry(honest))
    tables = [net.nodes[i].peers() for i in range(HONEST)]
    return [sum(bytes(p.node_id) in gang.members for p in table) for table in tables]


def test_a_node_is_counted_under_the_address_that_answered() -> None:
    params = small(table_per_group=MOST)
    with without_observed_addresses():
        held, _ = run(scenario, 0, grown=False, seed=1, params=params, ips=ips)
    assert max(held) > 2 * MOST

    held, _ = run(scenario, 0, grown=False, seed=1, params=params, ips=ips)
    assert max(held) <= MOST
