"""No input makes an honest node sign an envelope that proves an offence: whatever it is asked, told or
given to keep, and whatever its disk has become meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pqdht.crypto.labels import RECORD
from pqdht.envelope import request_hash, signed_bytes
from pqdht.errors import Closed, PqdhtError
from pqdht.identity.contact import VerifiedContact
from pqdht.identity.keys import OwnerIdentity
from pqdht.node.exchange import Question
from pqdht.node.keeper import Keeper
from pqdht.node.routing import REMEMBERED
from pqdht.records import Content, Named, Topic
from pqdht.records.record import _decode_tbs
from pqdht.storage.base import StoredRecord
from pqdht.testing.loop import run
from pqdht.wire.codec import encode
from pqdht.wire.contact import Contact
from pqdht.wire.messages import (
    Body,
    Evidence,
    FindNode,
    FindValue,
    FindValues,
    Nodes,
    Ping,
    Report,
    Store,
    Values,
    WireRecord,
)
from tests.sim.harness import Net, at
from tests.sim.witness import Witness

VICTIM, EVIL = 0, 1
WHERES: list[Any] = ["a", "b", Topic("t"), Content.of(b"v")]
ids = st.binary(min_size=32, max_size=32)
seeds = st.integers(0, 2**32)


def flip(data: bytes, dice: random.Random) -> bytes:
    """One byte changed, or a part cut off."""
    if not data or dice.random() < 0.1:
        return data[: dice.randrange(len(data) + 1)]
    i = dice.randrange(len(data))
    return data[:i] + bytes([data[i] ^ (1 << dice.randrange(8))]) + data[i + 1 :]


class Scene:
    """A victim, an evil node and a third, and what can befall the victim."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.owner = OwnerIdentity.generate(net.seats[EVIL].suite)
        self.count = 0

    def record(self, dice: random.Random) -> WireRecord:
        """A record of any kind: right, or wrong in some way, signed by its owner or not."""
        self.count += 1
        where = dice.choice(WHERES)
        where = Named(self.owner.owner_id, where) if isinstance(where, str) else where
        node = self.net.seats[EVIL].identity if isinstance(where, Topic) else None
        now = self.net.clock() + self.count
        wire = self.net.sign(self.owner, where, b"v", timestamp=now, node=node).wire
        match dice.randrange(6):
            case 0:
                return WireRecord(wire.tbs, flip(wire.signature, dice))
            case 1:
                return WireRecord(flip(wire.tbs, dice), wire.signature)
            case 2:
                changes: list[dict[str, Any]] = [
                    {"key": dice.randbytes(32)}, {"kind": dice.randrange(8)}, {"version": dice.randrange(4)},
                    {"flags": dice.randrange(256)}, {"ttl": dice.randrange(2**32)},
                    {"timestamp": dice.randrange(2**62)}, {"network_tag": dice.randbytes(32)},
                ]  # fmt: skip
                tbs = encode(msgspec.structs.replace(_decode_tbs(wire.tbs), **dice.choice(changes)))
                return WireRecord(tbs, self.owner.signing.sign(RECORD + tbs, RECORD))
            case _:
                return wire

    def false_contact(self, dice: random.Random) -> Contact:
        good = self.net.seats[2].identity.contact((f"tcp/10.9.{dice.randrange(250)}.1:1",), with_key=True)
        changes: list[dict[str, Any]] = [
            {"digest": dice.randbytes(32)}, {"digest": bytes(32)}, {"nonce": dice.randbytes(8)},
            {"born": dice.randrange(2**32)}, {"kem_key": dice.randbytes(1216)}, {"addresses": ("nonsense",)},
        ]  # fmt: skip
        return msgspec.structs.replace(good, **dice.choice(changes))

    def contact(self, of: int) -> VerifiedContact:
        seat = self.net.seats[of]
        told = seat.identity.contact((at(seat.ip),), with_key=True)
        return self.net.nodes[EVIL].env.contacts.verify(told, self.net.clock())

    async def ask(self, body: Body) -> None:
        """The evil node asks the victim."""
        with contextlib.suppress(PqdhtError):
            await self.net.nodes[EVIL]._peers.request(self.contact(VICTIM), body)

    async def send(self, number: int, raw: bytes) -> None:
        """Any body under any number, well signed."""
        conn = self.net.nodes[EVIL]._peers.sessions.get(self.net.nodes[VICTIM].node_id)
        if conn is None or conn.is_closed:
            return
        question = Question(Ping(), asyncio.get_running_loop().create_future(), 2.0)
        e = conn.exchange.question_envelope(question, self.net.nodes[VICTIM].node_id, bytes(32))
        e = msgspec.structs.replace(e, type=number, body=raw)
        question.hash = request_hash(signed_bytes(self.net.tag, e))
        conn.exchange._questions[question.rpc_id] = question
        conn.exchange.sign(e, conn.exchange._send_asked)
        with contextlib.suppress(PqdhtError):
            await question.future

    def damage(self, dice: random.Random) -> None:
        """The victim's disk forgets something, column by column."""
        index = self.net.seats[VICTIM].disk._index
        held: list[StoredRecord] = [r for under in index._held.values() for r in under.values()]
        if not held:
            return
        one, other = dice.choice(held), dice.choice(held)
        changes: list[dict[str, Any]] = [
            {"tbs": flip(one.tbs, dice)}, {"signature": flip(one.signature, dice)},
            {"tbs": other.tbs, "signature": other.signature}, {"record_id": dice.randbytes(32)},
            {"record_id": b"short"}, {"expires": 2**62}, {"tbs": b""}, {"size": 1}, {"node": b"x"},
        ]  # fmt: skip
        index._held[one.key][one.owner] = replace(one, **dice.choice(changes))

    async def act(self, what: str, dice: random.Random) -> None:
        victim, evil = self.net.nodes[VICTIM], self.net.nodes[EVIL]
        match what:
            case "store":
                records = tuple(self.record(dice) for _ in range(dice.randint(1, 3)))
                await self.ask(Store(records, dice.random() < 0.5))
            case "damage":
                self.damage(dice)
            case "damage the journal":
                states = self.net.seats[VICTIM].disk._states
                for name in sorted(n for n in states if n.startswith("publication/")):
                    states[name] = flip(states[name], dice)
            case "damage what it remembers":
                false = [self.false_contact(dice) for _ in range(3)]
                self.net.seats[VICTIM].disk._states[REMEMBERED] = encode(tuple(false))
            case "restart":
                await self.net.crash(VICTIM)
                await self.net.restart(VICTIM)
                await asyncio.sleep(5.0)
            case "lie":
                lies = tuple(self.false_contact(dice) for _ in range(3))
                evil._handlers._contacts = lambda *_: lies  # type: ignore[method-assign]
                with contextlib.suppress(PqdhtError):
                    await victim.find_node(dice.randbytes(32))
            case "lie about records":
                made = self.record(dice)

                def lie(conn: Any, asked: FindValue) -> Values:
                    return Values(asked.key, (made,), (dice.randbytes(32),), (), dice.randbytes(32))

                evil._handlers._find_value = lie  # type: ignore[method-assign,assignment]
                with contextlib.suppress(PqdhtError):
                    await victim.get(Named(self.owner.owner_id, dice.choice("ab")))
                with contextlib.suppress(PqdhtError):
                    await victim.get_topic("t")
            case "put":
                with contextlib.suppress(PqdhtError):
                    await victim.put(dice.choice(WHERES), b"v")
            case "replicate":
                victim._keeper._refreshed.clear()
                with contextlib.suppress(PqdhtError, Closed):
                    await victim._maintenance.replicate()
                    victim._maintenance.hand_over_to(self.contact(EVIL))
                    await victim._publisher.retry()
                await asyncio.sleep(1.0)

    def held_keys(self) -> list[bytes]:
        return list(self.net.seats[VICTIM].disk._index._held)


