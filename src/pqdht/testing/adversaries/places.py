"""Adversaries that take places: under a topic, and in tables."""

from __future__ import annotations

from ...errors import PqdhtError
from ...identity.keys import OwnerIdentity
from ...records import Topic
from ...wire.messages import FindValue, Store, Stored, Values
from .base import Adversary, without_records


class TopicSquatter(Adversary):
    """One node that writes under a topic (`Gang.topic`) in the name of as many owners as there are places.
    An owner costs nothing."""

    name = "topic_squatter"
    summary = "fills a topic with records of many owners from one node"
    defences = ("one_per_node",)

    async def act(self) -> None:
        for _ in range(self.node.env.params.limits.records_per_key):
            owner = OwnerIdentity.generate(self.node.env.suite)
            try:
                await self.node.put(Topic(self.gang.topic), b"squatted", owner=owner)
            except PqdhtError:
                continue


class TableSquatter(Adversary):
    """Always on, always honest, and known to as many as it can be (`act`: a lookup of a random id), until its
    tenure in everybody's table is worth something: after `strike` it says that nothing is there."""

    name = "table_squatter"
    summary = "never goes away, until it holds everybody's table; then denies everything"
    defences = ("redraw",)

    has_struck = False

    def strike(self) -> None:
        """Use the places taken."""
        self.has_struck = True

    async def act(self) -> None:
        await self.find(self.dice.randbytes(32))

    def on_store(self, body: Store) -> Stored | None:
        return self.all_is_well(body) if self.has_struck else None

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        return without_records(honest) if self.has_struck else honest
