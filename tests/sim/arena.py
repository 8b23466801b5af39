"""Real nodes, some of them adversaries: what every test of an attack needs.

Defences that have a mode are switched by `Config.defences` (`run(..., defences={...})`).  Those that belong
to the protocol have no switch: a test takes the one rule away with a patch named `without_...`, here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from unittest.mock import patch

from pqdht.config import Consistency
from pqdht.constants import TESTNET, ParameterSet
from pqdht.errors import NotBootstrapped, NotConfirmed, NotFound
from pqdht.identity.contact import ContactVerifier
from pqdht.ids import distance
from pqdht.kad.quorum import Confirmation, Verdict, confirm
from pqdht.node import publisher, reader
from pqdht.node.keeper import Keeper
from pqdht.node.peers import Peers
from pqdht.node.routing import Routing
from pqdht.records import Record, RecordVerifier, make_record
from pqdht.storage.memory import MemoryStore
from pqdht.testing.adversaries import Gang, enlist
from pqdht.testing.loop import run as run_loop
from tests.sim.harness import Net, with_limits

T = TypeVar("T")


def small(k: int = 8, **limits: Any) -> ParameterSet:
    """A network with short buckets, so that few nodes fill them."""
    return replace(with_limits(TESTNET, **limits), k=k)


@dataclass
class Read:
    """What one GET said."""

    verdict: Verdict
    value: bytes | None
    time_s: float
    rollback: bool = False

    @property
    def is_believed(self) -> bool:
        """Whether the caller got a value, rather than an error."""
        return self.verdict in (Verdict.CONFIRMED, Verdict.FIRST, Verdict.ALONE)


@dataclass
class Arena:
    """A network under attack, and a book of what was truly written."""

    net: Net
    written: dict[str, list[bytes]] = field(default_factory=dict)
    may_be_forged: bool = False
    """Only where the check of signatures itself was taken away."""

    async def put(self, i: int, name: str, value: bytes, **options: Any) -> None:
        """Node `i` writes its own value, and the book knows."""
        self.written.setdefault(name, []).append(value)
        await self.net.nodes[i].put(name, value, **options)

    async def get(self, i: int, of: int, name: str, consistency: Consistency | None = None) -> Read:
        """Node `i` reads node `of`'s value.  No forged one is ever returned, in any run."""
        owner = self.net.seats[of].owner.owner_id
        try:
            r = await self.net.nodes[i].get(name, owner=owner, ignore_local=True, consistency=consistency)
        except (NotFound, NotConfirmed, NotBootstrapped) as e:
            r = e.result
        assert self.may_be_forged or r.value is None or r.value in self.written[name], r.value
        return Read(r.verdict, r.value, r.time_s, r.rollback_from is not None)

    def closest(self, key: bytes, among: range | None = None) -> list[int]:
        """Nodes by their distance to a key."""
        seats = self.net.seats
        indices = among if among is not None else range(len(seats))
        return sorted(indices, key=lambda i: distance(seats[i].identity.node_id, key))

    def key(self, of: int, name: str) -> bytes:
        """Where node `of`'s value stands."""
        return self.net.nodes[of].named(name).key()

    def bystanders(self, key: bytes, but: Gang) -> list[int]:
        """Honest nodes that hold nothing under a key, the farthest from it first."""
        far = reversed(self.closest(key))
        mine = (i for i in far if bytes(self.net.nodes[i].node_id) not in but.members)
        return [i for i in mine if not self.net.nodes[i].env.store.get(key)]

    def enlist(self, name: str, *nodes: int, **options: Any) -> Gang:
        """Make nodes adversaries."""
        return enlist(name, [self.net.nodes[i] for i in nodes], Gang(seed=self.net.seed, **options))


def run(
    scenario: Callable[[Arena], Awaitable[T]], nodes: int, *, grown: bool = True, **options: Any
) -> tuple[T, str]:
    """(what the scenario returned, hash of all packets) on a fresh network; same seed, same packets."""
    outcome: list[tuple[T, str]] = []

    async def main() -> None:
        net = Net(**options)
        if grown:
            await net.grow(nodes, pause_s=0.1)
        outcome.append((await scenario(Arena(net)), net.sim.trace_hash()))
        await net.close()

    run_loop(main)
    return outcome[0]


