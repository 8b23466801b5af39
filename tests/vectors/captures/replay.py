"""Reads a capture from both seats, with the private keys and coins it carries.

Every handshake message is read by its reader and written again by its writer; every frame is opened,
and sealed again.  What is told of each is a tree of plain values, long byte strings by their hash.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha3_256
from typing import Any

import msgspec

from pqdht.channel.framing import FRAME_OVERHEAD, NONCE_SIZE, Expected, FrameKey, FrameReader, Kind
from pqdht.channel.handshake import HandshakeParams
from pqdht.channel.hello import MAX_PAYLOAD, decode_address_part, decode_payload
from pqdht.channel.noise import PQ_IK, PQ_XX, HandshakeState
from pqdht.channel.renewal import Renewal, Step, transport_keys
from pqdht.channel.session import Frame, FrameKind, Session
from pqdht.constants import DEMO, HANDSHAKE_FORMAT
from pqdht.crypto.api import Kem, KemPrivateKey, KemPublicKey, Provider, Suite, make_suite
from pqdht.crypto.batch import BatchVerifier
from pqdht.crypto.labels import BATCH_ROOT, NOISE_PROLOGUE, network_tag
from pqdht.crypto.providers import get_provider
from pqdht.envelope import signed_bytes
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import NodeIdentity, UnsolvedIdentity, public_key_hash
from pqdht.records import RecordVerifier
from pqdht.testing.fake import FakeProvider
from pqdht.wire.codec import Struct
from pqdht.wire.messages import WireRecord, decode_body, decode_envelope

SHOWN = 64
"""Bytes up to which a byte string is written out."""
KINDS = {
    "pqIK": (PQ_IK, (Kind.IK_1, Kind.IK_2)),
    "pqXX": (PQ_XX, (Kind.XX_1, Kind.XX_2, Kind.XX_3, Kind.XX_4)),
}


@dataclass
class CoinsKem:
    """A KEM that draws what a capture says it drew: ephemeral seeds and encapsulations, in order."""

    real: Kem
    ephemerals: list[bytes]
    encapsulations: list[tuple[bytes, bytes]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def generate(self) -> KemPrivateKey:
        return self.real.private_key(self.ephemerals.pop(0))

    def public_key(self, public: bytes) -> KemPublicKey:
        self.real.public_key(public)
        return _Encapsulations(self.encapsulations)


@dataclass
class _Encapsulations:
    drawn: list[tuple[bytes, bytes]]

    def encapsulate(self) -> tuple[bytes, bytes]:
        return self.drawn.pop(0)


@dataclass
class Seat:
    """One side: its keys, its coins, and what it has to send next if a RENEW frame asked for it."""

    suite: Suite
    kem: CoinsKem
    identity: NodeIdentity
    owed: bytes = b""


def provider(name: str) -> Provider:
    """`fake`, or `real`: OpenSSL, whose results are everybody's."""
    return FakeProvider(0) if name == "fake" else get_provider("openssl")


def tag(capture: dict[str, Any]) -> bytes:
    return network_tag(DEMO.name, DEMO.genesis_salt, capture["suite"])


def seat(capture: dict[str, Any], name: str) -> Seat:
    """A side of the conversation out of its private keys."""
    suite = make_suite(capture["suite"], provider(capture["provider"]))
    side: dict[str, Any] = capture[name]
    coins = CoinsKem(
        suite.kem,
        [bytes.fromhex(e) for e in side["ephemerals"]],
        [(bytes.fromhex(ct), bytes.fromhex(ss)) for ct, ss in side["encapsulations"]],
    )
    signing, kem = (bytes.fromhex(side[k]) for k in ("signing_seed", "kem_seed"))
    unsolved = UnsolvedIdentity.from_seeds(suite, tag(capture), signing, kem, side["born"])
    return Seat(suite, coins, unsolved.solved(bytes.fromhex(side["nonce"])))


def params(capture: dict[str, Any], name: str) -> HandshakeParams:
    """For the production handshake in that seat."""
    at = seat(capture, name)
    keys = [seat(capture, n).identity.signing for n in ("initiator", "responder")]
    held = {public_key_hash(k.public): k.public for k in keys} if capture["holds"] else {}
    return HandshakeParams(
        suite=at.suite,
        network_tag=tag(capture),
        identity=at.identity,
        verifier=ContactVerifier(at.suite, DEMO, tag(capture)),
        held_key=held.get,
    )


