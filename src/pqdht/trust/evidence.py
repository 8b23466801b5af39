"""Evidence: a signed envelope that breaks a rule, and everything anybody needs to see that it does.

The rules are closed (section 4).  Each depends on the envelope alone: not on the time, not on what the
verifier holds or has seen, not on limits that a later parameter set may change.  An honest node sends
nothing that breaks one, as it refuses to take in, and checks again before it serves, whatever would.  So
a proof is worth the same from whoever brings it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from ..crypto import puzzle
from ..crypto.api import Signer, Suite
from ..crypto.batch import BatchVerifier, parse_proof
from ..crypto.labels import BATCH_ROOT, CONTENT_KEY, OWNER_KEY, RECORD, TOPIC_KEY, TOPIC_NODE, tagged_hash
from ..envelope import is_request, request_hash, signed_bytes, with_signature
from ..errors import BadPuzzle, BadSignature, DecodeError, EvidenceInvalid, RecordInvalid, WireCode
from ..identity.contact import claimed_id
from ..identity.keys import owner_id_of, public_key_hash
from ..ids import Key, NodeId
from ..records import Kind, Tbs, open_tbs, topic_claim
from ..wire.codec import encode
from ..wire.contact import Contact
from ..wire.messages import (
    MESSAGES,
    Body,
    Envelope,
    Evidence,
    MessageSet,
    Nodes,
    Store,
    Values,
    ValuesList,
    WireRecord,
    decode_envelope,
)


class EvidenceRule(IntEnum):
    """What evidence may say.  Numbers are frozen; nothing else is ever an offence to others."""

    BAD_RECORD_SIGNATURE = 1
    """A record of a known version and kind whose owner's signature (of a topic record also its node's) does
    not verify."""
    WRONG_KEY = 2
    """A record of a known version and kind under another key than its kind's rule gives."""
    FALSE_DIGEST = 3
    """A contact whose digest is not that of its nonce."""
    MALFORMED_BODY = 4
    """A body that is not one of its type in the version that the envelope names."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Evidence that was recomputed here; only `judge` makes one."""

    offender: NodeId
    rule: EvidenceRule
    contact: Contact
    """The offender's, without addresses and KEM key."""
    evidence: Evidence = field(repr=False)


def judge(evidence: Evidence, suite: Suite, network_tag: bytes, messages: MessageSet = MESSAGES) -> Proof:
    """Recompute everything.  Raises EvidenceInvalid, unless the offender broke the rule.

    Costs at most two runs of Argon2id and three signature checks, whatever is brought: the hashes come
    first, and one record or contact is looked at, not all.
    """
    rule = _rule(evidence.rule)
    e = _envelope(evidence.envelope)
    if not messages.versions[0] <= e.version <= messages.versions[1] or not messages.is_known(e.type):
        raise EvidenceInvalid(f"version {e.version}, type {e.type} is not known here", reason="unsupported")
    offender = _offender(evidence, network_tag, e)
    _check_request(evidence.request, network_tag, e)
    costly = _RULES[rule](_Case(evidence, e, suite, network_tag, messages))
    _check_signature(evidence.signing_key, offender, suite, network_tag, e)
    costly()
    try:
        commit = _commit(evidence.contact, network_tag)
        puzzle.check(suite.provider, network_tag, commit, evidence.contact.nonce, evidence.contact.digest)
    except BadPuzzle:
        raise EvidenceInvalid("no node can have this id", reason="no node") from None
    return Proof(offender, rule, evidence.contact, evidence)


def claimed_offender(evidence: Evidence, network_tag: bytes) -> NodeId:
    """Whom it accuses, if it is true: two hashes."""
    return claimed_id(network_tag, evidence.contact)