def among_storers(adversary: str, count: int) -> Callable[[Arena], Awaitable[list[Read]]]:
    """A scenario: the `count` nodes closest to a key are adversaries, a value is put there, and four
    bystanders read it."""

    async def scenario(arena: Arena) -> list[Read]:
        key = arena.key(0, "x")
        gang = arena.enlist(adversary, *[i for i in arena.closest(key) if i][:count])
        await arena.put(0, "x", b"here")
        return [await arena.get(i, 0, "x") for i in arena.bystanders(key, gang)[:4]]

    return scenario


# --- rules of the protocol, taken away one at a time -------------------------------------------------


@contextlib.contextmanager
def without_signature_check() -> Iterator[None]:
    """Records are believed as they are."""
    with patch.object(RecordVerifier, "verify", lambda self, record: None):
        yield


@contextlib.contextmanager
def with_plain_votes() -> Iterator[None]:
    """Who says that nothing is there has a vote as well: more empty answers than full ones, and it is so."""

    def vote(members: Any, holdings: Any, **options: Any) -> Confirmation:
        found = confirm(members, holdings, **options)
        if 2 * found.confirmations > found.units:
            return found
        return found._replace(verdict=Verdict.ABSENT, newest=None, repair=())

    with patch.object(reader, "confirm", vote):
        yield


@contextlib.contextmanager
def without_puzzle_check() -> Iterator[None]:
    """Contacts are believed without their puzzle."""
    with patch.object(ContactVerifier, "check_digest", lambda self, contact: None):
        yield


@contextlib.contextmanager
def without_hedging() -> Iterator[None]:
    """Nobody is ever slow: a lookup waits for each until it fails."""
    with (
        patch.object(Peers, "hedge", lambda self, node_id: float("inf")),
        patch.object(Peers, "patience", lambda self, node_id: float("inf")),
    ):
        yield


@contextlib.contextmanager
def without_observed_addresses() -> Iterator[None]:
    """A node is counted under the address it claims, not the one that answered."""
    answered = Routing.answered

    def claimed(self: Routing, conn: Any, rtt_s: float | None = None) -> None:
        contact = self.contact_of(conn)
        add = self.table.add

        def add_as_claimed(node_id: bytes, c: Any, group: str, wide: str, now: float, **more: Any) -> Any:
            return add(node_id, c, contact.group, contact.wide_group, now, **more)

        with patch.object(self.table, "add", add_as_claimed):
            answered(self, conn, rtt_s)

    with patch.object(Routing, "answered", claimed), patch.object(Routing, "has_room", lambda s, c: True):
        yield


@contextlib.contextmanager
def without_one_per_node() -> Iterator[None]:
    """A topic keeps whoever came first, however many owners of one node."""

    def first_come(
        self: Keeper, record: Record, now: int, group: str = ""
    ) -> tuple[tuple[bytes, bytes], ...] | None:
        full = len(self._env.store.get(record.key)) >= self._limits.records_per_key
        return None if full else ()

    with patch.object(Keeper, "_topic_loser", first_come):
        yield


@contextlib.contextmanager
def without_ttl_raise() -> Iterator[None]:
    """A publisher gives each version the ttl it was asked for."""

    def as_asked(*args: Any, **options: Any) -> Record:
        return make_record(*args, **(options | {"ttl": wanted[-1] if wanted else options["ttl"]}))

    wanted: list[int] = []
    sign = publisher.Publisher._sign

    async def note(self: Any, locator: Any, value: bytes, owner: Any, ttl_s: int, *more: Any) -> Any:
        wanted.append(ttl_s)
        try:
            return await sign(self, locator, value, owner, ttl_s, *more)
        finally:
            wanted.pop()

    with patch.object(publisher, "make_record", as_asked), patch.object(publisher.Publisher, "_sign", note):
        yield


@contextlib.contextmanager
def without_floors() -> Iterator[None]:
    """Nobody remembers the timestamps of what has expired."""
    with patch.object(MemoryStore, "floor", lambda self, key, owner: 0):
        yield
