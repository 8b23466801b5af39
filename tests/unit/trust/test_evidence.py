"""What proves an offence, and what does not: `judge` against liars, framers and honest bytes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from pqdht.crypto.api import make_suite
from pqdht.crypto.batch import strip_root
from pqdht.crypto.labels import RECORD
from pqdht.crypto.providers import get_provider
from pqdht.envelope import with_signature
from pqdht.errors import EvidenceInvalid
from pqdht.identity.contact import claimed_id
from pqdht.identity.keys import new_commit
from pqdht.records.record import _decode_tbs
from pqdht.trust.evidence import EvidenceRule, Proof, collect, judge
from pqdht.wire.codec import encode
from pqdht.wire.contact import Contact
from pqdht.wire.messages import (
    Evidence,
    FindNode,
    MessageSet,
    Nodes,
    Store,
    Values,
    ValuesList,
    WireRecord,
    decode_envelope,
)
from tests.unit.trust.accused import ID, Court

RULES = list(EvidenceRule)
BAD, KEY, DIGEST, MALFORMED = RULES


def changed(wire: WireRecord, court: Court, **fields: Any) -> WireRecord:
    """The record with other fields, signed by its owner all the same."""
    tbs = encode(msgspec.structs.replace(_decode_tbs(wire.tbs), **fields))
    return WireRecord(tbs, court.owner.signing.sign(RECORD + tbs, RECORD))


def flipped(wire: WireRecord) -> WireRecord:
    return WireRecord(wire.tbs, bytes([wire.signature[0] ^ 1]) + wire.signature[1:])


def liar(court: Court) -> Contact:
    return msgspec.structs.replace(court.node().contact(), digest=bytes(32))


def refusal(court: Court, evidence: Evidence) -> str:
    with pytest.raises(EvidenceInvalid) as e:
        judge(evidence, court.suite, court.tag)
    return e.value.reason


def values(*records: WireRecord, contacts: tuple[Contact, ...] = ()) -> Values:
    return Values(ID, records, (), contacts)


def offences(court: Court) -> dict[str, tuple[EvidenceRule, tuple[bytes, bytes], Any]]:
    """rule, (answer, question), what breaks it"""
    good, bad, moved = court.record(), flipped(court.record()), changed(court.record(), court, key=ID)
    honest, false = court.node().contact(), liar(court)
    topic = court.records()["topic"]
    node = _decode_tbs(topic.tbs).extra.node
    assert node is not None
    forged = msgspec.structs.replace(node, signature=bytes(len(node.signature)))
    extra = msgspec.structs.replace(_decode_tbs(topic.tbs).extra, node=forged)
    unproven = changed(topic, court, extra=extra)
    store = court.question(Store((good, bad)), court.accused)
    cut = msgspec.structs.replace(court.question(by=court.accused), body=b"\x90")
    ask = court.exchange
    return {
        "a signature in VALUES": (BAD, ask(values(good, bad)), bad),
        "a signature of no length": (BAD, ask(values(WireRecord(good.tbs, b""))), WireRecord(good.tbs, b"")),
        "a node's signature": (BAD, ask(values(unproven)), unproven),
        "a signature in VALUES_LIST": (BAD, ask(ValuesList((values(good), values(good, bad)))), bad),
        "a key in VALUES": (KEY, ask(values(moved)), moved),
        "a content key": (KEY, ask(values(r := changed(court.record(), court, kind=1, key=ID))), r),
        "a topic key": (KEY, ask(values(r := changed(topic, court, key=ID))), r),
        "a contact in NODES": (DIGEST, ask(Nodes(ID, (honest, false)), court.question(FindNode(ID))), false),
        "a contact in VALUES": (DIGEST, ask(values(contacts=(false,))), false),
        "a contact in VALUES_LIST": (
            DIGEST, ask(ValuesList((values(contacts=(honest,)), values(contacts=(false,))))), false,
        ),
        "a body": (MALFORMED, ask(b"\xc1"), None),
        "a body cut short": (MALFORMED, ask(encode(values(good))[:-1]), None),
        "a STORE": (BAD, (court.sign(store, court.accused), b""), bad),
        "a question": (MALFORMED, (court.sign(cut, court.accused), b""), None),
    }  # fmt: skip


NAMES = list(offences(Court()))


@pytest.mark.parametrize("name", NAMES)
def test_an_offence_is_proved_by_its_rule_and_by_no_other(name: str) -> None:
    court = Court()
    rule, answer, item = offences(court)[name]
    evidence = court.evidence(rule, answer, item)
    proof = judge(evidence, court.suite, court.tag)
    assert (proof.offender, proof.rule) == (court.accused.node_id, rule)
    assert proof.contact == court.accused.contact()
    both = {BAD} if name == "a topic key" else set()  # its node signed for another key
    for other in set(RULES) - {rule} - both:
        changed_rule = msgspec.structs.replace(evidence, rule=int(other))
        assert refusal(court, changed_rule) in ("no offence", "unsupported"), other


@pytest.mark.parametrize("provider", ["openssl", "liboqs"])
def test_with_real_signatures(provider: str) -> None:
    court = Court(make_suite(1, get_provider(provider)))
    for rule, answer, item in offences(court).values():
        assert isinstance(judge(court.evidence(rule, answer, item), court.suite, court.tag), Proof)
    for wire in court.records().values():
        evidence = court.evidence(BAD, court.exchange(values(wire)), wire)
        assert refusal(court, evidence) == "no offence"


def test_honest_bytes_prove_nothing() -> None:
    court = Court()
    honest = court.node().contact(("tcp/192.0.2.7:1",), with_key=True)
    body = values(*court.records().values(), contacts=(honest,))
    answer = court.exchange(body)
    for rule in RULES:
        for place in range(len(body.records) + 1):
            evidence = msgspec.structs.replace(court.evidence(rule, answer), place=place)
            assert refusal(court, evidence) == "no offence"


def test_what_time_and_limits_decide_is_never_an_offence() -> None:
    """Expired, dated ahead, too long, with unknown flags, a short ttl, an old or easy id, of another name
    than allowed: reasons to refuse, not to accuse."""
    court = Court()
    good = court.record()
    extra = msgspec.structs.replace(_decode_tbs(good.tbs).extra, name=None)
    wires = [
        changed(good, court, timestamp=1),
        changed(good, court, timestamp=2**61),
        changed(good, court, ttl=1),
        changed(good, court, ttl=2**31),
        changed(good, court, flags=128),
        changed(good, court, extra=extra),
        changed(changed(good, court, kind=1), court, key=ID, kind=4),
        changed(good, court, version=2),
        changed(good, court, suite=2),
        changed(good, court, network_tag=ID),
        WireRecord(b"", b""),
        WireRecord(good.tbs + b"\0", good.signature),
    ]
    for wire in wires:
        for rule in (BAD, KEY):
            found = refusal(court, court.evidence(rule, court.exchange(values(wire)), wire))
            assert found == ("unsupported" if wire in wires[6:8] else "no offence")
    ancient = new_commit(court.suite, court.tag, 3).solved(bytes(8)).contact()
    moved = msgspec.structs.replace(court.node().contact(), addresses=("nonsense",))
    keyless = msgspec.structs.replace(court.node().contact(), kem_key=b"no key", features=7, stake=b"s")
    for contact in (ancient, moved, keyless):
        answer = court.exchange(values(contacts=(contact,)))
        assert refusal(court, court.evidence(DIGEST, answer, contact)) == "no offence"


@pytest.mark.parametrize("name", NAMES)
def test_a_framer_gets_nowhere(name: str) -> None:
    """Evidence against one node, cut, spliced and put together anew, accuses nobody else."""
    court = Court()
    rule, answer, item = offences(court)[name]
    good = court.evidence(rule, answer, item)
    other, (raw, request) = court.node(), (good.envelope, good.request)
    e = decode_envelope(raw)
    swap = msgspec.structs.replace
    second = encode(with_signature(court.question(rpc_id=b"another!"), b""))
    resent = encode(swap(e, sender=other.node_id))
    framed = {
        "another node": swap(good, contact=other.contact()),
        "another node and its key": swap(good, contact=other.contact(), signing_key=other.signing.public),
        "another node's name on it": swap(
            good, contact=other.contact(), signing_key=other.signing.public, envelope=resent
        ),
        "another key": swap(good, signing_key=other.signing.public),
        "another nonce": swap(good, contact=swap(good.contact, nonce=b"\7" * 8)),
        "addresses": swap(good, contact=swap(good.contact, addresses=("tcp/192.0.2.1:1",))),
        "another question": swap(good, request=second),
        "no root": swap(good, envelope=encode(with_signature(e, strip_root(e.signature)))),
        "unsigned": swap(good, envelope=encode(with_signature(e, b""))),
        "another time": swap(good, envelope=encode(swap(e, sent_at=e.sent_at + 1))),
        "another receiver": swap(good, envelope=encode(swap(e, receiver=ID))),
        "another binding": swap(good, envelope=encode(swap(e, binding=ID))),
        "another body": swap(good, envelope=encode(swap(e, body=e.body + b"\0"))),
        "another rpc": swap(good, envelope=encode(swap(e, rpc_id=bytes(8)))),
        "cut": swap(good, envelope=raw[:-1]),
        "nothing": swap(good, envelope=b""),
        "another version": swap(good, envelope=encode(swap(e, version=2))),
        "FORWARDED": swap(good, envelope=encode(swap(e, type=14))),
        "a rule to come": swap(good, rule=77),
    }
    if request:
        asked = decode_envelope(request)
        framed |= {
            "no question": swap(good, request=b""),
            "a question to another": swap(good, request=encode(swap(asked, receiver=other.node_id))),
            "a question by another": swap(good, request=encode(swap(asked, sender=other.node_id))),
            "the answer as its question": swap(good, request=raw),
            "made a question": swap(good, request=b"", envelope=encode(swap(e, request=bytes(32)))),
        }
    else:
        framed["a question to a question"] = swap(good, request=second)
    for what, evidence in framed.items():
        reason = refusal(court, evidence)
        later = what in ("another version", "FORWARDED", "a rule to come")
        assert (reason == "unsupported") == later, what


def test_who_signs_in_another_s_name_accuses_nobody() -> None:
    court = Court()
    rule, answer, item = offences(court)["a body"]
    good = court.evidence(rule, answer, item)
    swap, framer = msgspec.structs.replace, court.node()
    unsigned = with_signature(decode_envelope(good.envelope), b"")
    by_framer = swap(good, envelope=court.sign(unsigned, framer), signing_key=framer.signing.public)
    assert refusal(court, by_framer) == "another key"
    of_framer = court.sign(swap(unsigned, sender=framer.node_id), court.accused)
    assert refusal(court, swap(good, envelope=of_framer)) == "another node"


def test_an_answer_goes_with_the_very_question_it_names() -> None:
    court = Court()
    rule, answer, item = offences(court)["a body"]
    good = court.evidence(rule, answer, item)
    asked = decode_envelope(good.request)
    later = msgspec.structs.replace(asked, sent_at=asked.sent_at + 1)
    assert refusal(court, msgspec.structs.replace(good, request=encode(later))) == "another question"


def test_an_id_that_costs_nothing_is_no_node() -> None:
    """Else made-up offenders would fill every memory."""
    court = Court()
    contact = msgspec.structs.replace(court.accused.contact(), digest=bytes(32))
    fake = claimed_id(court.tag, contact)
    asked = court.question(receiver=fake)
    envelope, request = court.exchange(b"\xc1", asked, sender=fake)
    evidence = collect(MALFORMED, contact, court.accused.signing.public, envelope, request)
    assert refusal(court, evidence) == "no node"


def test_another_network_is_another_court() -> None:
    court = Court()
    rule, answer, item = offences(court)["a signature in VALUES"]
    with pytest.raises(EvidenceInvalid):
        judge(court.evidence(rule, answer, item), court.suite, ID)


def test_an_older_verifier_blames_no_message_of_a_newer_version() -> None:
    court = Court()
    rule, answer, item = offences(court)["a body"]
    newer = MessageSet((2, 2), {6: Values}, {}, ())
    with pytest.raises(EvidenceInvalid) as e:
        judge(court.evidence(rule, answer, item), court.suite, court.tag, newer)
    assert e.value.reason == "unsupported"


def test_only_what_is_in_the_envelope_can_be_accused() -> None:
    court = Court()
    answer = court.exchange(values(court.record()))
    with pytest.raises(EvidenceInvalid):
        court.evidence(BAD, answer, flipped(court.record(value=b"w")))
    with pytest.raises(EvidenceInvalid):
        court.evidence(DIGEST, answer, liar(court))


def test_the_question_travels_without_its_signature() -> None:
    court = Court()
    answer = court.exchange(values(flipped(court.record())))
    evidence = court.evidence(MALFORMED, answer)
    assert decode_envelope(evidence.request).signature == b""
    assert len(evidence.request) < len(answer[1]) - 3309
