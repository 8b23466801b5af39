"""Signatures, the bound node, the clock, and what the cache remembers."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from pqdht.constants import DAY_MS, MINUTE_MS, TESTNET
from pqdht.crypto import labels, puzzle
from pqdht.crypto.api import Provider, Suite, make_suite
from pqdht.errors import RecordInvalid, WireCode
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import NodeIdentity, OwnerIdentity, new_commit
from pqdht.records import Content, Locator, Named, Record, RecordVerifier, Tbs, Topic, make_record
from pqdht.testing.fake import fake_suite
from pqdht.wire.codec import Decoder, encode
from pqdht.wire.messages import WireRecord

SUITE = fake_suite(1)
TAG = labels.network_tag(TESTNET.name, TESTNET.genesis_salt, 1)
BORN = 20_000
NOW = BORN * DAY_MS
VALUE = b"a value"
decode_tbs = Decoder(Tbs, "tbs")


def solve(suite: Suite = SUITE, tag: bytes = TAG, bits: int = 4) -> NodeIdentity:
    unsolved = new_commit(suite, tag, BORN)
    nonce = puzzle.search_range(suite.provider, puzzle.salt(tag), unsolved.commit, bits, 0, 10_000)
    assert nonce is not None
    return unsolved.solved(nonce)


OWNER, OTHER, NODE = OwnerIdentity.generate(SUITE), OwnerIdentity.generate(SUITE), solve()
CONTENT, NAMED, TOPIC = Content.of(VALUE), Named(OWNER.owner_id, "peer"), Topic("vpn")
LOCATORS: list[Locator] = [CONTENT, NAMED, TOPIC]


def make(locator: Locator, **fields: Any) -> Record:
    given: dict[str, Any] = {"ttl": 3600, "timestamp": NOW, "params": TESTNET, "node": NODE} | fields
    return make_record(SUITE, TAG, OWNER, locator, VALUE, **given)


def sign(tbs: bytes, owner: OwnerIdentity = OWNER) -> WireRecord:
    return WireRecord(tbs, owner.signing.sign(labels.RECORD + tbs, labels.RECORD))


def forge_node(record: Record, owner: OwnerIdentity = OWNER, **fields: Any) -> WireRecord:
    """The topic record with its node proof changed, signed again by its owner."""
    tbs = decode_tbs(record.wire.tbs)
    assert tbs.extra.node is not None
    node = msgspec.structs.replace(tbs.extra.node, **fields)
    extra = msgspec.structs.replace(tbs.extra, node=node)
    return sign(encode(msgspec.structs.replace(tbs, owner=owner.public, extra=extra)), owner)


@pytest.fixture
def verifier() -> RecordVerifier:
    return RecordVerifier(SUITE, TESTNET, TAG, ContactVerifier(SUITE, TESTNET, TAG))


def code_of(call: Any, *args: Any) -> WireCode:
    with pytest.raises(RecordInvalid) as refusal:
        call(*args)
    return refusal.value.code


# --- signatures --------------------------------------------------------------------------------


@pytest.mark.parametrize("locator", LOCATORS)
def test_a_right_record_verifies_once(verifier: RecordVerifier, locator: Locator) -> None:
    record = make(locator)
    for _ in range(3):
        verifier.verify(record)
    assert (verifier.signature_checks, verifier.hits) == (1, 2)


@pytest.mark.parametrize("locator", LOCATORS)
def test_a_forged_signature_is_refused_and_remembered(verifier: RecordVerifier, locator: Locator) -> None:
    wire = make(locator).wire
    signature = bytes([wire.signature[0] ^ 1]) + wire.signature[1:]
    forged = verifier.parse(WireRecord(wire.tbs, signature))
    for _ in range(3):
        assert code_of(verifier.verify, forged) is WireCode.BAD_RECORD
    assert (verifier.signature_checks, verifier.hits) == (1, 2)
    verifier.verify(make(locator))  # the same record id, rightly signed: the forgery does not taint it


def test_a_record_signed_by_somebody_else_is_refused(verifier: RecordVerifier) -> None:
    stolen = verifier.parse(sign(make(NAMED).wire.tbs, OTHER))
    assert code_of(verifier.verify, stolen) is WireCode.BAD_RECORD


@pytest.mark.parametrize("label", [labels.MESSAGE, labels.TOPIC_NODE, b""])
def test_a_signature_made_for_another_purpose_is_refused(verifier: RecordVerifier, label: bytes) -> None:
    tbs = make(NAMED).wire.tbs
    for message, ctx in ((label + tbs, label), (labels.RECORD + tbs, label), (label + tbs, labels.RECORD)):
        record = verifier.parse(WireRecord(tbs, OWNER.signing.sign(message, ctx)))
        assert code_of(verifier.verify, record) is WireCode.BAD_RECORD


# --- the node of a topic record ----------------------------------------------------------------


def test_the_node_must_have_agreed_to_this_owner(verifier: RecordVerifier) -> None:
    stolen = verifier.parse(forge_node(make(TOPIC), OTHER))
    assert code_of(verifier.verify, stolen) is WireCode.BAD_RECORD


def test_the_node_must_have_agreed_to_this_topic(verifier: RecordVerifier) -> None:
    elsewhere = make(Topic("other"))
    assert elsewhere.node is not None
    moved = verifier.parse(forge_node(make(TOPIC), signature=elsewhere.node.signature))
    assert code_of(verifier.verify, moved) is WireCode.BAD_RECORD


def test_the_node_must_have_solved_its_puzzle(verifier: RecordVerifier) -> None:
    contact = msgspec.structs.replace(NODE.contact(), digest=bytes(32))
    cheat = verifier.parse(forge_node(make(TOPIC), contact=contact))
    assert code_of(verifier.verify, cheat) is WireCode.BAD_RECORD


def test_a_proof_of_another_network_is_refused(verifier: RecordVerifier) -> None:
    claim = labels.TOPIC_NODE + bytes(32) + OWNER.owner_id + TOPIC.key()
    signature = NODE.signing.sign(claim, labels.TOPIC_NODE)
    foreign = verifier.parse(forge_node(make(TOPIC), signature=signature))
    assert code_of(verifier.verify, foreign) is WireCode.BAD_RECORD


class CountingSigner:
    """Counts what the node signer is asked to verify."""

    def __init__(self, suite: Suite) -> None:
        self._signer = suite.node_signer
        self.loaded = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._signer, name)

    def verify_key(self, public: bytes) -> Any:
        self.loaded += 1
        return self._signer.verify_key(public)


def test_a_proof_is_checked_once_for_all_versions() -> None:
    counting = CountingSigner(SUITE)
    suite = Suite(1, SUITE.provider, counting, SUITE.owner_signer, SUITE.kem)
    verifier = RecordVerifier(suite, TESTNET, TAG, ContactVerifier(suite, TESTNET, TAG))
    for later in range(5):
        verifier.verify(make(TOPIC, timestamp=NOW + later))
    assert (verifier.signature_checks, counting.loaded) == (5, 1)


# --- in a thread -------------------------------------------------------------------------------


def test_the_costly_part_can_run_in_a_thread(verifier: RecordVerifier) -> None:
    record = make(TOPIC)
    job = verifier.begin(record)
    assert job is not None
    thread = threading.Thread(target=job.run)
    thread.start()
    thread.join()
    assert verifier.signature_checks == 0
    verifier.finish(job)
    assert verifier.begin(record) is None


def test_a_job_that_failed_raises_when_finished(verifier: RecordVerifier) -> None:
    record = verifier.parse(sign(make(NAMED).wire.tbs, OTHER))
    job = verifier.begin(record)
    assert job is not None
    job.run()
    assert code_of(verifier.finish, job) is WireCode.BAD_RECORD
    assert code_of(verifier.begin, record) is WireCode.BAD_RECORD


def test_a_job_that_never_ran_cannot_be_finished(verifier: RecordVerifier) -> None:
    job = verifier.begin(make(NAMED))
    assert job is not None
    with pytest.raises(RuntimeError, match="nothing was checked"):
        verifier.finish(job)
    assert verifier.begin(make(NAMED)) is not None


def test_the_bounded_cache_is_only_slower_never_wrong() -> None:
    verifier = RecordVerifier(SUITE, TESTNET, TAG, ContactVerifier(SUITE, TESTNET, TAG), cache_size=1)
    good, bad = make(NAMED), verifier.parse(sign(make(NAMED).wire.tbs, OTHER))
    for _ in range(2):
        verifier.verify(good)
        verifier.verify(make(CONTENT))
        assert code_of(verifier.verify, bad) is WireCode.BAD_RECORD
    assert verifier.signature_checks == 5


# --- the clock ---------------------------------------------------------------------------------


@pytest.mark.parametrize("locator", LOCATORS)
def test_a_record_lives_from_its_timestamp_to_its_expiry(verifier: RecordVerifier, locator: Locator) -> None:
    record = make(locator)
    verifier.check_time(record, NOW)
    verifier.check_time(record, record.expires - 1)
    assert code_of(verifier.check_time, record, record.expires) is WireCode.EXPIRED


def test_a_timestamp_may_lie_five_minutes_ahead(verifier: RecordVerifier) -> None:
    record = make(NAMED)
    verifier.check_time(record, NOW - 5 * MINUTE_MS)
    assert code_of(verifier.check_time, record, NOW - 5 * MINUTE_MS - 1) is WireCode.CLOCK_SKEW


def test_a_topic_record_ends_with_the_node_id_it_is_bound_to(verifier: RecordVerifier) -> None:
    at = NOW + 37 * DAY_MS
    record = make(TOPIC, timestamp=at, ttl=2 * 86_400)
    verifier.check_time(record, at)
    assert code_of(verifier.check_time, record, at + DAY_MS) is WireCode.EXPIRED


def test_a_topic_record_of_a_node_id_from_the_future_is_early(verifier: RecordVerifier) -> None:
    at = NOW - 2 * DAY_MS
    record = make(TOPIC, timestamp=at)
    assert code_of(verifier.check_time, record, at) is WireCode.CLOCK_SKEW


def test_time_is_never_cached(verifier: RecordVerifier) -> None:
    record = make(NAMED)
    verifier.verify(record)
    verifier.check_time(record, NOW)
    assert code_of(verifier.check_time, record, record.expires) is WireCode.EXPIRED


# --- real cryptography -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [1, 2, 3])
def test_real_records_verify_and_forgeries_do_not(provider: Provider, number: int) -> None:
    suite = make_suite(number, provider)
    tag = labels.network_tag(TESTNET.name, TESTNET.genesis_salt, number)
    owner, node = OwnerIdentity.generate(suite), solve(suite, tag)
    verifier = RecordVerifier(suite, TESTNET, tag, ContactVerifier(suite, TESTNET, tag))
    for where in (CONTENT, Named(owner.owner_id, "peer"), TOPIC):
        made = make_record(suite, tag, owner, where, VALUE, ttl=60, timestamp=NOW, params=TESTNET, node=node)
        verifier.verify(verifier.parse(made.wire))
        for at in (0, len(made.wire.signature) // 2, len(made.wire.signature) - 1):
            signature = bytearray(made.wire.signature)
            signature[at] ^= 1
            forged = verifier.parse(WireRecord(made.wire.tbs, bytes(signature)))
            assert code_of(verifier.verify, forged) is WireCode.BAD_RECORD
    assert verifier.signature_checks == 12
