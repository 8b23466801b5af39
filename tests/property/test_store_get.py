"""PUT and GET of real nodes against a plain reference, with crashes, silence, lies and bad owners."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

from pqdht.config import Consistency
from pqdht.constants import TESTNET
from pqdht.errors import (
    NotBootstrapped,
    NotConfirmed,
    NotFound,
    QuorumNotReached,
    Refused,
    RemoteError,
    WireCode,
)
from pqdht.identity.keys import OwnerIdentity
from pqdht.kad.quorum import Verdict
from pqdht.node.results import GetResult
from pqdht.records import Named, Record
from pqdht.testing.adversaries import Adversary, Claimer, Denier, Forger, Gang, Staler
from pqdht.testing.loop import VirtualLoop, _cancel_all
from pqdht.wire.messages import Store, Stored, WireRecord
from tests.sim.harness import Net, one_group, own_group

NAME = "state"
WRITERS = 2
VALUES = st.sampled_from([b"a", b"b", b"c"])
TTLS = st.sampled_from([60, 86_400])
NODES = st.integers(0, 20)
HOW = st.sampled_from(["majority", "majority", "first", "all"])
OWNERS = st.integers(0, WRITERS - 1)


@dataclass
class Book:
    """What an owner ever signed, and what readers were told: the plain reference."""

    owner: OwnerIdentity
    locator: Named
    signed: list[Record] = field(default_factory=list)
    """In order of timestamp."""
    told: dict[int, int] = field(default_factory=dict)
    """reader -> newest timestamp it was told in this life, or remembers as a storer"""

    def in_force(self, now: int) -> list[Record]:
        return [r for r in self.signed if r.expires > now]

    def by_id(self, record_id: bytes) -> Record:
        return next(r for r in self.signed if r.record_id == record_id)


class Network(RuleBasedStateMachine):
    """`size` nodes; every rule runs in virtual time until it is over."""

    size = 1
    groups = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = VirtualLoop()
        self.lies: dict[int, Adversary] = {}
        self.silent: dict[int, None] = {}
        self.has_crashed = False
        self.go(self._begin())

    def go(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    async def _begin(self) -> None:
        params = replace(TESTNET, address_groups=self.groups)
        self.net = Net(3, params=params, ips=own_group if self.groups else one_group, lookup_timeout_s=10.0)
        await self.net.grow(self.size, pause_s=0.1)
        self.books = [Book(seat.owner, Named(seat.owner.owner_id, NAME)) for seat in self.net.seats[:WRITERS]]
        for w, book in enumerate(self.books):
            await self._publish(w, book, value=b"a")

    def teardown(self) -> None:
        self.go(self.net.close())
        left = _cancel_all(self.loop)
        self.loop.close()
        assert left == ()
        assert self.loop.unhandled == []

    # --- helpers ---------------------------------------------------------------------------------

    def node(self, i: int) -> int:
        """An index into this network."""
        return i % self.size

    def book(self, w: int) -> tuple[int, Book]:
        w = w % len(self.books)
        return w, self.books[w]

    def is_honest(self, i: int) -> bool:
        return self.net.up[i] and i not in self.lies and i not in self.silent

    def history(self, key: bytes) -> list[WireRecord]:
        now = self.net.clock()
        return [r.wire for b in self.books if b.locator.key() == key for r in b.in_force(now)]

    def note(self, book: Book, w: int) -> Record | None:
        """Enter the version the writer just signed."""
        last = self.net.nodes[w]._publisher.last(book.locator, book.owner.owner_id)
        if last is not None and last not in book.signed:
            book.signed.append(last)
            book.signed.sort(key=lambda r: r.timestamp)
        return last

    async def _publish(self, w: int, book: Book, **how: Any) -> None:
        node = self.net.nodes[w]
        delete = how.pop("delete", False)
        try:
            await (node.delete(NAME) if delete else node.put(NAME, **how))
        except Refused as e:  # signed all the same, and some may hold it
            book.signed.append(e.result.record)
            book.signed.sort(key=lambda r: r.timestamp)
        except (QuorumNotReached, NotBootstrapped):
            pass  # who holds it is seen when it is read
        self.note(book, w)

    async def _hand(self, i: int, records: list[Record]) -> list[int]:
        """STORE by somebody who holds signed records: any other node that is up."""
        sender = next(
            (j for j in range(self.size) if j != i and self.net.up[j] and j not in self.silent), None
        )
        if sender is None:
            return []
        contact = self.net.nodes[sender]._routing.table.get(self.net.seats[i].identity.node_id)
        if contact is None:
            return []
        try:
            answer = await self.net.nodes[sender]._peers.request(
                contact.contact, Store(tuple(r.wire for r in records), True)
            )
        except RemoteError:
            return []
        assert isinstance(answer.body, Stored)
        return [r.code for r in answer.body.receipts]

    # --- rules: writing --------------------------------------------------------------------------

    @rule(w=OWNERS, value=VALUES, ttl=TTLS)
    def put(self, w: int, value: bytes, ttl: int) -> None:
        w, book = self.book(w)
        if self.net.up[w]:
            self.go(self._publish(w, book, value=value, ttl=ttl))

    @rule(w=OWNERS)
    def delete(self, w: int) -> None:
        w, book = self.book(w)
        if self.net.up[w]:
            self.go(self._publish(w, book, delete=True))

    @rule(w=OWNERS, value=VALUES, right=st.booleans())
    def compare_and_set(self, w: int, value: bytes, right: bool) -> None:
        w, book = self.book(w)
        if self.net.up[w]:
            last = self.note(book, w)
            previous = last.record_id if right and last is not None else bytes(32)
            self.go(self._publish(w, book, value=value, previous=previous))

    @precondition(lambda self: self.size > 1)
    @rule(w=OWNERS, at=st.lists(NODES, min_size=1, max_size=4), first=st.booleans())
    def equivocate(self, w: int, at: list[int], first: bool) -> None:
        """Two records of one timestamp, each to some of the nodes."""
        w, book = self.book(w)
        now = self.net.clock()
        newest = max((r.timestamp for r in book.signed), default=0)
        twins = [
            self.net.sign(book.owner, book.locator, v, timestamp=max(now, newest + 1)) for v in (b"x", b"y")
        ]
        book.signed += twins
        for i in map(self.node, at):
            self.go(self._hand(i, [twins[first]]))
            first = not first

    @precondition(lambda self: self.size > 1)
    @rule(w=OWNERS, at=st.lists(NODES, min_size=3, max_size=8, unique=True), value=VALUES)
    def store_at_some(self, w: int, at: list[int], value: bytes) -> None:
        """A newer version that only some nodes were ever sent."""
        w, book = self.book(w)
        newest = max((r.timestamp for r in book.signed), default=0)
        timestamp = max(self.net.clock(), newest + 1)
        record = self.net.sign(book.owner, book.locator, value, timestamp=timestamp)
        book.signed.append(record)
        for i in dict.fromkeys(map(self.node, at)):
            self.go(self._hand(i, [record]))

    @precondition(lambda self: self.size > 1)
    @rule(w=OWNERS, at=NODES, which=st.integers(0, 5))
    def replay(self, w: int, at: int, which: int) -> None:
        """An old signed record sent once more is refused wherever a newer one is remembered."""
        _, book = self.book(w)
        past = book.in_force(self.net.clock())
        at = self.node(at)
        if not past or not self.net.up[at]:
            return
        old = past[which % len(past)]
        floor = self.net.seats[at].disk.floor(old.key, old.owner_id)
        codes = self.go(self._hand(at, [old]))
        if codes and at not in self.lies and old.timestamp < floor:
            assert codes == [WireCode.OUTDATED]

    # --- rules: faults ---------------------------------------------------------------------------

    @precondition(lambda self: self.size > 1)
    @rule(i=NODES)
    def crash(self, i: int) -> None:
        i = self.node(i)
        if sum(self.net.up) > 1 and self.net.up[i]:
            self.has_crashed = True
            self.lies.pop(i, None)
            self.go(self.net.crash(i))
            for book in self.books:
                book.told.pop(i, None)

    @precondition(lambda self: not all(self.net.up))
    @rule()
    def restart(self) -> None:
        self.go(self.net.restart(self.net.up.index(False)))
        self.go(asyncio.sleep(2.0))

    @precondition(lambda self: self.size > 1)
    @rule(i=NODES)
    def fall_silent(self, i: int) -> None:
        i = self.node(i)
        self.has_crashed = True
        self.silent[i] = None
        self.net.sim.unreachable(self.net.seats[i].ip)

    @precondition(lambda self: self.silent)
    @rule()
    def speak_again(self) -> None:
        for i in self.silent:
            self.net.sim.unreachable(self.net.seats[i].ip, False)
        self.silent.clear()

    @precondition(lambda self: self.size > 1)
    @rule(i=NODES, lie=st.sampled_from([Denier, Staler, Forger, Claimer]))
    def turn_liar(self, i: int, lie: type[Adversary]) -> None:
        i = self.node(i)
        if self.net.up[i]:
            self.lies[i] = lie(self.net.nodes[i], Gang(history=self.history))

    @precondition(lambda self: self.lies)
    @rule()
    def repent(self) -> None:
        for liar in self.lies.values():
            liar.repent()
        self.lies.clear()

    @rule(seconds=st.sampled_from([5.0, 90.0]))
    def wait(self, seconds: float) -> None:
        """Past the shorter ttl, where it is 90."""
        self.go(asyncio.sleep(seconds))

    # --- rules: reading --------------------------------------------------------------------------

    @rule(readers=st.lists(NODES, min_size=1, max_size=4), w=OWNERS, local=st.booleans(), how=HOW)
    def get(self, readers: list[int], w: int, local: bool, how: Consistency) -> None:
        _, book = self.book(w)
        for reader in dict.fromkeys(map(self.node, readers)):
            if self.net.up[reader]:
                self.read(reader, book, local, how)

    def read(self, reader: int, book: Book, local: bool, how: Consistency) -> None:
        node = self.net.nodes[reader]
        begun = self.net.clock(reader)
        floor = self.net.seats[reader].disk.floor(book.locator.key(), book.owner.owner_id)
        book.told[reader] = max(book.told.get(reader, 0), floor)
        said = {i: self.says(i, book) for i in range(self.size) if self.net.up[i]}
        error: Exception | None = None
        try:
            result = self.go(
                node.get(NAME, owner=book.owner.owner_id, ignore_local=not local, consistency=how)
            )
        except (NotFound, NotConfirmed, NotBootstrapped) as e:
            error, result = e, e.result
        assert isinstance(result, GetResult)
        self.check(result, error, reader, book, begun)
        if how == "majority" and not self.has_crashed:
            self.check_nothing_missed(result, reader, book, said, local)

    def says(self, i: int, book: Book) -> Record | None:
        """The version node `i` answers with: a valid one, or none."""
        if i in self.silent or not self.net.up[i]:
            return None
        if i in self.lies:
            past = book.in_force(self.net.clock())
            return past[0] if past and isinstance(self.lies[i], Staler) else None
        kept = self.net.nodes[i]._keeper.find(book.locator.key(), book.owner.owner_id)
        return book.by_id(kept[0].record_id) if kept else None

    def check(self, result: GetResult, error: Exception | None, reader: int, book: Book, begun: int) -> None:
        """What must hold of every answer, whatever the others did."""
        record = result.record
        if record is None:
            assert isinstance(error, NotFound | NotBootstrapped)
            assert all(e.holds is None for e in result.evidence)
            return
        assert record in book.signed, "a value its owner never wrote"
        assert record.expires > begun
        assert result.value == (None if record.is_tombstone else record.value)
        held = [book.by_id(e.holds) for e in result.evidence if e.holds is not None]
        assert all(record.timestamp >= h.timestamp for h in held), "older than what was answered"
        newest_told = book.told.get(reader, 0)
        if newest_told > record.timestamp:
            assert result.rollback_from is not None
            assert result.rollback_from >= newest_told
            assert isinstance(error, NotConfirmed)
        book.told[reader] = max(newest_told, record.timestamp)
        if error is None or (isinstance(error, NotFound) and record.is_tombstone):
            assert (error is None) == (not record.is_tombstone)
            self.check_rule(result, held, book)
        else:
            assert result.verdict in (Verdict.CONTESTED, Verdict.TIMED_OUT, Verdict.NOT_BOOTSTRAPPED)

    def check_rule(self, result: GetResult, held: list[Record], book: Book) -> None:
        """The rule, said once more and plainly: what made this answer good."""
        record = result.record
        assert record is not None
        if result.verdict is Verdict.CONFIRMED:
            units = len({e.group for e in result.evidence}) if self.by_group(result) else len(result.evidence)
            assert 2 * result.confirmations > result.holders
            assert result.confirmations >= min(3, units)
            twins = {h.record_id for h in held if h.timestamp == record.timestamp}
            assert twins <= {record.record_id}, "the owner equivocated"
            same = [h for h in held if (h.flags, h.value) == (record.flags, record.value)]
            assert result.confirmations <= len(same) + result.repaired + 1  # and the reader's own copy
        elif result.verdict is Verdict.ALONE:
            assert not result.evidence
        else:
            assert result.verdict is Verdict.FIRST

    def by_group(self, result: GetResult) -> bool:
        return self.groups and len({e.group for e in result.evidence}) >= 3

    def check_nothing_missed(
        self,
        result: GetResult,
        reader: int,
        book: Book,
        said: dict[int, Record | None],
        local: bool,
    ) -> None:
        """All were there to be asked: an older version may only win by a majority of all that answer."""
        voices = {i: r for i, r in said.items() if r is not None and (i != reader or local)}
        if not voices:
            assert result.record is None
            return
        newest = max(r.timestamp for r in voices.values())
        if result.record is None:
            assert result.verdict in (Verdict.TIMED_OUT, Verdict.INVALID_ONLY)
            return
        if result.record.timestamp < newest:
            same = [r for r in voices.values() if r.value_id == result.record.value_id]
            assert 2 * len(same) > len(said) - 1, "a minority restored an older version"


CASES = [(1, True, 5), (1, False, 5), (2, True, 25), (2, False, 25), (5, True, 40), (5, False, 40)]
CASES += [(19, True, 4), (19, False, 4), (21, True, 4), (21, False, 4)]


@pytest.mark.parametrize(("size", "groups", "examples"), CASES)
def test_puts_and_gets_follow_the_reference(size: int, groups: bool, examples: int) -> None:
    machine = type(f"Network{size}", (Network,), {"size": size, "groups": groups})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
