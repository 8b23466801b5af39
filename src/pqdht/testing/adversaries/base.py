"""What all adversaries are made of: a real node whose answers are replaced, and the gang it belongs to.

This module alone reaches into a node's insides; adversaries themselves say only what they answer and do.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import ClassVar, Final

import msgspec

from ...constants import DAY_S, MAX_CONTACTS
from ...errors import PqdhtError, RecordInvalid, WireCode
from ...identity.contact import VerifiedContact
from ...ids import distance
from ...node.connection import Connection
from ...node.dht import SecureDHT
from ...node.exchange import Answer, Reply
from ...node.handlers import KEYS_IN_ANSWER, Handlers, to_wire
from ...records import Locator, make_record
from ...wire.contact import Contact
from ...wire.messages import (
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

History = Callable[[bytes], list[WireRecord]]
"""Key -> records that were signed for it and are still in force, oldest first."""

STRUCTURAL: Final[dict[str, str]] = {
    "signatures": "records are believed only with their owner's signature",
    "puzzles": "contacts are believed only with a right puzzle",
    "confirmation": "a value counts once a majority of holders, in several units, has it",
    "floors": "storers remember the highest timestamp for 7 days and refuse older ones",
    "ttl_raise": "a new version never expires before what it replaces",
    "equal_timestamps": "two versions of one timestamp are contested, never confirmed",
    "address_groups": "few nodes of one address group count, by the address that answered",
    "one_per_node": "a topic holds one record per node id",
    "evidence": "each judges a report anew, and nothing that an honest node signs is an offence",
    "hedging": "who is late is not waited for",
    "pinned": "peers an operator trusts are never evicted",
}
"""Defences that have no mode: what they are belongs to the protocol."""


class Gang:
    """What colluders share: who they are, whom they aim at, and every record one of them was shown.

    `victim`: bootstrap entry `<node id>@tcp/host:port` of the node they are after.  `topic`: the topic they
    are after.  `key`: where Sybils sit.  `history` replaces what they gather themselves by what a test knows
    to have been signed.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        victim: str = "",
        topic: str = "squatted",
        key: bytes = b"",
        history: History | None = None,
    ) -> None:
        self.dice = random.Random(f"gang {seed}")
        self.victim = victim
        self.topic = topic
        self.key = key
        self.members: dict[bytes, Adversary] = {}
        self._history = history
        self._seen: dict[bytes, dict[bytes, tuple[int, int, WireRecord]]] = {}
        """key -> record id -> (timestamp, expires, record)"""

    def learn(self, key: bytes, record_id: bytes, timestamp: int, expires: int, wire: WireRecord) -> None:
        """A member was shown a record."""
        self._seen.setdefault(key, {})[record_id] = (timestamp, expires, wire)

    def history(self, key: bytes, now_ms: int) -> list[WireRecord]:
        """Records known for a key that are in force, oldest first."""
        if self._history is not None:
            return self._history(key)
        seen = sorted(self._seen.get(key, {}).items(), key=lambda item: (item[1][0], item[0]))
        return [wire for _, (_, expires, wire) in seen if expires > now_ms]

    def keys(self) -> list[bytes]:
        """Every key a member was shown a record of."""
        return list(self._seen)

    def closest(self, target: bytes, n: int) -> tuple[Contact, ...]:
        """The `n` members closest to `target` as members name them, the first ones with their KEM keys."""
        members = sorted(self.members.values(), key=lambda m: distance(m.node_id, target))
        return tuple(m.contact(with_key=i < KEYS_IN_ANSWER) for i, m in enumerate(members[:n]))

    async def act(self) -> None:
        """Each member does once what it does by itself."""
        await asyncio.gather(*(m.act() for m in self.members.values()))


