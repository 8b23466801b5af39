"""Is a record true, and is it its time?  The signatures, the node a topic record is bound to, the clock."""

from __future__ import annotations

from ..constants import ParameterSet
from ..crypto.api import Signer, Suite
from ..crypto.labels import RECORD, TOPIC_NODE, VERDICT, tagged_hash
from ..errors import BadPuzzle, BadSignature, DecodeError, RecordInvalid, WireCode
from ..identity.contact import ContactVerifier, VerdictCache, check_born
from ..wire.messages import WireRecord
from .record import Record, parse_record, topic_claim


class VerifyJob:
    """The costly part of one verification.  `run` is pure and may run in a thread."""

    __slots__ = ("_contacts", "_network_tag", "_proof_known", "_suite", "error", "ran", "record")

    def __init__(
        self, record: Record, suite: Suite, network_tag: bytes, contacts: ContactVerifier, proof_known: bool
    ) -> None:
        self.record = record
        self.error: RecordInvalid | None = None
        self.ran = False
        self._suite = suite
        self._network_tag = network_tag
        self._contacts = contacts
        self._proof_known = proof_known

    def run(self) -> None:
        """Check the signatures; the outcome is kept for `RecordVerifier.finish`."""
        record = self.record
        try:
            if record.node is not None and not self._proof_known:
                self._contacts.check_digest(record.node.contact)
                claim = topic_claim(self._network_tag, record.owner_id, record.key)
                _verify(self._suite.node_signer, record.node.key, record.node.signature, claim, TOPIC_NODE)
            signed = RECORD + record.wire.tbs
            _verify(self._suite.owner_signer, record.owner_key, record.wire.signature, signed, RECORD)
        except (BadPuzzle, BadSignature, DecodeError) as e:
            self.error = RecordInvalid(str(e), record_id=record.record_id.hex())
        self.ran = True


def _verify(signer: Signer, public: bytes, signature: bytes, message: bytes, ctx: bytes) -> None:
    # Keys are not kept: parsing one costs a twentieth of a verification.
    signer.verify_key(public).verify(signature, message, ctx)


class RecordVerifier:
    """Parses and verifies records of one network; outcomes are cached, good and bad, both bounded.

    `signature_checks` and `hits` count what verification did and what the cache saved.  Where a
    check should not hold up the event loop:

        job = verifier.begin(record)          # None: known to be right
        if job is not None:
            await loop.run_in_executor(None, job.run)
            verifier.finish(job)              # raises RecordInvalid
    """

    def __init__(
        self,
        suite: Suite,
        params: ParameterSet,
        network_tag: bytes,
        contacts: ContactVerifier,
        cache_size: int = 65536,
    ) -> None:
        self._suite = suite
        self._params = params
        self._network_tag = network_tag
        self._contacts = contacts
        self._records = VerdictCache(cache_size)
        self._proofs = VerdictCache(cache_size)
        self.signature_checks = 0
        self.hits = 0

    def parse(self, wire: WireRecord) -> Record:
        """A record that obeys every structural rule.  Raises RecordInvalid with the code to answer."""
        return parse_record(wire, self._suite, self._params, self._network_tag)

    def check_time(self, record: Record, now_ms: int) -> None:
        """Raises RecordInvalid: EXPIRED (the record, or the node it is bound to) or CLOCK_SKEW."""
        if record.timestamp > now_ms + self._params.limits.clock_skew_ms:
            ahead = record.timestamp - now_ms
            raise RecordInvalid(f"the record is from {ahead} ms ahead", code=WireCode.CLOCK_SKEW, ahead=ahead)
        if record.expires <= now_ms:
            raise RecordInvalid("the record has expired", code=WireCode.EXPIRED, expires=record.expires)
        if record.node is not None:
            try:
                check_born(record.node.contact.born, now_ms)
            except BadPuzzle as e:
                code = WireCode.EXPIRED if e.fields["age"] > 0 else WireCode.CLOCK_SKEW
                raise RecordInvalid(str(e), code=code) from None

    def verify(self, record: Record) -> None:
        """The signatures, here and now.  Raises RecordInvalid."""
        job = self.begin(record)
        if job is not None:
            job.run()
            self.finish(job)

    def begin(self, record: Record) -> VerifyJob | None:
        """What is left to check; None if the record is known to be right, RecordInvalid if wrong."""
        known = self._records.get(_record_verdict_key(record))
        if known is None:
            proof_known = record.node is not None and self._proofs.get(_proof_verdict_key(record)) is True
            return VerifyJob(record, self._suite, self._network_tag, self._contacts, proof_known)
        self.hits += 1
        if not known:
            raise RecordInvalid("known not to verify", record_id=record.record_id.hex())
        return None

    def finish(self, job: VerifyJob) -> None:
        """Remember the outcome of a job that ran.  Raises RecordInvalid if it failed."""
        if not job.ran:
            raise RuntimeError("finish() before run(): nothing was checked")
        self.signature_checks += 1
        self._records.put(_record_verdict_key(job.record), job.error is None)
        if job.error is not None:
            raise job.error
        if job.record.node is not None:
            self._proofs.put(_proof_verdict_key(job.record), True)


def _record_verdict_key(record: Record) -> bytes:
    return tagged_hash(VERDICT, record.record_id, record.wire.signature)


def _proof_verdict_key(record: Record) -> bytes:
    assert record.node is not None and record.node_id is not None
    node = record.node
    return tagged_hash(
        VERDICT, record.node_id, node.contact.nonce, record.owner_id, record.key, node.signature
    )
