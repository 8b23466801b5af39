"""Signed questions and answers of one node, made by hand: what evidence is made of."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pqdht.constants import DAY_MS, TESTNET
from pqdht.crypto.api import Suite
from pqdht.crypto.batch import BatchSigner
from pqdht.crypto.labels import BATCH_ROOT, network_tag
from pqdht.envelope import ZEROS, request_hash, signed_bytes, with_signature
from pqdht.identity.keys import NodeIdentity, OwnerIdentity, new_commit
from pqdht.records import Content, Locator, Named, Topic, make_record
from pqdht.testing.fake import fake_suite
from pqdht.trust.evidence import EvidenceRule, collect
from pqdht.wire.codec import encode
from pqdht.wire.contact import Contact
from pqdht.wire.messages import Body, Envelope, Evidence, FindValue, WireRecord, message_type

NOW = 20_454 * DAY_MS
PARAMS = replace(TESTNET, puzzle_schedule=((0, 0),))
ID = b"\x05" * 32


class Court:
    """An accused node, who asked it, and an owner; everything on one suite."""

    def __init__(self, suite: Suite | None = None) -> None:
        self.suite = suite or fake_suite(1, 7)
        self.tag = network_tag(PARAMS.name, PARAMS.genesis_salt, self.suite.number)
        self.accused, self.asker = self.node(), self.node()
        self.owner = OwnerIdentity.generate(self.suite)

    def node(self) -> NodeIdentity:
        return new_commit(self.suite, self.tag, NOW // DAY_MS).solved(self.suite.random_bytes(8))

    def sign(self, e: Envelope, by: NodeIdentity, among: int = 1) -> bytes:
        """The signed envelope, one of `among` in its batch."""
        signer = BatchSigner(self.suite.random_bytes)
        for i in range(among - 1):
            signer.submit(b"%d" % i)
        signer.submit(signed_bytes(self.tag, e))
        job = signer.take()
        assert job is not None
        return encode(with_signature(e, job.sign(by.signing, BATCH_ROOT)[-1][1]))

    def question(self, body: Body | None = None, by: NodeIdentity | None = None, **fields: Any) -> Envelope:
        """Unsigned, to the accused if not `by` it."""
        body = body or FindValue(ID)
        sender = by or self.asker
        receiver = self.accused if sender is not self.accused else self.asker
        plain = {"version": 1, "type": int(message_type(body)), "rpc_id": b"rpc id 8", "sent_at": NOW}
        names: dict[str, Any] = plain | {
            "sender": sender.node_id, "receiver": receiver.node_id, "request": ZEROS, "binding": ZEROS,
            "body": encode(body), "signature": b"",
        }  # fmt: skip
        return Envelope(**(names | fields))

    def exchange(
        self, body: Body | bytes, asked: Envelope | None = None, among: int = 3, **fields: Any
    ) -> tuple[bytes, bytes]:
        """(answer, question): what the accused answered, signed, and to what."""
        asked = asked or self.question()
        raw = body if isinstance(body, bytes) else encode(body)
        number = 6 if isinstance(body, bytes) else int(message_type(body))
        request = request_hash(signed_bytes(self.tag, asked))
        names: dict[str, Any] = {
            "version": 1, "type": number, "rpc_id": asked.rpc_id, "sender": self.accused.node_id,
            "receiver": asked.sender, "request": request, "sent_at": NOW, "binding": ZEROS,
            "body": raw, "signature": b"",
        }  # fmt: skip
        return self.sign(Envelope(**(names | fields)), self.accused, among), self.sign(asked, self.asker)

    def evidence(
        self, rule: EvidenceRule, answer: tuple[bytes, bytes], item: WireRecord | Contact | None = None
    ) -> Evidence:
        contact = self.accused.contact(("tcp/192.0.2.1:1",), with_key=True)
        return collect(rule, contact, self.accused.signing.public, *answer, item)

    def record(self, where: Locator | None = None, value: bytes = b"v", **more: Any) -> WireRecord:
        fields: dict[str, Any] = {"ttl": 3600, "timestamp": NOW, "params": PARAMS} | more
        where = where or Named(self.owner.owner_id, "x")
        return make_record(self.suite, self.tag, self.owner, where, value, **fields).wire

    def records(self) -> dict[str, WireRecord]:
        """A valid record of every kind."""
        return {
            "owner": self.record(),
            "content": self.record(Content.of(b"v")),
            "topic": self.record(Topic("t"), node=self.node()),
        }
