"""Everything that nodes sign, kept, and held against them by every rule there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pqdht.envelope import is_request, request_hash, signed_bytes
from pqdht.errors import DecodeError, EvidenceInvalid
from pqdht.node.exchange import Exchange
from pqdht.trust.evidence import EvidenceRule, Proof, _contacts, _records, collect, judge
from pqdht.wire.codec import encode
from pqdht.wire.messages import MESSAGES, Envelope, decode_envelope
from tests.sim.harness import Net


class Witness:
    """`signed`: every envelope that left the signer of any node, with its signature."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.signed: list[Envelope] = []
        original = Exchange.sign

        def sign(x: Exchange, e: Envelope, send: Callable[[Envelope], None]) -> None:
            def seen(whole: Envelope) -> None:
                self.signed.append(whole)
                send(whole)

            original(x, e, seen)

        patch.setattr(Exchange, "sign", sign)

    def by(self, net: Net, index: int) -> list[Envelope]:
        return [e for e in self.signed if e.sender == net.seats[index].identity.node_id]

    def proofs(self, net: Net, index: int) -> list[Proof]:
        """What the envelopes of a node prove against it."""
        asked: dict[bytes, Envelope] = {}
        for e in self.signed:
            if is_request(e):
                asked[request_hash(signed_bytes(net.tag, e))] = e
        found: list[Proof] = []
        for e in self.by(net, index):
            request = b"" if is_request(e) else encode(asked[e.request])
            found += accusations(net, index, encode(e), request)
        return found


def accusations(net: Net, index: int, envelope: bytes, request: bytes) -> list[Proof]:
    """Every proof that one envelope of a node gives: each rule, each record and contact."""
    seat = net.seats[index]
    e = decode_envelope(envelope)
    try:
        body: Any = MESSAGES.decode(e.type, e.body)
        places = max(len(_records(body)), len(_contacts(body))) + 1
    except DecodeError:
        places = 1
    found: list[Proof] = []
    for rule in EvidenceRule:
        signing = seat.identity.signing.public
        evidence = collect(rule, seat.identity.contact(), signing, envelope, request)
        for place in range(places):
            changed = type(evidence)(
                int(rule), evidence.contact, signing, envelope, evidence.request, place
            )  # fmt: skip
            try:
                found.append(judge(changed, seat.suite, net.tag))
            except EvidenceInvalid:
                continue
    return found
