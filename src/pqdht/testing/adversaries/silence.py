"""Adversaries that do not answer, or not in time."""

from __future__ import annotations

import asyncio

from ...node.exchange import Reply
from ...wire.messages import Body, FindNode, FindValue, FindValues, Ping, Store, Stored
from .base import Adversary


class Dropper(Adversary):
    """Answers pings, so that it stays in tables, signs receipts and keeps nothing, and drops every other
    question."""

    name = "dropper"
    summary = "takes every question and answers none"
    defences = ("hedging", "disjoint_paths", "reputation")

    def on_store(self, body: Store) -> Stored | None:
        return self.all_is_well(body)

    def on_answer(self, asked: Body, answer: Body, reply: Reply) -> None:
        if isinstance(asked, Ping | Store):
            reply(answer)


class SlowLoris(Adversary):
    """Answers pings at once, and every question truly, but only after `DELAY_S` seconds: just before the
    longest time-out, so that it never counts as dead."""

    name = "slow_loris"
    summary = "answers truly, but just before the time-out"
    defences = ("hedging", "response_time")

    DELAY_S = 4.5

    def on_answer(self, asked: Body, answer: Body, reply: Reply) -> None:
        if isinstance(asked, FindNode | FindValue | FindValues):
            asyncio.get_running_loop().call_later(self.DELAY_S, reply, answer)
        else:
            reply(answer)
