"""The eclipser of one node: many that meet the victim before anybody else does and name only each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pqdht.config import DefenceMode
from pqdht.testing.adversaries import Gang, enlist
from tests.sim.arena import Arena, Read, run, small

HONEST, ECLIPSERS = 18, 26
MOST = 3
"""Contacts of one /24 in a table."""


def many_prefixes(i: int) -> str:
    """Every node in a /24 of its own."""
    return f"10.0.{i}.1"


def two_prefixes(i: int) -> str:
    """All eclipsers in two /24s."""
    is_honest = i < HONEST or i == HONEST + ECLIPSERS
    return many_prefixes(i) if is_honest else f"10.66.{i % 2}.{i}"


@dataclass
class Eclipse:
    """What became of the victim."""

    reads: list[Read]
    held: int
    """Eclipsers in its table."""
    share: float
    """Of its table."""
    trace: str


def eclipse(
    mode: DefenceMode,
    ips: Callable[[int], str] = many_prefixes,
    *,
    address_groups: bool = True,
    **settings: Any,
) -> Eclipse:
    """The victim joins through an honest node, and hears of the eclipsers first."""

    async def scenario(arena: Arena) -> tuple[list[Read], int, float]:
        net = arena.net
        await net.grow(HONEST, pause_s=0.1)
        await arena.put(0, "x", b"here")
        for _ in range(ECLIPSERS):
            await (await net.add()).bootstrapped(60.0)
        victim = HONEST + ECLIPSERS
        gang = Gang()
        enlist("eclipser", net.nodes[HONEST:victim], gang)
        node = await net.add(bootstrap=(net.entry(5),))
        gang.victim = net.entry(victim)
        await gang.act()
        await node.bootstrapped(60.0)
        await asyncio.sleep(2.0)
        table = node.peers()
        held = sum(bytes(p.node_id) in gang.members for p in table)
        return [await arena.get(victim, 0, "x") for _ in range(2)], held, held / len(table)

    params = replace(small(table_per_group=MOST), address_groups=address_groups)
    (reads, held, share), trace = run(
        scenario, 0, grown=False, seed=1, params=params, ips=ips, defences={"disjoint_paths": mode},
        **settings,
    )  # fmt: skip
    return Eclipse(reads, held, share, trace)


def test_disjoint_paths_find_a_way_out_of_a_full_table() -> None:
    off = eclipse("off")
    assert off.share > 0.7
    assert {r.verdict for r in off.reads} == {"absent"}
    assert eclipse("observe").trace == off.trace

    enforced = eclipse("enforce")
    assert [r.value for r in enforced.reads] == [b"here"] * 2


def test_two_prefixes_do_not_fill_a_table() -> None:
    without = eclipse("off", two_prefixes, address_groups=False)
    assert {r.verdict for r in without.reads} == {"absent"}

    limited = eclipse("enforce", two_prefixes)
    assert limited.held <= 2 * MOST <= without.held / 3
    assert [r.value for r in limited.reads] == [b"here"] * 2


@pytest.mark.parametrize("has_memory", [False, True], ids=["first start", "restart"])
def test_remembered_peers_lead_past_a_bootstrap_node_that_eclipses(has_memory: bool) -> None:
    """The victim's only bootstrap entry is an eclipser."""

    async def scenario(arena: Arena) -> Read:
        net = arena.net
        await arena.put(0, "x", b"here")
        victim = len(net.nodes)
        if has_memory:
            await (await net.add()).bootstrapped(60.0)
            await asyncio.sleep(120.0)
            await net.crash(victim)
        gang = arena.enlist("eclipser", *range(14, 20))
        entry = next(m.entry for m in gang.members.values())
        if has_memory:
            net.seats[victim].bootstrap = (entry,)
            node = await net.restart(victim)
        else:
            node = await net.add(bootstrap=(entry,))
        await node.bootstrapped(60.0)
        return await arena.get(victim, 0, "x")

    read, _ = run(scenario, 20, seed=1, params=small())
    assert read.value == (b"here" if has_memory else None)


def test_a_get_that_saw_nothing_looks_once_more_over_more_paths() -> None:
    few: dict[str, Any] = {"paths": 2, "path_end": 3, "path_end_doubt": 4}
    assert {r.verdict for r in eclipse("enforce", **few, paths_doubt=2).reads} == {"absent"}
    assert [r.value for r in eclipse("enforce", **few, paths_doubt=8).reads] == [b"here"] * 2
