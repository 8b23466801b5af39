"""A defence that only observes changes nothing but logs: packet by packet the same as where it is off."""

from __future__ import annotations

import asyncio
import contextlib
from functools import cache

from pqdht.config import DEFENCES, DefenceMode
from pqdht.errors import PqdhtError
from pqdht.testing.adversaries import Gang, enlist
from pqdht.testing.loop import run
from tests.sim.arena import small
from tests.sim.harness import Net

NODES, EVIL = 16, 4
ASK = ("walk_check", "reports")
"""These cannot observe without asking or answering: a second walk, and what a report is found to prove."""


@cache
def trace(mode: DefenceMode) -> tuple[str, int]:
    """(hash of all packets, security events) of a small network with liars in it."""

    async def main() -> tuple[str, int]:
        modes: dict[str, DefenceMode] = dict.fromkeys(DEFENCES, mode) | dict.fromkeys(ASK, "off")
        net = Net(seed=6, params=small(4), defences=modes)
        await net.grow(NODES)
        gang = Gang()
        for i in range(1, 1 + EVIL):
            enlist(("forger", "contact_liar")[i % 2], [net.nodes[i]], gang)
        for i in range(6):
            with contextlib.suppress(PqdhtError):
                await net.nodes[5 + i].put(f"n{i}", b"v")
            for reader in (0, 12, 14):
                with contextlib.suppress(PqdhtError):
                    owner = net.seats[5 + i].owner.owner_id
                    await net.nodes[reader].get(f"n{i}", owner=owner, ignore_local=True)
        await asyncio.sleep(4000.0)  # walks, probes, a draw, a replication
        events = sum(sum(node._guard.events.counts.values()) for node in net.nodes)
        found = net.sim.trace_hash()
        await net.close()
        return found, events

    return run(main)


def test_what_is_observed_changes_no_packet() -> None:
    (observed, events), (off, _) = trace("observe"), trace("off")
    assert observed == off
    assert events > 100
    assert trace("enforce")[0] != off