def collect(
    rule: EvidenceRule,
    offender: Contact,
    signing_key: bytes,
    envelope: bytes,
    request: bytes = b"",
    item: WireRecord | Contact | None = None,
    messages: MessageSet = MESSAGES,
) -> Evidence:
    """Put together what `judge` looks at.  Proves nothing yet.

    `offender`, `signing_key`: as its Hello gave them.  `envelope`: whole, with its root signature.
    `request`: the question it answers, b"" where it is one.  `item`: what breaks the rule.  Raises
    EvidenceInvalid if the item is not in the envelope, DecodeError.
    """
    place = 0
    if item is not None:
        e = decode_envelope(envelope)
        body = messages.decode(e.type, e.body)
        items: tuple[object, ...] = _records(body) if isinstance(item, WireRecord) else _contacts(body)
        if item not in items:
            raise EvidenceInvalid("what is accused is not in this envelope")
        place = items.index(item)
    if request:
        request = encode(with_signature(decode_envelope(request), b""))
    return Evidence(int(rule), _bare(offender), signing_key, envelope, request, place)


def _bare(contact: Contact) -> Contact:
    return Contact(
        contact.signing_key_hash, contact.kem_key_hash, contact.born, contact.nonce, contact.digest
    )


# --- whose envelope it is ----------------------------------------------------------------------


def _rule(number: int) -> EvidenceRule:
    try:
        return EvidenceRule(number)
    except ValueError:
        raise EvidenceInvalid(f"rule {number} is not known here", reason="unsupported") from None


def _envelope(raw: bytes) -> Envelope:
    try:
        return decode_envelope(raw)
    except DecodeError as e:
        raise EvidenceInvalid(f"no envelope: {e}", reason="malformed") from None


def _commit(contact: Contact, network_tag: bytes) -> bytes:
    return puzzle.commit(network_tag, contact.signing_key_hash, contact.kem_key_hash, contact.born)


def _offender(evidence: Evidence, network_tag: bytes, e: Envelope) -> NodeId:
    """Who is accused: the preimages must hash to the sender's id, and to the key that signed."""
    if evidence.contact != _bare(evidence.contact):
        raise EvidenceInvalid("the accused contact says more than its preimages", reason="malformed")
    offender = claimed_offender(evidence, network_tag)
    if e.sender != offender:
        raise EvidenceInvalid("the accused did not send this", reason="another node")
    if public_key_hash(evidence.signing_key) != evidence.contact.signing_key_hash:
        raise EvidenceInvalid("not the key of the accused", reason="another key")
    return offender


def _check_request(raw: bytes, network_tag: bytes, e: Envelope) -> None:
    """An answer comes with the question it names, put to the accused by whom it was answered to."""
    if is_request(e):
        if raw:
            raise EvidenceInvalid("a question answers nothing", reason="another question")
        return
    asked = _envelope(raw)
    tie = (is_request(asked), asked.sender, asked.receiver, asked.rpc_id)
    if tie != (True, e.receiver, e.sender, e.rpc_id):
        raise EvidenceInvalid("it answers another question", reason="another question")
    if request_hash(signed_bytes(network_tag, asked)) != e.request:
        raise EvidenceInvalid("it answers another question", reason="another question")


def _check_signature(public: bytes, offender: NodeId, suite: Suite, network_tag: bytes, e: Envelope) -> None:
    try:
        if not parse_proof(e.signature).signature:
            raise EvidenceInvalid("the root signature is left out", reason="unsigned")
        key = suite.node_signer.verify_key(public)
        BatchVerifier(1).verify(e.signature, signed_bytes(network_tag, e), offender, key, BATCH_ROOT)
    except (BadSignature, DecodeError) as wrong:
        raise EvidenceInvalid(f"the accused did not sign this: {wrong}", reason="unsigned") from None


