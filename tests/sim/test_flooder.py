"""The flooder: ten times the allowance of a prefix, all of it valid, from several ids."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from pqdht.errors import PqdhtError
from pqdht.testing.adversaries.floods import TIMES, Flooder
from pqdht.trust.events import EventKind
from pqdht.wire.messages import FindNode
from tests.sim.arena import Arena, run, small
from tests.sim.harness import codes, contact, counter

HONEST, FLOODERS, VICTIM, NEIGHBOUR = 8, 4, 1, 12
"""The neighbour is behind the flooders' prefix."""
LIMITS: dict[str, Any] = {
    "request_cost_per_s": 20.0,
    "request_cost_burst": 40.0,
    "group_cost_per_s": 40.0,
    "group_cost_burst": 80.0,
}
FIND_NODE_COST = 1.5
SEED = 1


def place(i: int) -> str:
    """The flooders and the neighbour share a /24; everybody else has its own."""
    return f"10.99.0.{i}" if i >= HONEST else f"10.0.{i}.1"


@dataclass
class Outcome:
    """What the flood came to."""

    served_units: float = 0.0
    """Work that the victim did for the flooders, ..."""
    allowed: float = 0.0
    """... and what their prefix may have in that time."""
    refused: int = 0
    others: int = 0
    """Honest questions to the victim that were answered, of `asked`."""
    asked: int = 0
    writes: int = 0
    """STOREs of the flooders' neighbour answered, of 3: another class has its own allowance."""
    events: int = 0
    remembered: int = 0
    """Entries that the victim's limiters hold."""


async def scenario(arena: Arena) -> Outcome:
    net, outcome = arena.net, Outcome()
    victim = net.nodes[VICTIM]
    gang = arena.enlist("flooder", *range(HONEST, HONEST + FLOODERS), victim=net.entry(VICTIM))
    await asyncio.sleep(10.0)  # what growing cost is paid back
    flooders = set(gang.members)
    serve = victim._handlers.serve

    def counted(conn: object, body: object, reply: object) -> None:
        peer = conn.peer  # type: ignore[attr-defined]
        if bytes(peer.node_id) in flooders and isinstance(body, FindNode):
            outcome.served_units += FIND_NODE_COST
        serve(conn, body, reply)  # type: ignore[arg-type]

    victim._handlers.serve = counted  # type: ignore[method-assign]
    before = counter(victim, "requests_refused_busy")

    async def honest() -> None:
        end = asyncio.get_running_loop().time() + Flooder.SECONDS
        while asyncio.get_running_loop().time() < end:
            for i in (0, *range(2, HONEST)):
                outcome.asked += 1
                try:
                    await net.nodes[i]._peers.request(contact(net, i, VICTIM), FindNode(bytes(32)))
                    outcome.others += 1
                except PqdhtError:
                    pass
            await asyncio.sleep(0.5)

    async def neighbour() -> None:
        for n in range(3):
            await asyncio.sleep(1.0)
            record = net.sign(net.seats[0].owner, net.nodes[0].named(f"w{n}"), b"v", timestamp=net.clock())
            outcome.writes += await codes(net, NEIGHBOUR, VICTIM, record) == ["OK"]

    began = asyncio.get_running_loop().time()
    await asyncio.gather(gang.act(), honest(), neighbour())
    elapsed = asyncio.get_running_loop().time() - began
    outcome.allowed = LIMITS["group_cost_burst"] + LIMITS["group_cost_per_s"] * elapsed
    outcome.refused = counter(victim, "requests_refused_busy") - before
    outcome.events = victim._guard.events.counts[EventKind.RATE_LIMITED]
    tolls = victim._peers._tolls
    outcome.remembered = sum(map(len, (*tolls._by_node.values(), *tolls._by_group.values())))
    return outcome


def play(mode: str) -> tuple[Outcome, str]:
    nodes = HONEST + FLOODERS + 1
    return run(scenario, nodes, seed=SEED, ips=place, params=small(**LIMITS), defences={"rate_limits": mode})


def test_a_flood_is_served_its_share_and_no_more() -> None:
    off, off_trace = play("off")
    assert off.served_units > TIMES / 2 * off.allowed  # the victim does what it is asked
    assert (off.refused, off.events) == (0, 0)

    observed, trace = play("observe")
    assert trace == off_trace
    assert observed.served_units == off.served_units
    assert observed.events > 100

    enforced, _ = play("enforce")
    assert 0 < enforced.served_units <= enforced.allowed
    assert enforced.refused > 0
    assert enforced.events >= enforced.refused
    assert (enforced.others, enforced.writes) == (enforced.asked, 3)
    assert enforced.remembered <= 5 * (HONEST + FLOODERS + 1)
