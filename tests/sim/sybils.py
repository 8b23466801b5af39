"""Sybils at one key: real nodes with ids ground for the place, who lie together about that key alone."""

from __future__ import annotations

from collections.abc import Sequence

from pqdht.crypto import puzzle
from pqdht.crypto.api import make_suite
from pqdht.errors import WireCode
from pqdht.identity.keys import NodeIdentity, born_day, new_commit
from pqdht.ids import common_prefix_length
from pqdht.node.connection import Connection
from pqdht.node.dht import SecureDHT
from pqdht.node.exchange import Reply
from pqdht.node.handlers import Handlers
from pqdht.testing.fake import FakeProvider
from pqdht.wire.contact import Contact
from pqdht.wire.messages import (
    Body,
    FindNode,
    FindValue,
    FindValues,
    Nodes,
    Receipt,
    Store,
    Stored,
    Values,
    ValuesList,
    WireRecord,
)
from tests.sim.harness import Net


def ground(net: Net, seed: int, key: bytes, cpl: int) -> NodeIdentity:
    """An identity whose id shares `cpl` bits with a key: about 2^cpl tries of the fake puzzle."""
    suite = make_suite(1, FakeProvider((1 << 40) + seed))  # no node of the harness has such a seed
    unsolved = new_commit(suite, net.tag, born_day(net.clock()))
    bits, salt, nonce = net.params.puzzle_bits(unsolved.born), puzzle.salt(net.tag), 0
    while True:
        found = puzzle.search_range(suite.provider, salt, unsolved.commit, bits, nonce, 1 << 20)
        assert found is not None
        digest = puzzle.digest(suite.provider, net.tag, unsolved.commit, found)
        if common_prefix_length(puzzle.node_id(unsolved.commit, digest), key) >= cpl:
            return unsolved.solved(found)
        nonce = int.from_bytes(found, "big") + 1


class Cluster:
    """Answers only with its own members, closest first, signs for every STORE and keeps nothing.

    `records` are what it says it holds: none (passive), or valid ones that serve it (active).
    """

    def __init__(self, key: bytes, records: Sequence[WireRecord] = ()) -> None:
        self.key = key
        self.records = tuple(records)
        self.members: list[tuple[bytes, Contact]] = []

    def take(self, node: SecureDHT) -> None:
        """Make a running node one of its members."""
        identity = node.env.identity
        self.members.append((identity.node_id, identity.contact(node.env.addresses)))
        node._handlers = _Member(node._handlers, node, self)  # type: ignore[assignment]

    def named(self, exclude: bytes) -> tuple[Contact, ...]:
        """Twenty of its members, others by each, so that a few answers name them all."""
        start = next(i for i, (node, _) in enumerate(self.members) if node == exclude) + 1
        others = [*self.members[start:], *self.members[: start - 1]]
        return tuple(contact for _, contact in others[:20])


class _Member:
    def __init__(self, honest: Handlers, node: SecureDHT, cluster: Cluster) -> None:
        self._honest, self._node, self._cluster = honest, node, cluster

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        key = self._cluster.key
        if isinstance(body, Store):
            records = [self._node.env.records.parse(r) for r in body.records]
            receipts = [Receipt(r.record_id, int(WireCode.OK), r.expires) for r in records]
            reply(Stored(tuple(receipts), self._node.env.clock()))
        elif isinstance(body, FindValue) and body.key == key:
            reply(self._lie(body))
        elif isinstance(body, FindValues) and any(q.key == key for q in body.questions):
            reply(ValuesList(tuple(map(self._lie, body.questions))))
        elif isinstance(body, FindNode) and common_prefix_length(body.target, key) >= 2:
            reply(Nodes(body.target, self._cluster.named(self._node.node_id)))
        else:
            self._honest.serve(conn, body, reply)

    def _lie(self, asked: FindValue) -> Values:
        if asked.key != self._cluster.key:
            return Values(asked.key, (), (), (), None)
        named = self._cluster.named(self._node.node_id)
        have = {bytes(self._node.env.records.parse(r).record_id): r for r in self._cluster.records}
        new = () if asked.brief else tuple(r for i, r in have.items() if i not in asked.have)
        same = tuple(i for i, r in have.items() if r not in new)
        return Values(asked.key, new, same, named, None)

    async def close(self) -> None:
        await self._honest.close()
