"""Makes the captures of this version: `python -m tests.vectors.captures.make`.

A file that is there is never overwritten: what it pins was on the wire.  Fake captures come out the same
every time; real ones carry the coins they were made with.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.channel.session import FrameKind, Session
from pqdht.constants import DEMO, PROTOCOL_VERSION
from pqdht.crypto.api import Kem, KemPrivateKey, KemPublicKey, Provider, Suite, make_suite
from pqdht.crypto.batch import BatchSigner
from pqdht.crypto.labels import BATCH_ROOT, network_tag
from pqdht.crypto.providers import get_provider
from pqdht.envelope import ZEROS, request_hash, signed_bytes, with_signature
from pqdht.errors import WireCode
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import NodeIdentity, OwnerIdentity, born_day, new_commit
from pqdht.records import Named, Topic, make_record
from pqdht.testing.fake import FakeProvider
from pqdht.trust.evidence import EvidenceRule, collect
from pqdht.wire.codec import encode
from pqdht.wire.messages import (
    Body,
    Envelope,
    Error,
    FindNode,
    FindValue,
    FindValues,
    Nodes,
    Ping,
    Pong,
    Receipt,
    Report,
    Reported,
    Store,
    Stored,
    Values,
    ValuesList,
    decode_envelope,
    message_type,
)
from tests.vectors.captures.replay import Replay

HERE = Path(__file__).parent
NOW = 1_790_000_000_000
Pairs = list[tuple[Body, Body]]
"""Questions and their answers."""


@dataclass
class RecordingKem:
    """A KEM that keeps every coin it draws."""

    real: Kem
    ephemerals: list[str] = field(default_factory=list)
    encapsulations: list[tuple[str, str]] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def generate(self) -> KemPrivateKey:
        key = self.real.generate()
        self.ephemerals.append(key.seed.hex())
        return key

    def public_key(self, public: bytes) -> KemPublicKey:
        return _Recording(self.real.public_key(public), self.encapsulations)


@dataclass
class _Recording:
    key: KemPublicKey
    kept: list[tuple[str, str]]

    def encapsulate(self) -> tuple[bytes, bytes]:
        ciphertext, secret = self.key.encapsulate()
        self.kept.append((ciphertext.hex(), secret.hex()))
        return ciphertext, secret


class Side:
    """One node of the conversation."""

    def __init__(self, provider: Provider, suite: int, others: list[Side], holds: bool) -> None:
        made = make_suite(suite, provider)
        self.tag = network_tag(DEMO.name, DEMO.genesis_salt, suite)
        self.kem = RecordingKem(made.kem)
        self.identity = solved(made, self.tag)
        self.suite = dataclasses.replace(made, kem=self.kem)
        self.rpc = 0
        known = {s.identity.signing_key_hash: s.identity.signing.public for s in others if holds}
        self.params = HandshakeParams(
            suite=self.suite,
            network_tag=self.tag,
            identity=self.identity,
            verifier=ContactVerifier(made, DEMO, self.tag),
            addresses=(f"tcp/192.0.2.{len(others) + 1}:4733",),
            held_key=known.get,
        )

    def sign(self, *envelopes: Envelope) -> list[bytes]:
        """All in one tree, so with paths where there are several."""
        signer = BatchSigner(self.suite.random_bytes)
        for e in envelopes:
            signer.submit(signed_bytes(self.tag, e))
        job = signer.take()
        assert job is not None
        proofs = job.sign(self.identity.signing, BATCH_ROOT)
        return [encode(with_signature(e, proof)) for e, (_, proof) in zip(envelopes, proofs, strict=True)]

    def ask(self, to: Side, body: Body, binding: bytes = ZEROS) -> Envelope:
        self.rpc += 1
        return self._envelope(to, body, self.rpc.to_bytes(8, "big"), ZEROS, binding)

    def answer(self, to: Side, asked: Envelope, body: Body, binding: bytes = ZEROS) -> Envelope:
        request = request_hash(signed_bytes(self.tag, asked))
        return self._envelope(to, body, asked.rpc_id, request, binding)

    def _envelope(self, to: Side, body: Body, rpc: bytes, request: bytes, binding: bytes) -> Envelope:
        ids = self.identity.node_id, to.identity.node_id
        number = int(message_type(body))
        return Envelope(PROTOCOL_VERSION, number, rpc, *ids, request, NOW, binding, encode(body), b"")

    def secrets(self) -> dict[str, Any]:
        identity = self.identity
        return {
            "signing_seed": identity.signing.seed.hex(),
            "kem_seed": identity.kem.seed.hex(),
            "born": identity.born,
            "nonce": identity.nonce.hex(),
            "ephemerals": self.kem.ephemerals,
            "encapsulations": self.kem.encapsulations,
        }


def solved(suite: Suite, tag: bytes) -> NodeIdentity:
    """An identity whose puzzle has the bits that the demo network asks."""
    unsolved = new_commit(suite, tag, born_day(NOW))
    numbers = (unsolved.solved(n.to_bytes(8, "big")) for n in range(10_000))
    return next(i for i in numbers if i.bits >= DEMO.puzzle_bits(i.born))


@dataclass
class Scene:
    """What is recorded: `said` says whether the keys are left out, `holds` whether they are held."""

    provider: str
    pattern: str
    suite: int = 1
    said: bool = False
    holds: bool = False
    is_full: bool = False
    is_of_reports: bool = False
    padding: str = "256"


SCENES = {
    "ik_fake": Scene("fake", "pqIK", is_full=True),
    "xx_fake": Scene("fake", "pqXX", padding="off"),
    "ik_held_keys_fake": Scene("fake", "pqIK", said=True, holds=True),
    "ik_need_key_fake": Scene("fake", "pqIK", said=True),
    "ik_suite_2_fake": Scene("fake", "pqIK", suite=2),
    "ik_real": Scene("real", "pqIK", is_full=True),
    "xx_real": Scene("real", "pqXX"),
    "ik_reports_fake": Scene("fake", "pqIK", is_of_reports=True),
    "ik_reports_real": Scene("real", "pqIK", is_of_reports=True),
}


class Recorder:
    """Runs one scene with the production handshake and session."""

    def __init__(self, scene: Scene) -> None:
        provider = FakeProvider(20_260) if scene.provider == "fake" else get_provider("openssl")
        self.scene = scene
        self.responder = Side(provider, scene.suite, [], False)
        self.initiator = Side(provider, scene.suite, [self.responder], scene.holds)
        if scene.is_of_reports:
            for side in (self.responder, self.initiator):
                side.params = dataclasses.replace(side.params, stake=bytes(range(45)))
        if scene.holds:
            key = self.initiator.identity.signing
            hashed = self.initiator.identity.signing_key_hash
            self.responder.params = dataclasses.replace(
                self.responder.params, held_key={hashed: key.public}.get
            )
        self.wire: list[dict[str, str]] = []
        self.sessions: dict[str, Session] = {}
        self.owed = {"initiator": ZEROS, "responder": ZEROS}

    def capture(self) -> dict[str, Any]:
        """The finished document."""
        self._shake()
        self._talk()
        document: dict[str, Any] = {
            "format": 1,
            "envelope_version": PROTOCOL_VERSION,
            "pattern": self.scene.pattern,
            "suite": self.scene.suite,
            "provider": self.scene.provider,
            "holds": self.scene.holds,
            "padding": self.scene.padding,
            "now": NOW,
            "initiator": self.initiator.secrets(),
            "responder": self.responder.secrets(),
            "wire": self.wire,
        }
        for piece, told in zip(self.wire, Replay(document).run(), strict=True):
            piece["means"] = told  # type: ignore[assignment]
        return document

    def _put(self, name: str, raw: bytes) -> bytes:
        self.wire.append({"from": name, "bytes": raw.hex()})
        return raw

    def _shake(self) -> None:
        a, b = self.initiator, self.responder
        is_ik = self.scene.pattern == "pqIK"
        one = Handshake.initiate(
            a.params,
            expected=b.identity.node_id,
            kem_key=b.identity.kem.public if is_ik else None,
            observed="tcp/192.0.2.1:4733",
            now=NOW,
            signing_key_hash=b.identity.signing_key_hash,
            peer_holds_key=self.scene.said,
        )
        two = Handshake.respond(b.params, observed="tcp/192.0.2.2:40000", now=NOW)
        question = FindNode(bytes(range(32))) if is_ik else Ping()
        contact = b.identity.contact(("tcp/192.0.2.1:4733",), with_key=True)
        reply: Body = Nodes(bytes(range(32)), (contact,)) if is_ik else Pong(NOW)
        is_answered = False
        while not (one.done and two.done):
            binding = one.prepare()
            early = a.sign(a.ask(b, question, binding))[0] if one.may_send_early else None
            message = two.receive(self._put("initiator", one.finish(early)), NOW)
            assert message is not None
            answer, binding = None, two.prepare()
            if message.early is not None:
                is_answered = True
                answer = b.sign(b.answer(a, decode_envelope(message.early), reply, binding))[0]
            one.receive(self._put("responder", two.finish(answer, message.code)), NOW)
        padding: Any = self.scene.padding
        self.sessions = {"initiator": one.session(padding), "responder": two.session(padding)}
        if not is_answered:
            final = self.sessions["initiator"].handshake_hash
            self.owed = dict.fromkeys(self.owed, final)
        if one.address_part_due:
            self._send("initiator", FrameKind.ADDRESSES, one.address_part())
        else:
            self._send("initiator", FrameKind.KEEPALIVE, b"")

    def _send(self, name: str, kind: FrameKind, content: bytes) -> bytes:
        raw = self._put(name, self.sessions[name].send(kind, content))
        (other,) = (n for n in self.sessions if n != name)
        assert [f.content for f in self.sessions[other].receive(raw)] == [content]
        return raw

    def _talk(self) -> None:
        pairs: Pairs = self._pairs() if self.scene.is_full else [(Ping(), Pong(NOW))]
        pairs += self._reports() if self.scene.is_of_reports else []
        self._exchange("initiator", pairs[: len(pairs) // 2 + 1])
        self._exchange("responder", [(Ping(), Pong(NOW))])
        if self.scene.is_full:
            self._renew()
            self._exchange("initiator", pairs[len(pairs) // 2 + 1 :])
        self._send("responder", FrameKind.CLOSE, b"")

    def _exchange(self, asker: str, pairs: Pairs) -> None:
        a, b = self.initiator, self.responder
        x, y, answerer = (a, b, "responder") if asker == "initiator" else (b, a, "initiator")
        asked = [x.ask(y, body) for body, _ in pairs]
        asked[0] = msgspec.structs.replace(asked[0], binding=self.owed[asker])
        answers = [y.answer(x, e, body) for e, (_, body) in zip(asked, pairs, strict=True)]
        answers[0] = msgspec.structs.replace(answers[0], binding=self.owed[answerer])
        self.owed = dict.fromkeys(self.owed, ZEROS)
        for name, side, envelopes in ((asker, x, asked), (answerer, y, answers)):
            for raw in side.sign(*envelopes):
                self._send(name, FrameKind.ENVELOPE, raw)

    def _renew(self) -> None:
        one, two = self.sessions["initiator"], self.sessions["responder"]
        (ask,) = two.receive(self._put("initiator", one.renew()))
        (answer,) = one.receive(self._put("responder", two.on_renewal(ask.content, NOW)))
        (switch,) = two.receive(self._put("initiator", one.on_renewal(answer.content, NOW)))
        assert two.on_renewal(switch.content, NOW) == b""

    def _reports(self) -> Pairs:
        """A proof, of an answer that nobody can read, and praise."""
        a, b = self.initiator, self.responder
        asked = a.ask(b, Ping())
        bad = msgspec.structs.replace(b.answer(a, asked, Pong(NOW)), body=b"\xc1")
        (envelope,), (request,) = b.sign(bad), a.sign(asked)
        contact, key = b.identity.contact(), b.identity.signing.public
        proof = collect(EvidenceRule.MALFORMED_BODY, contact, key, envelope, request)
        return [
            (Report(proof), Reported(int(WireCode.OK))),
            (Report(None, (b.identity.node_id,)), Reported(int(WireCode.BUSY))),
        ]

    def _pairs(self) -> Pairs:
        """A question and an answer of every type, with every field somewhere not its default."""
        a, b = self.initiator, self.responder
        owner = OwnerIdentity.generate(b.suite)
        record = make_record(
            b.suite, b.tag, owner, Named(owner.owner_id, "greeting"), b"hello",
            ttl=3600, timestamp=NOW, params=DEMO,
        )  # fmt: skip
        topic = make_record(
            b.suite, b.tag, owner, Topic("lobby"), b"here",
            ttl=3600, timestamp=NOW, params=DEMO, node=b.identity,
        )  # fmt: skip
        contacts = (
            a.identity.contact(("tcp/192.0.2.2:4733", "tcp/[2001:db8::1]:4733"), with_key=True),
            b.identity.contact(("tcp/192.0.2.1:4733",), features=0),
        )
        key, full = record.key, b"\xff" * 32
        receipts = (
            Receipt(record.record_id, int(WireCode.OK), record.expires),
            Receipt(topic.record_id, int(WireCode.TOPIC_FULL), 0),
        )
        return [
            (Ping(), Pong(NOW)),
            (FindNode(key, full, bytes(32), bytes(8)), Nodes(key, contacts)),
            (FindValue(key, owner.owner_id, (topic.record_id,), None, full),
             Values(key, (record.wire,), (topic.record_id,), contacts[1:], record.record_id)),
            (FindValues((FindValue(key, known=bytes(4), brief=True), FindValue(full, owner.owner_id))),
             ValuesList((Values(key, (), (record.record_id,), ()), Values(full, (), (), contacts)))),
            (Store((record.wire, topic.wire), True), Stored(receipts, NOW)),
            (FindValue(key, cursor=record.record_id), Error(int(WireCode.BUSY), 250, NOW)),
        ]  # fmt: skip


def main(argv: list[str]) -> int:
    """Write every capture that is not there yet, into v<version> or the named directory."""
    target = Path(argv[0]) if argv else HERE / f"v{PROTOCOL_VERSION}"
    target.mkdir(parents=True, exist_ok=True)
    for name, scene in SCENES.items():
        path = target / f"{name}.json"
        if path.exists():
            print(f"{path} is kept as it is")
            continue
        document = Recorder(scene).capture()
        with path.open("xb") as f:
            f.write(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
        print(f"{path} made")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