# --- the rules ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Case:
    evidence: Evidence
    envelope: Envelope
    suite: Suite
    network_tag: bytes
    messages: MessageSet

    def body(self) -> Body:
        try:
            return self.messages.decode(self.envelope.type, self.envelope.body)
        except DecodeError as e:
            raise EvidenceInvalid(f"another rule: {e}") from None

    def record(self) -> tuple[WireRecord, Tbs]:
        """The record in question; only one of this version, network and suite can be judged."""
        wire = _at(_records(self.body()), self.evidence.place)
        try:
            return wire, open_tbs(wire.tbs, self.suite, self.network_tag)
        except RecordInvalid as e:
            reason = "unsupported" if e.code == WireCode.UNSUPPORTED else "no offence"
            raise EvidenceInvalid(f"a record that no rule speaks of: {e}", reason=reason) from None


_Costly = Callable[[], None]
"""The rest of a rule's check.  Raises EvidenceInvalid if the rule is kept."""


def _records(body: Body) -> tuple[WireRecord, ...]:
    """Every record that the sender of a body hands on, in order."""
    match body:
        case Store() | Values():
            return body.records
        case ValuesList():
            return tuple(r for a in body.answers for r in a.records)
        case _:
            return ()


def _contacts(body: Body) -> tuple[Contact, ...]:
    """Every contact that the sender of a body passes on, in order."""
    match body:
        case Nodes() | Values():
            return body.contacts
        case ValuesList():
            return tuple(c for a in body.answers for c in a.contacts)
        case _:
            return ()


T = TypeVar("T")


def _at(items: tuple[T, ...], place: int) -> T:
    if place >= len(items):
        raise EvidenceInvalid("nothing stands at this place")
    return items[place]


def _kept(what: str) -> EvidenceInvalid:
    return EvidenceInvalid(f"{what}: the rule is kept")


def _bad_record_signature(case: _Case) -> _Costly:
    wire, tbs = case.record()
    suite, node = case.suite, tbs.extra.node
    claims = [(suite.owner_signer, tbs.owner, wire.signature, RECORD + wire.tbs, RECORD)]
    if tbs.kind == Kind.TOPIC and node is not None:
        claim = topic_claim(case.network_tag, owner_id_of(tbs.owner), Key(tbs.key))
        claims.append((suite.node_signer, node.key, node.signature, claim, TOPIC_NODE))

    def check() -> None:
        if all(_verifies(*c) for c in claims):
            raise _kept("the signatures verify")

    return check


def _verifies(signer: Signer, public: bytes, signature: bytes, message: bytes, ctx: bytes) -> bool:
    try:
        signer.verify_key(public).verify(signature, message, ctx)
    except (BadSignature, DecodeError):
        return False
    return True


def _wrong_key(case: _Case) -> _Costly:
    _, tbs = case.record()
    name = tbs.extra.name
    if tbs.kind == Kind.CONTENT:
        right = tagged_hash(CONTENT_KEY, tbs.value)
    elif name is None:
        raise _kept("without a name there is no right key")
    elif tbs.kind == Kind.OWNER:
        right = tagged_hash(OWNER_KEY, owner_id_of(tbs.owner), name.encode())
    else:
        right = tagged_hash(TOPIC_KEY, name.encode())
    if tbs.key == right:
        raise _kept("the key is right")
    return lambda: None


def _false_digest(case: _Case) -> _Costly:
    contact = _at(_contacts(case.body()), case.evidence.place)

    def check() -> None:
        try:
            commit = _commit(contact, case.network_tag)
            puzzle.check(case.suite.provider, case.network_tag, commit, contact.nonce, contact.digest)
        except BadPuzzle:
            return
        raise _kept("the digest is true")

    return check


def _malformed_body(case: _Case) -> _Costly:
    try:
        case.messages.decode(case.envelope.type, case.envelope.body)
    except DecodeError:
        return lambda: None
    raise _kept("the body is well-formed")


_RULES: dict[EvidenceRule, Callable[[_Case], _Costly]] = {
    EvidenceRule.BAD_RECORD_SIGNATURE: _bad_record_signature,
    EvidenceRule.WRONG_KEY: _wrong_key,
    EvidenceRule.FALSE_DIGEST: _false_digest,
    EvidenceRule.MALFORMED_BODY: _malformed_body,
}
