"""Answers what peers ask: PING, FIND_NODE, FIND_VALUE, STORE."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import accumulate
from typing import Any

import msgspec

from ..constants import KNOWN_PREFIX, MAX_CONTACTS, MAX_HAVE, MAX_MESSAGE, MAX_PAGE, MAX_STORE_RECORDS
from ..errors import Closed, StorageError, WireCode
from ..identity.stake import share
from ..storage.base import StoredRecord
from ..wire.codec import encode
from ..wire.contact import Contact
from ..wire.messages import (
    Body,
    Error,
    FindNode,
    FindValue,
    FindValues,
    Nodes,
    Ping,
    Pong,
    Store,
    Stored,
    Values,
    ValuesList,
    WireRecord,
)
from .connection import Connection
from .environment import Environment
from .exchange import Reply
from .keeper import Keeper
from .routing import Routing

ENVELOPE_ROOM = 6 * 1024
"""What a VALUES message needs besides its lists: envelope, proof, key, cursor."""
RECORD_ROOM = 16
"""Encoding around one record."""
EMPTY_ROOM = 40
"""One VALUES of many, without its lists."""
ID_ROOM = 34
"""A record id with its encoding."""
CONTACT_MOST = 2 * 1024
"""More than any contact takes, its KEM key included."""
KEYS_IN_ANSWER = 2
"""Contacts that travel with their KEM key: enough to go on in one round trip, at 1.2 kB each."""


class Handlers:
    """Reads are answered at once; a STORE when it is on disk."""

    def __init__(self, env: Environment, routing: Routing, keeper: Keeper) -> None:
        self._env = env
        self._routing = routing
        self._keeper = keeper
        self._tasks: dict[asyncio.Task[None], None] = {}

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        """Answer one request; `reply` is called exactly once."""
        match body:
            case Ping():
                reply(Pong(self._env.clock()))
            case FindNode():
                contacts = self._contacts(conn, body.target, body.closer_than, body.keys_below, body.known)
                reply(Nodes(body.target, contacts))
            case FindValue():
                reply(self._find_value(conn, body))
            case FindValues():
                reply(self._find_values(conn, body))
            case Store():
                self._spawn(self._store(conn, body, reply))
            case _:
                reply(Error(int(WireCode.UNSUPPORTED), 0, self._env.clock()))

    async def close(self) -> None:
        """Let the STOREs under way finish."""
        if self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks[task] = None
        task.add_done_callback(lambda t: self._tasks.pop(t, None))

    async def _store(self, conn: Connection, body: Store, reply: Reply) -> None:
        sender = conn.peer.node_id if conn.peer is not None and body.replica else None

        def is_refresh(key: bytes) -> bool:
            return sender is not None and self._routing.is_among_closest(sender, key)

        bits = 0
        if conn.peer is not None:
            stake = conn.peer.contact.stake
            bits = self._env.contacts.stake_bits(conn.peer.node_id, stake, self._env.clock())
        receipts = await self._keeper.keep(
            body.records, conn.group, replica=body.replica, is_refresh=is_refresh, share=share(bits)
        )
        self._env.counters["stores_served"] += 1
        reply(Stored(tuple(receipts), self._env.clock()))

    def _contacts(
        self,
        conn: Connection,
        target: bytes,
        closer_than: bytes | None,
        keys_below: bytes | None,
        known: bytes,
    ) -> tuple[Contact, ...]:
        """Of the k closest to `target` that were heard lately, those the asker lacks."""
        asker = conn.peer.node_id if conn.peer is not None else b""
        wanted = min(self._env.params.k, MAX_CONTACTS)
        heads = {known[i : i + KNOWN_PREFIX] for i in range(0, len(known), KNOWN_PREFIX)}
        contacts: list[Contact] = []
        for away, contact in self._routing.to_pass_on(target, wanted, exclude=asker):
            if contact.node_id[:KNOWN_PREFIX] in heads:
                continue
            if closer_than is not None and away >= int.from_bytes(closer_than, "big"):
                break
            below = keys_below is None or away < int.from_bytes(keys_below, "big")
            contacts.append(contact.to_wire(with_key=below and len(contacts) < KEYS_IN_ANSWER))
        return tuple(contacts)

    def _find_value(self, conn: Connection, body: FindValue) -> Values | Error:
        room = _Room()
        try:
            return self._with_contacts(conn, body, self._values(body, room), room)
        except (StorageError, Closed):
            return self._unreadable()

    def _find_values(self, conn: Connection, body: FindValues) -> ValuesList | Error:
        """An answer to each question, out of one room: what is held for all before contacts for any, or the
        last questions would be answered as if nothing stood there."""
        room = _Room(is_shared=True)
        room.take(EMPTY_ROOM * len(body.questions))
        try:
            held = [self._values(q, room, is_one_of_many=True) for q in body.questions]
            answers = zip(body.questions, held, strict=True)
            return ValuesList(tuple(self._with_contacts(conn, q, values, room) for q, values in answers))
        except (StorageError, Closed):
            return self._unreadable()

    def _unreadable(self) -> Error:
        self._env.counters["reads_failed"] += 1
        return Error(int(WireCode.INTERNAL), 0, self._env.clock())

    def _values(self, body: FindValue, room: _Room, *, is_one_of_many: bool = False) -> Values:
        """One page of records, and the ids of those that the asker has or wants no more of."""
        have = frozenset(body.have)
        records: list[WireRecord] = []
        same: list[bytes] = []
        cursor, last = None, body.cursor or b""
        for r in self._keeper.find(body.key, body.owner):
            if r.record_id <= last:
                continue
            is_to_send = r.record_id not in have and not body.brief
            if is_to_send and len(records) < MAX_STORE_RECORDS and room.take_record(r.size + RECORD_ROOM):
                records.append(to_wire(r))
            elif (not is_to_send or is_one_of_many) and len(same) < MAX_HAVE and room.take(ID_ROOM):
                same.append(r.record_id)
            elif is_one_of_many:
                break
            else:
                cursor = last
                break
            last = r.record_id
        self._env.counters["records_served"] += len(records)
        return Values(body.key, tuple(records), tuple(same), (), cursor or None)

    def _with_contacts(self, conn: Connection, body: FindValue, values: Values, room: _Room) -> Values:
        """The same with contacts in what room is left: they are others' texts, and must not crowd out what
        was asked for."""
        if body.cursor is not None:
            return values
        contacts = room.fitting(self._contacts(conn, body.key, body.closer_than, None, body.known))
        return msgspec.structs.replace(values, contacts=contacts)


class _Room:
    """The bytes left in one answer: MAX_PAGE for records, MAX_MESSAGE for all."""

    __slots__ = ("_all", "_is_shared", "_records")

    def __init__(self, *, is_shared: bool = False) -> None:
        """`is_shared`: among several answers."""
        self._is_shared = is_shared
        self._records = MAX_PAGE
        self._all = MAX_MESSAGE - ENVELOPE_ROOM

    def take(self, size: int) -> bool:
        """Whether `size` bytes fit; they are gone then."""
        if size > self._all:
            return False
        self._all -= size
        return True

    def take_record(self, size: int) -> bool:
        """The same for a record."""
        if size > self._records or not self.take(size):
            return False
        self._records -= size
        return True

    def fitting(self, contacts: tuple[Contact, ...]) -> tuple[Contact, ...]:
        """As many as fit, closest first, without their keys if that is too tight."""
        if not self._is_shared and len(contacts) * CONTACT_MOST <= self._all:
            return contacts
        sizes = [len(encode(c)) for c in contacts]
        if sum(sizes) > self._all:
            contacts = tuple(msgspec.structs.replace(c, kem_key=None) for c in contacts)
            sizes = [len(encode(c)) for c in contacts]
        chosen = tuple(
            c for c, total in zip(contacts, accumulate(sizes), strict=True) if total <= self._all
        )
        self._all -= sum(sizes[: len(chosen)])
        return chosen


def to_wire(r: StoredRecord) -> WireRecord:
    """A kept record as it travels, byte for byte as received."""
    return WireRecord(r.tbs, r.signature)