class Replay:
    """`told`, after `run`: what each piece of the wire means."""

    def __init__(self, capture: dict[str, Any]) -> None:
        self.capture = capture
        self.seats = {name: seat(capture, name) for name in ("initiator", "responder")}
        self.told: list[dict[str, Any]] = []
        self.final_hash = b""
        self._tag = tag(capture)
        self._batch = BatchVerifier()
        suite = self.seats["responder"].suite
        contacts = ContactVerifier(suite, DEMO, self._tag)
        self._records = RecordVerifier(suite, DEMO, self._tag, contacts)
        self._sessions: dict[str, Session] = {}

    def run(self) -> list[dict[str, Any]]:
        pattern, kinds = KINDS[self.capture["pattern"]]
        wire = [(w["from"], bytes.fromhex(w["bytes"])) for w in self.capture["wire"]]
        noises = {name: self._noise(name, pattern is PQ_IK) for name in self.seats}
        for kind, (writer, raw) in zip(kinds, wire, strict=False):
            self._handshake_message(noises, kind, writer, raw)
        self._open(noises)
        for writer, raw in wire[len(kinds) :]:
            self._frame(writer, raw)
        return self.told

    def _noise(self, name: str, is_ik: bool) -> HandshakeState:
        at, responder = self.seats[name], self.seats["responder"].identity
        named = responder.node_id if is_ik else bytes(32)
        return HandshakeState(
            PQ_IK if is_ik else PQ_XX,
            at.kem,
            initiator=name == "initiator",
            prologue=NOISE_PROLOGUE + self._tag + bytes((HANDSHAKE_FORMAT,)) + named,
            s=at.identity.kem,
            rs=responder.kem.public if is_ik and name == "initiator" else None,
        )

    def _handshake_message(
        self, noises: dict[str, HandshakeState], kind: Kind, writer: str, raw: bytes
    ) -> None:
        responder = self.seats["responder"].identity.node_id
        key = FrameKey(responder if kind.name.startswith("IK") else self._tag)
        reader = FrameReader()
        reader.expect(Expected(kind, key, 0, 2 * MAX_PAYLOAD))
        reader.feed(raw)
        found = reader.next()
        assert found is not None
        assert len(reader) == 0
        _, message = found
        (other,) = (n for n in noises if n != writer)
        bound = noises[writer].begin_write()
        binding, payload = noises[other].read(message)
        assert bound == binding
        assert noises[writer].finish_write(payload) == message
        assert key.seal(kind, message, len(raw) - len(message) - FRAME_OVERHEAD, raw[:NONCE_SIZE]) == raw
        decoded = decode_payload(payload)
        told = {"kind": kind.name, "binding": binding.hex(), "payload": plain(decoded)}
        if decoded.early is not None:
            told["payload"]["early"] = self._envelope(writer, decoded.early)
        self.told.append(told)

    def _open(self, noises: dict[str, HandshakeState]) -> None:
        self.final_hash = noises["initiator"].h
        assert self.final_hash == noises["responder"].h
        for name, noise in noises.items():
            send, receive = transport_keys(noise)
            at = self.seats[name]
            (peer,) = (s for n, s in self.seats.items() if n != name)
            self._sessions[name] = Session(
                send.cipher,
                receive.cipher,
                send_mask=send.mask,
                receive_mask=receive.mask,
                handshake_hash=noise.h,
                padding=self.capture["padding"],
                opened_at=self.capture["now"],
                renewal=Renewal(
                    at.kem,
                    at.identity.kem,
                    peer.identity.kem.public,
                    initiator=name == "initiator",
                    network_tag=self._tag,
                    handshake_hash=noise.h,
                ),
            )

    def _frame(self, writer: str, raw: bytes) -> None:
        (other,) = (n for n in self.seats if n != writer)
        (frame,) = self._sessions[other].receive(raw)
        again, self.seats[writer].owed = self.seats[writer].owed, b""
        if frame.kind == FrameKind.RENEW:
            again = again or self._sessions[writer].renew()
            self.seats[other].owed = self._sessions[other].on_renewal(frame.content, self.capture["now"])
        else:
            again = self._sessions[writer].send(FrameKind(frame.kind), frame.content)
        assert again == raw
        self.told.append({"kind": FrameKind(frame.kind).name, "content": self._content(writer, frame)})

    def _content(self, writer: str, frame: Frame) -> Any:
        match frame.kind:
            case FrameKind.ENVELOPE:
                return self._envelope(writer, frame.content)
            case FrameKind.ADDRESSES:
                return plain(decode_address_part(frame.content))
            case FrameKind.RENEW:
                return Step(frame.content[0]).name
        return plain(frame.content)

    def _envelope(self, writer: str, raw: bytes) -> dict[str, Any]:
        """Its signature holds, and so does that of every record in it."""
        e = decode_envelope(raw)
        at = self.seats[writer]
        key = at.suite.node_signer.verify_key(at.identity.signing.public)
        self._batch.verify(e.signature, signed_bytes(self._tag, e), at.identity.node_id, key, BATCH_ROOT)
        body = decode_body(e.type, e.body)
        for wire in getattr(body, "records", ()):
            assert isinstance(wire, WireRecord)
            record = self._records.parse(wire)
            self._records.check_time(record, self.capture["now"])
            self._records.verify(record)
        told = plain(e)
        assert isinstance(told, dict)
        return told | {"body": {"message": type(body).__name__, **plain(body)}}


def plain(value: Any) -> Any:
    """Structures as maps by field name, bytes as hex, long ones as `sha3-256:hash:length`."""
    if isinstance(value, Struct):
        return {f: plain(getattr(value, f)) for f in value.__struct_fields__}
    if isinstance(value, bytes):
        if len(value) <= SHOWN:
            return value.hex()
        return f"sha3-256:{sha3_256(value).hexdigest()}:{len(value)}"
    if isinstance(value, tuple | list):
        return [plain(v) for v in value]
    return value


def covers(then: Any, now: Any) -> bool:
    """Whether all that was said then is said now; fields appended since may be there too."""
    if isinstance(then, dict):
        return isinstance(now, dict) and all(k in now and covers(v, now[k]) for k, v in then.items())
    if isinstance(then, list):
        return isinstance(now, list) and len(then) == len(now) and all(map(covers, then, now))
    return bool(then == now)


def load(raw: bytes) -> dict[str, Any]:
    """A capture out of its file."""
    capture: dict[str, Any] = msgspec.json.decode(raw)
    return capture