questions: st.SearchStrategy[Any] = st.one_of(
    st.builds(FindNode, ids, st.none() | ids, st.none() | ids, st.binary(max_size=40)),
    st.builds(FindValue, ids, st.none() | ids, st.lists(ids, max_size=3).map(tuple), st.none() | ids),
    st.builds(FindValues, st.lists(st.builds(FindValue, ids), min_size=1, max_size=3).map(tuple)),
    st.builds(Report, st.none(), st.lists(ids, max_size=3).map(tuple)),
    st.builds(
        lambda rule, raw, place: Report(
            Evidence(rule, Contact(bytes(32), bytes(32), 1, bytes(8), bytes(32)), b"k", raw, b"", place)
        ),
        st.integers(0, 255), st.binary(max_size=40), st.integers(0, 65535),
    ),
    st.builds(Nodes, ids, st.just(())),
)  # fmt: skip
deeds = st.sampled_from(
    ["store", "store", "damage", "damage", "damage the journal", "damage what it remembers", "restart", "lie",
     "lie about records", "put", "replicate"]
)  # fmt: skip
actions = st.lists(
    st.one_of(
        st.tuples(st.just("act"), deeds, seeds),
        st.tuples(st.just("ask"), questions, seeds),
        st.tuples(st.just("send"), st.integers(0, 30), st.binary(max_size=60)),
    ),
    min_size=1,
    max_size=12,
)


@pytest.fixture
def patch() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as p:
        yield p


async def play(plan: list[Any], witness: Witness) -> Net:
    net = Net(early="never", signing="every")
    await net.grow(3)
    scene = Scene(net)
    for kind, what, more in plan:
        if kind == "act":
            await scene.act(what, random.Random(more))
        elif kind == "ask":
            await scene.ask(what)
        else:
            await scene.send(what, more)
    for key in scene.held_keys():  # all that it holds, as it is now
        for body in (FindValue(key), FindValues((FindValue(key), FindValue(key))), FindNode(key)):
            await scene.ask(body)
    await scene.act("replicate", random.Random(1))
    await net.close()
    return net


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(plan=actions)
def test_an_honest_node_signs_nothing_that_proves_an_offence(plan: list[Any]) -> None:
    async def main() -> None:
        with pytest.MonkeyPatch.context() as patch:
            witness = Witness(patch)
            net = await play(plan, witness)
        assert witness.by(net, VICTIM)
        assert witness.proofs(net, VICTIM) == []
        assert witness.proofs(net, 2) == []

    run(main)


def test_the_search_would_find_it_if_records_were_served_unchecked(patch: pytest.MonkeyPatch) -> None:
    """As before records were checked when served: one flipped byte of a disk frames its node."""
    patch.setattr(Keeper, "_is_sound", lambda *_: True)

    async def main() -> None:
        witness = Witness(patch)
        net = Net(early="never")
        await net.grow(3)
        scene = Scene(net)
        await net.nodes[VICTIM].put("a", b"v")
        held = net.seats[VICTIM].disk._index._held
        for key, under in held.items():
            for owner, kept in under.items():
                held[key][owner] = replace(kept, signature=flip(kept.signature, random.Random(1)))
        for key in scene.held_keys():
            await scene.ask(FindValue(key))
        (proof,) = witness.proofs(net, VICTIM)
        assert (proof.offender, proof.rule) == (net.nodes[VICTIM].node_id, 1)
        await net.close()

    run(main)