class Adversary:
    """A running node that answers some questions as it should not; what it does not lie about it does well.

    Subclasses say in their docstring what they know and do, replace `on_value`, `on_nodes`, `on_store` or
    `on_answer`, and do in `act` what nobody asked them for.
    """

    name: ClassVar[str]
    """By which it is asked for."""
    summary: ClassVar[str]
    """One line for lists."""
    defences: ClassVar[tuple[str, ...]]
    """What stops it: names of `Config.defences`, or of STRUCTURAL."""
    needs_place: ClassVar[bool] = False
    """Whether its node ids must be made for it, so that nodes that run already cannot become one."""

    def __init__(self, node: SecureDHT, gang: Gang) -> None:
        self.node = node
        self.gang = gang
        self.dice = random.Random(f"{gang.dice.random()} {node.node_id.hex()}")
        handlers = node._handlers
        self._honest: Handlers = handlers._honest if isinstance(handlers, Adversary) else handlers
        self.turn()

    # --- life ----------------------------------------------------------------------------------

    def turn(self) -> None:
        """Begin, or begin again after `repent`."""
        self.gang.members[bytes(self.node_id)] = self
        self.node._handlers = self  # type: ignore[assignment]  # has what a node calls of its handlers
        store = self.node.env.store
        for key in store.keys():
            for kept in store.get(key):
                self.gang.learn(kept.key, kept.record_id, kept.timestamp, kept.expires, to_wire(kept))

    def repent(self) -> None:
        """Be an honest node from now on."""
        self.gang.members.pop(bytes(self.node_id), None)
        self.node._handlers = self._honest

    async def act(self) -> None:
        """Do once what it does by itself; nothing, for who only answers."""

    # --- what the node calls -------------------------------------------------------------------

    def serve(self, conn: Connection, body: Body, reply: Reply) -> None:
        """As `Handlers.serve`."""

        def answer(honest: Body) -> None:
            self.on_answer(body, self._twist(body, honest), reply)

        if isinstance(body, Store):
            self._note(body.records)
            if (stored := self.on_store(body)) is not None:
                self.on_answer(body, stored, reply)
                return
        self._honest.serve(conn, body, answer)

    async def close(self) -> None:
        """As `Handlers.close`."""
        await self._honest.close()

    def _twist(self, asked: Body, honest: Body) -> Body:
        match asked, honest:
            case FindNode(), Nodes():
                return self.on_nodes(asked, honest)
            case FindValue(), Values():
                return self.on_value(asked, honest)
            case FindValues(), ValuesList():
                pairs = zip(asked.questions, honest.answers, strict=True)
                return ValuesList(tuple(self.on_value(q, a) for q, a in pairs))
        return honest

    def _note(self, wires: Iterable[WireRecord]) -> None:
        for wire in wires:
            try:
                r = self.node.env.records.parse(wire)
            except RecordInvalid:
                continue
            self.gang.learn(r.key, r.record_id, r.timestamp, r.expires, wire)

    # --- what subclasses replace ---------------------------------------------------------------

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        """What to say of one key."""
        return honest

    def on_nodes(self, asked: FindNode, honest: Nodes) -> Nodes:
        """Whom to name."""
        return honest

    def on_store(self, body: Store) -> Stored | None:
        """What to promise; None: store it as an honest node."""
        return None

    def on_answer(self, asked: Body, answer: Body, reply: Reply) -> None:
        """Send the answer, late or never."""
        reply(answer)

    # --- tools ---------------------------------------------------------------------------------

    @property
    def node_id(self) -> bytes:
        """The node's id, also when it was closed."""
        return self._honest._env.identity.node_id

    @property
    def now_ms(self) -> int:
        """The node's wall clock."""
        return self._honest._env.clock()

    def contact(self, *, with_key: bool = False) -> Contact:
        """Its own contact, as it tells others."""
        env = self._honest._env
        return env.identity.contact(env.addresses, with_key=with_key)

    @property
    def entry(self) -> str:
        """The bootstrap entry through which others join at this node."""
        return self.node.bootstrap_entry

    def history(self, key: bytes) -> list[WireRecord]:
        """What the gang knows to have been signed for a key and to be in force, oldest first."""
        return self.gang.history(key, self.now_ms)

    def all_is_well(self, body: Store) -> Stored:
        """Receipts for everything, whatever becomes of it."""
        records = map(self.node.env.records.parse, body.records)
        receipts = [Receipt(r.record_id, int(WireCode.OK), r.expires) for r in records]
        return Stored(tuple(receipts), self.now_ms)

    def accomplices(self, target: bytes) -> tuple[Contact, ...]:
        """The other members closest to a target, as many as an honest node would name."""
        most = min(self.node.env.params.k, MAX_CONTACTS)
        own = self.contact()
        named = self.gang.closest(target, most + 1)
        return tuple(c for c in named if c.digest != own.digest)[:most]

    def sign(self, where: Locator, value: bytes, timestamp: int, ttl: int = DAY_S) -> WireRecord:
        """A record of this node's owner with any timestamp (ms) and ttl (s) it likes."""
        env = self.node.env
        owner = env.owner
        return make_record(
            env.suite, env.network_tag, owner, where, value, ttl=ttl, timestamp=timestamp, params=env.params
        ).wire

    def tell_addresses(self, addresses: tuple[str, ...]) -> None:
        """Say in every handshake from now on that it is reached at these."""
        self.node.env.addresses = addresses
        self.node._peers.set_addresses(addresses)

    async def find(self, target: bytes) -> list[VerifiedContact]:
        """The live nodes closest to a target, up to k; none where nobody answers."""
        try:
            walk = await self.node._lookups.find(target, end=self.node.config.path_end_doubt)
        except PqdhtError:
            return []
        return [c.contact for c in walk.lookup.closest(self.node.env.params.k)]

    async def meet(self, entry: str) -> bool:
        """Ping `<node id>@address`: whether it answered.  Who is asked looks at the caller as well."""
        try:
            await self.node.ping(entry)
        except PqdhtError:
            return False
        return True

    def known(self) -> list[VerifiedContact]:
        """The nodes in its table that are not of its gang."""
        entries = self.node._routing.table
        return [e.contact for e in entries if bytes(e.node_id) not in self.gang.members]

    async def ask(self, to: VerifiedContact, body: Body) -> Body | None:
        """Ask anything of anybody; None where no answer comes."""
        answer = await self.question(to, body)
        return answer.body if answer is not None else None

    async def question(self, to: VerifiedContact, body: Body) -> Answer | None:
        """The same, with the bytes that prove the answer."""
        try:
            return await self.node._peers.request(to, body)
        except PqdhtError:
            return None


def without_records(values: Values) -> Values:
    """The same answer of a node that holds nothing."""
    return msgspec.structs.replace(values, records=(), same=(), cursor=None)


def only(values: Values, *records: WireRecord) -> Values:
    """The same answer of a node that holds just these."""
    return msgspec.structs.replace(values, records=records, same=(), cursor=None)
