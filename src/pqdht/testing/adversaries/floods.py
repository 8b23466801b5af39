"""Adversaries that ask more than their share."""

from __future__ import annotations

import asyncio

from ...node.tolls import COSTS
from ...wire.messages import FindNode, MessageType
from .base import Adversary

TIMES = 10.0


class Flooder(Adversary):
    """One of several ids behind one address prefix.  Asks the victim (`Gang.victim`) valid questions
    (`act`), all members together at ten times the rate that one prefix is allowed.  Nothing it sends is
    wrong, and it does not wait for answers."""

    name = "flooder"
    summary = "asks valid questions from one prefix at ten times the limit"
    defences = ("rate_limits",)

    SECONDS = 5.0

    async def act(self) -> None:
        victim = bytes.fromhex(self.gang.victim.partition("@")[0])
        to = next((c for c in await self.find(victim) if c.node_id == victim), None)
        if to is None:
            return
        loop = asyncio.get_running_loop()
        asked: list[asyncio.Task[object]] = []
        end = loop.time() + self.SECONDS
        while loop.time() < end:
            asked.append(loop.create_task(self.ask(to, FindNode(self.dice.randbytes(32)))))
            await asyncio.sleep(self.pause_s())
        await asyncio.gather(*asked)

    def pause_s(self) -> float:
        """Seconds between two questions of one member."""
        allowed = self.node.env.params.limits.group_cost_per_s / COSTS[MessageType.FIND_NODE][0]
        return len(self.gang.members) / (TIMES * allowed)
