"""Adversaries that misuse reports of offences."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec

from ...errors import EvidenceInvalid
from ...identity.contact import VerifiedContact
from ...node.dht import SecureDHT
from ...node.exchange import Answer
from ...trust.evidence import EvidenceRule, collect, judge
from ...wire.codec import encode
from ...wire.messages import (
    Body,
    Evidence,
    FindNode,
    FindValue,
    FindValues,
    MessageType,
    Report,
    Reported,
    Store,
    WireRecord,
    decode_envelope,
)
from .base import Adversary, Gang
from .values import altered

swap: Any = msgspec.structs.replace


class _Reporter(Adversary):
    """Accuses honest nodes that it knows; `codes` counts what it was answered, None for no answer."""

    defences: ClassVar[tuple[str, ...]] = ("evidence", "reports")

    HEARERS = 3
    """Told of each victim."""

    def turn(self) -> None:
        super().turn()
        self.codes: Counter[int | None] = Counter()

    def pick(self) -> tuple[VerifiedContact, list[VerifiedContact]] | None:
        """(victim, who is told of it); None where it knows too few."""
        some = self.known()
        if len(some) < 2:
            return None
        victim, *hearers = self.dice.sample(some, min(1 + self.HEARERS, len(some)))
        return victim, hearers

    async def answers(self, of: VerifiedContact, bodies: Sequence[Body]) -> list[Answer]:
        """Whatever a node answers to these, one after another."""
        got = [await self.question(of, body) for body in bodies]
        return [answer for answer in got if answer is not None]

    async def accuse(self, to: VerifiedContact, evidence: Evidence) -> None:
        """Send one report."""
        body = await self.ask(to, Report(evidence))
        self.codes[body.code if isinstance(body, Reported) else None] += 1


def evidence_of(rule: EvidenceRule, answer: Answer) -> Evidence:
    """What an answer would have to prove."""
    assert answer.peer is not None
    return collect(rule, answer.peer.contact, answer.peer.signing_key, answer.envelope, answer.request)


class Slanderer(_Reporter):
    """Accuses an honest node (`act`) at a few others by every rule there is: with its true answers, moved,
    spliced with the question of another, cut, under another type, and in the name of contacts that do not
    fit.  It has signed answers of the node, and not its key."""

    name = "slanderer"
    summary = "accuses honest nodes with all that can be made of their answers"

    ACCUSATIONS = 8
    """Sent to each hearer."""

    async def act(self) -> None:
        if (chosen := self.pick()) is None:
            return
        victim, hearers = chosen
        key = self.dice.choice(self.gang.keys() or [bytes(victim.node_id)])
        made = self.slanders(await self.answers(victim, [FindNode(key), FindValue(key)]))
        for to in hearers:
            for evidence in self.dice.sample(made, min(self.ACCUSATIONS, len(made))):
                await self.accuse(to, evidence)

    def slanders(self, got: list[Answer]) -> list[Evidence]:
        """False evidence against who gave these answers."""
        made: list[Evidence] = []
        for answer, other in zip(got, [*got[1:], *got[:1]], strict=True):
            e = decode_envelope(answer.envelope)
            for rule in EvidenceRule:
                true = evidence_of(rule, answer)
                made += [
                    swap(true, place=self.dice.randrange(3)),
                    swap(true, request=other.request),
                    swap(true, envelope=encode(swap(e, body=e.body[:-1]))),
                    swap(true, envelope=answer.envelope[:-1]),
                    swap(true, envelope=encode(swap(e, type=int(MessageType.REPORTED)))),
                    swap(true, contact=swap(true.contact, nonce=self.dice.randbytes(8))),
                    swap(true, contact=swap(true.contact, born=true.contact.born - 40)),
                ]
        return made


class Framer(_Reporter):
    """Wants an honest node to sign what proves an offence.  Gives it (`act`) records that are forged, moved,
    stale or of other versions, asks for them with crafted questions, and reports what comes back: what
    proves something if anything does, else some of it.  `got` keeps the latest answers."""

    name = "framer"
    summary = "gives honest nodes what would prove a fault of theirs if they passed it on"

    ROUNDS = 2
    ACCUSATIONS = 4
    """Sent where nothing proves anything."""
    KEPT = 256

    def __init__(self, node: SecureDHT, gang: Gang) -> None:
        super().__init__(node, gang)
        self.got: deque[Answer] = deque(maxlen=self.KEPT)

    async def act(self) -> None:
        if (chosen := self.pick()) is None:
            return
        victim, hearers = chosen
        got: list[Answer] = []
        for _ in range(self.ROUNDS):
            got += await self.answers(victim, self.crafted(self.dice.randbytes(32)))
        self.got.extend(got)
        made = [evidence_of(rule, answer) for answer in got for rule in EvidenceRule]
        worth = list(filter(self.is_proof, made))[: self.ACCUSATIONS]
        for evidence in worth or self.dice.sample(made, min(self.ACCUSATIONS, len(made))):
            await self.accuse(self.dice.choice(hearers), evidence)

    def is_proof(self, evidence: Evidence) -> bool:
        """Whether anybody would believe it."""
        env = self.node.env
        try:
            judge(evidence, env.suite, env.network_tag, env.messages)
        except EvidenceInvalid:
            return False
        return True

    def crafted(self, key: bytes) -> list[Body]:
        """Gifts and questions meant to come back as proofs."""
        where = self.node.named(f"x{self.dice.randrange(9)}")
        now = self.now_ms
        good = self.sign(where, b"v", now)
        forged = [WireRecord(good.tbs, bytes([good.signature[0] ^ 1]) + good.signature[1:])]
        for fields in (
            {"key": key},
            {"version": 2},
            {"kind": 9},
            {"timestamp": 1},
            {"timestamp": now + 1},
            {"flags": 128},
        ):
            forged.append(altered(good, **fields))
        return [
            *(Store((r,), self.dice.random() < 0.5) for r in [good, *forged]),
            FindNode(key, known=self.dice.randbytes(7)),
            FindValue(key, cursor=self.dice.randbytes(32)),
            FindValue(where.key()),
            FindValues((FindValue(where.key()), FindValue(key))),
        ]
