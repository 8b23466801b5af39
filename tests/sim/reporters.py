"""Nodes that misuse reports: slanderers, who send what proves nothing, and framers, who try to make honest
nodes sign proofs against themselves."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable
from typing import Any

import msgspec

from pqdht.errors import PqdhtError
from pqdht.node.exchange import Answer
from pqdht.records.record import _decode_tbs
from pqdht.trust.evidence import EvidenceRule, collect
from pqdht.wire.codec import encode
from pqdht.wire.messages import (
    Body,
    Evidence,
    FindNode,
    FindValue,
    FindValues,
    Report,
    Reported,
    Store,
    WireRecord,
    decode_envelope,
)
from tests.sim.harness import Net, contact


def share(net: Net, of: float) -> list[int]:
    """That share of all nodes, the last ones."""
    return list(range(len(net.nodes) - round(of * len(net.nodes)), len(net.nodes)))


def known(net: Net, asker: int) -> list[int]:
    """Whom a node has in its table."""
    table = net.nodes[asker]._routing.table
    return [i for i, s in enumerate(net.seats) if i != asker and s.identity.node_id in table]


async def answers(net: Net, asker: int, of: int, bodies: Iterable[Body]) -> list[Answer]:
    """Whatever a node answers to these."""
    found: list[Answer] = []
    for body in bodies:
        with contextlib.suppress(PqdhtError):
            found.append(await net.nodes[asker]._peers.request(contact(net, asker, of), body))
    return found


def slanders(net: Net, victim: int, got: list[Answer], dice: random.Random) -> list[Evidence]:
    """False, expired, spliced and cut evidence against a node, made of its own signed answers."""
    identity = net.seats[victim].identity
    made: list[Evidence] = []
    for answer, other in zip(got, [*got[1:], *got[:1]], strict=True):
        for rule in EvidenceRule:
            true = collect(rule, identity.contact(), identity.signing.public, answer.envelope, answer.request)
            e = decode_envelope(answer.envelope)
            swap = msgspec.structs.replace
            made += [
                swap(true, place=dice.randrange(3)),
                swap(true, request=other.request),
                swap(true, envelope=encode(swap(e, body=e.body[:-1]))),
                swap(true, envelope=answer.envelope[:-1]),
                swap(true, envelope=encode(swap(e, type=14))),
                swap(true, contact=swap(true.contact, nonce=dice.randbytes(8))),
                swap(true, contact=swap(true.contact, born=true.contact.born - 40)),
            ]
    return made


async def report(net: Net, by: int, to: int, evidence: Evidence) -> int | None:
    """The code that a node answers to a REPORT."""
    with contextlib.suppress(PqdhtError):
        answer = await net.nodes[by]._peers.request(contact(net, by, to), Report(evidence))
        assert isinstance(answer.body, Reported)
        return answer.body.code
    return None


def crafted(net: Net, by: int, key: bytes, dice: random.Random) -> list[Body]:
    """Questions and gifts meant to come back as proofs: forged, moved, stale, of other versions."""
    owner = net.seats[by].owner
    where = net.nodes[by].named(f"x{dice.randrange(9)}")
    good = net.sign(owner, where, b"v", timestamp=net.clock()).wire
    swap: Any = msgspec.structs.replace
    tbs = _decode_tbs(good.tbs)
    forged = [WireRecord(good.tbs, bytes([good.signature[0] ^ 1]) + good.signature[1:])]
    for fields in ({"key": key}, {"version": 2}, {"kind": 9}, {"timestamp": 1}, {"flags": 128}):
        forged.append(WireRecord(encode(swap(tbs, **fields)), good.signature))
    return [
        *(Store((r,), dice.random() < 0.5) for r in [good, *forged]),
        FindNode(key, known=dice.randbytes(7)),
        FindValue(key, cursor=dice.randbytes(32)),
        FindValue(where.key()),
        FindValues((FindValue(where.key()), FindValue(key))),
    ]
