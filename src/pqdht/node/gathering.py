"""Questions that go to one peer in one turn of the event loop travel as one message.

A hundred GETs or PUTs under way at once ask the same few nodes: FIND_VALUE becomes FIND_VALUES, STOREs
become one STORE.  One envelope, one signature, one answer; nobody waits longer than the turn.  A peer
without an open session is asked one by one, as its first question may travel in the handshake.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace

from ..constants import MAX_FINDS, MAX_PAGE, MAX_STORE_RECORDS
from ..errors import Closed, PeerError, RemoteError, WireCode
from ..identity.contact import VerifiedContact
from ..ids import NodeId
from ..wire.messages import Body, FindValue, FindValues, Store, ValuesList
from .exchange import Answer
from .handlers import ID_ROOM
from .peers import Peers

QUESTION_SIZE = 128
"""Bytes of a FIND_VALUE without its lists, at most."""


@dataclass(slots=True)
class _Batch:
    """What one message will carry. The first to ask sends it; each other waits for its part."""

    bodies: list[Body]
    size: int
    """Bytes of records, or of questions."""
    others: list[asyncio.Future[Answer | None]] = field(default_factory=list)

    def has_room(self, body: Body, size: int) -> bool:
        most = MAX_FINDS if isinstance(body, FindValue) else MAX_STORE_RECORDS
        return len(self.bodies) < most and self.size + size <= MAX_PAGE

    def merged(self) -> Body:
        """All questions as one."""
        if isinstance(self.bodies[0], FindValue):
            return FindValues(tuple(b for b in self.bodies if isinstance(b, FindValue)))
        stores = [b for b in self.bodies if isinstance(b, Store)]
        return Store(tuple(r for s in stores for r in s.records), stores[0].replica)

    def parts(self, answer: Answer) -> list[Answer]:
        """Each question's share of the answer; a STORED belongs to all, its receipts name the records."""
        a = answer
        bodies = a.body.answers if isinstance(a.body, ValuesList) else [a.body] * len(self.bodies)
        size = a.bytes // len(self.bodies)
        return [replace(a, body=body, bytes=size) for body in bodies]


class Gathering:
    """`Peers.request`, but for what can be gathered."""

    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        self._batches: dict[tuple[NodeId, type[Body], bool], _Batch] = {}

    async def request(self, to: VerifiedContact, body: Body, timeout_s: float | None = None) -> Answer:
        """Ask a peer.  Raises as `Peers.request` does."""
        match body:
            case FindValue() if body.cursor is None:
                size, replica = QUESTION_SIZE + ID_ROOM * len(body.have) + len(body.known), False
            case Store():
                size = sum(len(r.tbs) + len(r.signature) for r in body.records)
                replica = body.replica
            case _:
                return await self._peers.request(to, body, timeout_s)
        if to.node_id not in self._peers.sessions:
            return await self._peers.request(to, body, timeout_s)
        entry = (to.node_id, type(body), replica)
        batch = self._batches.get(entry)
        if batch is None or not batch.has_room(body, size):
            batch = self._batches[entry] = _Batch([body], size)
            return await self._lead(to, entry, batch, timeout_s)
        batch.bodies.append(body)
        batch.size += size
        part: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        batch.others.append(part)
        return await part or await self._peers.request(to, body, timeout_s)

    async def _lead(
        self,
        to: VerifiedContact,
        entry: tuple[NodeId, type[Body], bool],
        batch: _Batch,
        timeout_s: float | None,
    ) -> Answer:
        """Let the others of this turn join, ask for all, and hand out the parts."""
        try:
            try:
                await asyncio.sleep(0)
            finally:  # even if we are cancelled here: nobody may join a message that is not sent
                if self._batches.get(entry) is batch:
                    del self._batches[entry]
            if not batch.others:
                return await self._peers.request(to, batch.bodies[0], timeout_s)
            self._peers.env.counters["questions_gathered"] += len(batch.bodies)
            mine, *theirs = batch.parts(await self._peers.request(to, batch.merged(), timeout_s))
            for part, answer in zip(batch.others, theirs, strict=True):
                _settle(part, answer)
            return mine
        except (RemoteError, Closed) as e:
            is_older = isinstance(e, PeerError) and e.code == WireCode.UNSUPPORTED
            if not (is_older and batch.others):
                for part in batch.others:
                    if not part.done():
                        part.set_exception(e)
                raise
        finally:
            for part in batch.others:  # an older peer, or we were cancelled: each asks by itself
                _settle(part, None)
        return await self._peers.request(to, batch.bodies[0], timeout_s)


def _settle(part: asyncio.Future[Answer | None], answer: Answer | None) -> None:
    if not part.done():
        part.set_result(answer)
