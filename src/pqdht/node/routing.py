"""The routing table of a running node: who may enter, who is passed on, who is remembered.

`kad.Table` holds the structure; here it meets verified contacts, sessions and the clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..errors import BadPuzzle, DecodeError, DialHeldBack, PeerError, PeerIdentityMismatch, RemoteError
from ..identity.contact import VerifiedContact, check_born
from ..ids import NodeId
from ..kad.lookup import Candidate
from ..kad.size import SizeEstimator
from ..kad.table import Entry, Refused, Table
from ..wire.codec import Decoder, encode
from ..wire.contact import Contact
from ..wire.messages import Nodes, Values
from .connection import Connection
from .environment import Environment, split_bootstrap
from .exchange import Answer
from .guard import Guard

REMEMBERED = "contacts"
REMEMBERED_MOST = 512
_decode_remembered = Decoder(tuple[Contact, ...], "remembered contacts", 4 * 1024 * 1024)


class Routing:
    """The table, the size estimate, and the rules between contacts and both."""

    def __init__(self, env: Environment, guard: Guard) -> None:
        limits, params = env.params.limits, env.params
        self._env = env
        self._guard = guard
        self._pinned = {split_bootstrap(entry)[0]: None for entry in env.config.pinned}
        self.table: Table[VerifiedContact] = Table(
            env.identity.node_id,
            params.k,
            per_bucket=limits.bucket_per_group,
            per_table=limits.table_per_group,
            per_wide=limits.table_per_wide_group,
            group_limits=params.address_groups,
            dice=env.dice,
            secret=env.suite.random_bytes(32),
        )
        guard.table = self.table
        self.sizes = SizeEstimator(params.k)
        guard.network_size = self.size
        self.on_added: Callable[[VerifiedContact], None] = lambda _: None

    def size(self) -> float | None:
        """How many nodes the network has, None where too little is known."""
        estimate = self.sizes.estimate(asyncio.get_running_loop().time())
        return estimate.nodes if estimate is not None else None

    # --- what sessions tell --------------------------------------------------------------------

    def contact_of(self, conn: Connection) -> VerifiedContact:
        """The peer's contact as its Hello and address frame state it, checked. Raises BadPuzzle."""
        assert conn.peer is not None
        return self._env.contacts.verify(conn.peer.contact, self._env.clock())

    def answered(self, conn: Connection, rtt_s: float | None = None) -> None:
        """A peer completed a handshake and answered: it may enter the table."""
        contact = self.contact_of(conn)
        if not contact.addresses or contact.node_id == self._env.identity.node_id:
            return
        if contact.node_id not in self.table and not self._guard.may_enter(contact.node_id):
            self._env.counters["table_refused.distrust"] += 1
            return
        remote = conn.link.remote
        now = asyncio.get_running_loop().time()
        pinned = contact.node_id in self._pinned
        group, wide = remote.group, remote.wide_group
        outcome = self.table.add(contact.node_id, contact, group, wide, now, pinned=pinned)
        if isinstance(outcome, Refused):
            self._env.counters[f"table_refused.{outcome.reason.value}"] += 1
            return
        outcome.entry.rtt = rtt_s if rtt_s is not None else outcome.entry.rtt
        if outcome.is_new:
            self._env.counters["table_entered"] += 1
            self.on_added(contact)

    def has_room(self, conn: Connection) -> bool:
        """Whether a peer that is not in the table would enter it if it answered."""
        assert conn.peer is not None
        remote = conn.link.remote
        reason = self.table.refusal(conn.peer.node_id, remote.group, remote.wide_group)
        if reason is not None:
            self._env.counters[f"table_refused.{reason.value}"] += 1
        return reason is None

    def heard(self, node_id: NodeId) -> None:
        """Any authenticated frame counts as a sign of life."""
        self.table.heard(node_id, asyncio.get_running_loop().time())

    def failed(self, contact: VerifiedContact, error: RemoteError) -> None:
        """A question went unanswered, or the peer broke a rule.

        What another said of a node's addresses may be a lie, and speaks against that other only.
        """
        if isinstance(error, DialHeldBack | PeerError | PeerIdentityMismatch):
            return  # we did not ask, or it did answer, or it was somebody else
        entry = self.table.get(contact.node_id)
        if entry is not None and entry.contact.addresses != contact.addresses:
            return
        if entry is not None:
            self._guard.silent(contact.node_id)
        if self.table.failed(contact.node_id, asyncio.get_running_loop().time()):
            self._env.counters["table_evicted"] += 1

    def drop_expired(self) -> None:
        """Whose id has had its time leaves the table: sessions may go on, but nobody may be told of it."""
        now, clock = asyncio.get_running_loop().time(), self._env.clock()
        if _is_over(self._env.identity.born, clock):
            return  # rather our own clock is wrong
        for entry in self.table:
            if _is_over(entry.contact.contact.born, clock):
                self.table.remove(entry.node_id, now)
                self._env.counters["table_expired"] += 1

    # --- what answers and lookups need ---------------------------------------------------------

    def to_pass_on(self, target: bytes, n: int, exclude: bytes) -> list[tuple[int, VerifiedContact]]:
        """(distance, contact) of the closest that were heard lately, ascending."""
        since = asyncio.get_running_loop().time() - self._env.config.max_table_idle_s
        entries = self.table.closest(target, n + 1, heard_since=since, exclude=self._guard.held)
        goal = int.from_bytes(target, "big")
        return [(e.number ^ goal, e.contact) for e in entries if e.node_id != exclude][:n]

    def closest(self, target: bytes, n: int) -> list[Entry[VerifiedContact]]:
        """Table entries closest to a target, silent ones included, those in quarantine left out."""
        return self.table.closest(target, n, exclude=self._guard.held)

    def seeds(self, target: bytes, n: int, *, last_resort: bool = False) -> list[Candidate[VerifiedContact]]:
        """Where a lookup begins: who is in quarantine only where nobody else is left, or as a last resort."""
        entries = [] if last_resort else self.closest(target, n)
        return [Candidate(e.node_id, e.contact, e.group) for e in entries or self.table.closest(target, n)]

    def pool(self, n: int) -> list[Candidate[VerifiedContact]]:
        """Up to `n` nodes that were met and are not in the table, in no order."""
        pooled = [e for e in self.table.candidates() if e.node_id not in self._guard.held]
        drawn = self._env.dice.sample(pooled, min(n, len(pooled)))
        return [Candidate(e.node_id, e.contact, e.group) for e in drawn]

    def candidates(self, answer: Answer, *, last_resort: bool = False) -> list[Candidate[VerifiedContact]]:
        """The believable part of an answer's contacts, without those in quarantine.

        Each contact is verified (Argon2id, cached) before it can be dialled or end a path; at the
        first false one the rest of that answer is dropped, which bounds what a liar can cost us.  Expired
        ones are left out.
        """
        assert isinstance(answer.body, Nodes | Values)
        now = self._env.clock()
        found: list[Candidate[VerifiedContact]] = []
        is_good = True
        for contact in answer.body.contacts:
            try:
                checked = self._env.contacts.verify(contact, now)
            except RemoteError as e:
                self._env.counters[f"contacts_refused.{type(e).__name__}"] += 1
                if "age" in e.fields:
                    # Its time ended while the answerer held it.  Looking cost nothing, and whoever gets
                    # such an id into tables must not cut off what stands behind it in all answers.
                    continue
                self._guard.invalid(answer, e, contact)
                is_good = False
                break
            reachable = checked.dialled_by(self._env.transports)
            is_usable = reachable is not None and checked.node_id != self._env.identity.node_id
            if is_usable and (last_resort or checked.node_id not in self._guard.held):
                assert reachable is not None
                found.append(Candidate(checked.node_id, reachable, reachable.group))
        if is_good and answer.body.contacts:
            self._guard.valid(answer)
        return found

    def is_among_closest(self, node_id: bytes, key: bytes) -> bool:
        """Whether a node is one of the k closest to a key that we know."""
        return any(e.node_id == node_id for e in self.closest(key, self._env.params.k))

    # --- memory --------------------------------------------------------------------------------

    async def save(self) -> None:
        """Remember the table's contacts across a restart, the longest known first."""
        entries = sorted(self.table, key=lambda e: (e.first_seen, e.node_id))[:REMEMBERED_MOST]
        if entries:
            blob = encode(tuple(e.contact.to_wire(with_key=True) for e in entries))
            await self._env.store.save_state(REMEMBERED, blob)

    def load(self) -> list[VerifiedContact]:
        """The contacts remembered from before; damaged or expired ones are left out."""
        blob = self._env.store.load_state(REMEMBERED)
        if not blob:
            return []
        try:
            contacts = _decode_remembered(blob)
        except DecodeError:
            self._env.counters["remembered_contacts_damaged"] += 1
            return []
        found: list[VerifiedContact] = []
        for contact in contacts:
            try:
                found.append(self._env.contacts.verify(contact, self._env.clock()))
            except RemoteError:
                continue
        return found


def _is_over(born: int, now_ms: int) -> bool:
    """Whether ids born on this day are not valid now."""
    try:
        check_born(born, now_ms)
    except BadPuzzle:
        return True
    return False
