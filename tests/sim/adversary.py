"""Storers that lie: real nodes whose answers to FIND_VALUE and STORE are replaced."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from hashlib import sha3_256

import msgspec

from pqdht.errors import WireCode
from pqdht.node.connection import Connection
from pqdht.node.dht import SecureDHT
from pqdht.node.exchange import Reply
from pqdht.node.handlers import Handlers
from pqdht.wire.messages import (
    Body,
    FindValue,
    FindValues,
    Receipt,
    Store,
    Stored,
    Values,
    ValuesList,
    WireRecord,
)

History = Callable[[bytes], list[WireRecord]]
"""All records ever signed for a key that still are in force, oldest first."""


class Lie(StrEnum):
    """What a liar answers.  Each signs a receipt for every STORE and keeps nothing."""

    DENY = "deny"
    """Holds nothing."""
    STALE = "stale"
    """Holds the oldest version there is."""
    FORGE = "forge"
    """Holds a record whose value it changed, and one of another key."""
    CLAIM = "claim"
    """Says that it holds a record that nobody has, and never sends it."""


class Liar:
    """Stands before the handlers of a node; what it does not lie about they answer."""

    def __init__(self, honest: Handlers, node: SecureDHT, lie: Lie, history: History) -> None:
        self.lie = lie
        self._honest = honest
        self._node = node
        self._history = history

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        if isinstance(body, Store):
            records = map(self._node.env.records.parse, body.records)
            receipts = [Receipt(r.record_id, int(WireCode.OK), r.expires) for r in records]
            reply(Stored(tuple(receipts), self._node.env.clock()))
        elif isinstance(body, FindValue):
            self._honest.serve(conn, body, lambda answer: reply(self._twist(body, answer)))
        elif isinstance(body, FindValues):
            self._honest.serve(conn, body, lambda answer: reply(self._twist_all(body, answer)))
        else:
            self._honest.serve(conn, body, reply)

    def _twist(self, asked: FindValue, honest: Body) -> Body:
        assert isinstance(honest, Values)
        records: tuple[WireRecord, ...] = ()
        if self.lie is Lie.CLAIM:
            return msgspec.structs.replace(honest, records=(), same=(sha3_256(asked.key).digest(),))
        past = self._history(asked.key)
        if past and self.lie is Lie.STALE:
            records = (past[0],)
        elif past and self.lie is Lie.FORGE:
            records = (forged(past[-1]),)
        return msgspec.structs.replace(honest, records=records, same=())

    def _twist_all(self, asked: FindValues, honest: Body) -> Body:
        assert isinstance(honest, ValuesList)
        twisted = [self._twist(q, a) for q, a in zip(asked.questions, honest.answers, strict=True)]
        return ValuesList(tuple(a for a in twisted if isinstance(a, Values)))

    async def close(self) -> None:
        await self._honest.close()


def forged(wire: WireRecord) -> WireRecord:
    """The record with one byte of its signature changed."""
    return WireRecord(wire.tbs, bytes([wire.signature[0] ^ 1]) + wire.signature[1:])


def corrupt(node: SecureDHT, lie: Lie | None, history: History) -> None:
    """Make a running node a liar, or (None) honest again."""
    handlers = node._handlers
    honest = handlers._honest if isinstance(handlers, Liar) else handlers
    node._handlers = honest if lie is None else Liar(honest, node, lie, history)  # type: ignore[assignment]
