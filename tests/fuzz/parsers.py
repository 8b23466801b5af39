"""One target for each thing that is parsed out of what peers send.

Each input is accepted or refused with the documented error; what is accepted survives the wire again.
Where a hash or a signature would stop every changed input, the first byte says which of them is put
right before the parser sees it, so that what lies behind is reached too.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace
from typing import Any

import msgspec

from pqdht.channel.hello import AddressPart, Hello, Payload, decode_address_part, decode_payload
from pqdht.cli.peers import _peer_section
from pqdht.constants import DAY_MS, MAX_MESSAGE, TESTNET
from pqdht.crypto import puzzle
from pqdht.crypto.batch import (
    BatchSigner,
    BatchVerifier,
    Proof,
    _root,
    attach_root,
    parse_proof,
    root_statement,
    strip_root,
)
from pqdht.crypto.labels import BATCH_ROOT, RECORD, TOPIC_NODE, network_tag
from pqdht.envelope import is_request, open_answer, request_hash, signed_bytes
from pqdht.errors import (
    BadPuzzle,
    BadSignature,
    ConfigError,
    DecodeError,
    EvidenceInvalid,
    PeerError,
    RecordInvalid,
)
from pqdht.identity.contact import ContactVerifier, VerifiedContact
from pqdht.identity.keys import OwnerIdentity, new_commit, public_key_hash
from pqdht.ids import parse_id
from pqdht.node.environment import split_bootstrap
from pqdht.peer_record import PeerRecord, check_endpoint, parse_wireguard_key
from pqdht.records import Content, Named, RecordVerifier, Topic, make_record, topic_claim
from pqdht.records.record import _decode_tbs
from pqdht.testing.fake import fake_suite
from pqdht.trust.evidence import EvidenceRule, judge
from pqdht.wire import messages as m
from pqdht.wire.address import parse_address
from pqdht.wire.codec import Decoder, encode
from pqdht.wire.contact import Contact
from tests.fuzz.source import Target
from tests.unit.trust.accused import Court

NOW = 20_454 * DAY_MS
PARAMS = replace(TESTNET, puzzle_schedule=((0, 0),))
SUITE = fake_suite(1, 7)
TAG = network_tag(PARAMS.name, PARAMS.genesis_salt, SUITE.number)
NODE = new_commit(SUITE, TAG, NOW // DAY_MS).solved(bytes(8))
OWNER = OwnerIdentity.generate(SUITE)
CONTACT = NODE.contact(("tcp/192.0.2.1:4733", "tcp/[2001:db8::1]:4733"), with_key=True)
PROOF = bytes(32) + b"\0\1\0\0" + bytes(32) + b"s"
ID = b"\x05" * 32


def again(decode: Decoder[Any], value: Any) -> None:
    """What was accepted decodes to itself (but for what the defaults add at the very limit)."""
    raw = encode(value)
    assert len(raw) > MAX_MESSAGE or decode(raw) == value


# --- messages ------------------------------------------------------------------------------------

BODIES: tuple[m.Body, ...] = (
    m.Ping(),
    m.Pong(NOW),
    m.FindNode(ID, ID, ID),
    m.Nodes(ID, (CONTACT,)),
    m.FindValue(ID, ID, (ID, ID), ID, ID),
    m.Values(ID, (m.WireRecord(b"tbs", b"sig"),), (ID,), (CONTACT,), ID),
    m.Store((m.WireRecord(b"tbs", b"sig"),), True),
    m.Stored((m.Receipt(ID, 0, NOW),), NOW),
    m.Error(1, 500, NOW),
    m.Report(m.Evidence(1, CONTACT, b"key", b"envelope", b"request", 3), (ID,)),
    m.Reported(0),
)
ASKED: dict[int, m.Body] = {
    1: m.Ping(),
    3: m.FindNode(ID),
    5: m.FindValue(ID),
    7: m.Store((m.WireRecord(b"tbs", b"sig"),)),
}


def envelope(data: bytes) -> bool:
    """An envelope and the body in it, as an answer to the question that the first byte names."""
    asked = 1 + 2 * (data[0] % 4) if data else 1
    try:
        e = m.decode_envelope(data[1:])
        again(m.decode_envelope, e)
        assert len(request_hash(signed_bytes(TAG, e))) == 32
        is_request(e)
        body = open_answer(e, asked, ASKED[asked])
    except PeerError as refused:
        return refused.retry_after >= 0
    except DecodeError:
        return False
    assert e.type == m.ANSWERS[asked]
    assert m.decode_body(e.type, encode(body)) == body
    return True


def _envelope_seeds() -> list[bytes]:
    def around(body: m.Body) -> bytes:
        return encode(m.Envelope(1, m.message_type(body), bytes(8), ID, ID, ID, NOW, ID, encode(body), PROOF))

    answers = {0: m.Pong(NOW), 1: BODIES[3], 2: BODIES[5], 3: BODIES[7]}
    return [bytes([asked]) + around(body) for asked, body in answers.items()] + [
        b"\0" + around(m.Error(1, 500, NOW))
    ]


def body(data: bytes) -> bool:
    """A body of the type that the first byte names."""
    try:
        found = m.decode_body(data[0] if data else 0, data[1:])
    except DecodeError:
        return False
    number = m.message_type(found)
    assert number == data[0]
    raw = encode(found)
    assert len(raw) > MAX_MESSAGE or m.decode_body(number, raw) == found
    return True


# --- contacts ------------------------------------------------------------------------------------

_contact = Decoder(Contact, "contact")


def contact(data: bytes) -> bool:
    """A contact, with its puzzle (bit 0) and its KEM key's hash (bit 1) put right."""
    repair = data[0] if data else 0
    verifier = ContactVerifier(SUITE, PARAMS, TAG, cache_size=4)
    try:
        found = _contact(data[1:])
        again(_contact, found)
        if repair & 2 and found.kem_key is not None:
            found = msgspec.structs.replace(found, kem_key_hash=public_key_hash(found.kem_key))
        if repair & 1:
            commit = puzzle.commit(TAG, found.signing_key_hash, found.kem_key_hash, found.born)
            digest = puzzle.digest(SUITE.provider, TAG, commit, found.nonce)
            found = msgspec.structs.replace(found, digest=digest)
        checked = verifier.verify(found, NOW)
    except (DecodeError, BadPuzzle):
        return False
    assert verifier.verify(found, NOW) is checked
    _check_verified(verifier, checked)
    return True


def _check_verified(verifier: ContactVerifier, checked: VerifiedContact) -> None:
    """What may be passed on is what others verify to the same."""
    for with_key in (False, True):
        passed_on = checked.to_wire(with_key)
        there = verifier.verify(_contact(encode(passed_on)), NOW)
        assert there.node_id == checked.node_id
        assert there.addresses == checked.addresses
        assert not there.dropped
    assert all(a.ip is not None or a.scheme == "relay" for a in checked.addresses)
    dialled = checked.dialled_by({"tcp"})
    assert dialled is None or {a.group for a in dialled.addresses} == {dialled.group}


def _contact_seeds() -> list[bytes]:
    others = msgspec.structs.replace(
        CONTACT,
        addresses=(
            "tcp/[::ffff:192.0.2.1]:1",
            "relay/" + "0" * 64 + "/" + "1" * 64,
            "tcp/x",
            "tcp/10.0.0.1:0",
        ),
        kem_key=None,
        features=3,
        stake=b"s",
    )
    return [b"\0" + encode(CONTACT), b"\3" + encode(CONTACT), b"\1" + encode(others)]


# --- text ----------------------------------------------------------------------------------------


def text(data: bytes) -> bool:
    """Addresses, endpoints, bootstrap entries, ids, keys: whatever is parsed out of text."""
    words = data[1:].decode("utf-8", "surrogateescape" if data[:1] == b"\xff" else "replace")
    accepted = False
    try:
        address = parse_address(words)
        accepted = True
        assert parse_address(str(address)) == address
        assert str(parse_address(str(address))) == str(address)
        assert address.group
        assert address.wide_group
        assert address.is_public in (True, False)
    except DecodeError:
        pass
    try:
        check_endpoint(words)
        accepted = True
        assert words.isprintable()
        assert not set(words) & set(" \n#=,%")
    except DecodeError:
        pass
    for parse in (split_bootstrap, parse_id, parse_wireguard_key):
        try:
            parse(words)
            accepted = True
        except ConfigError:
            continue
    return accepted


def _text_seeds() -> list[bytes]:
    entries = (
        "tcp/203.0.113.5:4733",
        "udp/[2001:db8::1]:4733",
        "tcp/[::ffff:10.0.0.1]:1",
        "obfs4/198.51.100.7:443?cert=abc&iat-mode=0",
        "relay/" + "ab" * 32 + "/" + "cd" * 32,
        "tcp/example.org:65535",
        "ab" * 32 + "@tcp/192.0.2.1:4733",
        "vpn.example:51820",
        "[2001:db8::1]:51820",
        "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066Spjqqbmmo=",
    )
    return [b"\0" + e.encode() for e in entries]


# --- records -------------------------------------------------------------------------------------


def record(data: bytes) -> bool:
    """A tbs, its key (bit 0), its signature (bit 1) and its node's proof (bit 2) put right."""
    repair, raw = (data[0] if data else 0), data[1:]
    contacts = ContactVerifier(SUITE, PARAMS, TAG, cache_size=4)
    verifier = RecordVerifier(SUITE, PARAMS, TAG, contacts, cache_size=4)
    raw = _repaired(raw, repair)
    signature = bytes(SUITE.owner_signer.signature_size)
    try:
        if repair & 2:
            key = SUITE.owner_signer.verify_key(_decode_tbs(raw).owner)
            signature = key.expected(RECORD + raw, RECORD)  # type: ignore[attr-defined]
        found = verifier.parse(m.WireRecord(raw, signature))
        assert encode(_decode_tbs(raw)) == raw
        assert found.locator.key() == found.key
        verifier.check_time(found, NOW)
        verifier.verify(found)
        verifier.verify(found)
    except (DecodeError, RecordInvalid):
        return False
    assert repair & 2
    assert verifier.parse(found.wire) == found
    assert found.is_tombstone in (True, False)
    assert len(found.value_id) == 32
    return True


def _repaired(raw: bytes, repair: int) -> bytes:
    try:
        tbs = _decode_tbs(raw)
    except DecodeError:
        return raw
    extra = tbs.extra
    try:
        owner_id = OWNER.owner_id if tbs.owner == OWNER.public else None
        if repair & 1 and extra.name and owner_id is not None:
            where = Topic(extra.name) if tbs.kind == 3 else Named(owner_id, extra.name)
            tbs = msgspec.structs.replace(tbs, key=where.key())
        elif repair & 1 and tbs.kind == 1:
            tbs = msgspec.structs.replace(tbs, key=Content.of(tbs.value).key())
    except ConfigError:
        pass
    if repair & 4 and extra.node is not None and tbs.owner == OWNER.public:
        claim = topic_claim(TAG, OWNER.owner_id, tbs.key)  # type: ignore[arg-type]
        proof = msgspec.structs.replace(extra.node, signature=NODE.signing.sign(claim, TOPIC_NODE))
        tbs = msgspec.structs.replace(tbs, extra=msgspec.structs.replace(extra, node=proof))
    return encode(tbs) if repair & 7 else raw


def _record_seeds() -> list[bytes]:
    def made(where: Any, value: bytes = b"v", **more: Any) -> bytes:
        ttl = more.pop("ttl", 3600)
        signed = make_record(SUITE, TAG, OWNER, where, value, ttl=ttl, timestamp=NOW, params=PARAMS, **more)
        return b"\7" + signed.wire.tbs

    named = Named(OWNER.owner_id, "x")
    return [
        made(named),
        made(Content.of(b"v")),
        made(Topic("t"), node=NODE),
        made(named, b"", flags=1, ttl=PARAMS.limits.ttl_max_s, previous=ID),
    ]


# --- proofs --------------------------------------------------------------------------------------


def proof(data: bytes) -> bool:
    """A batch proof with its root signature left as it is, or (bit 0) put right."""
    repair, raw = (data[0] if data else 0), data[1:]
    verifier = BatchVerifier(capacity=2)
    key = SUITE.node_signer.verify_key(NODE.signing.public)
    try:
        p = parse_proof(raw)
        _check_proof(raw, p)
        if repair & 1:
            statement = root_statement(p.tree_id, _root(p, b"message"), p.size)
            raw = attach_root(raw, key.expected(statement, BATCH_ROOT))  # type: ignore[attr-defined]
        verifier.verify(raw, b"message", NODE.node_id, key, BATCH_ROOT)
    except (DecodeError, BadSignature):
        assert len(verifier) == 0
        return False
    verifier.verify(strip_root(raw), b"message", NODE.node_id, key, BATCH_ROOT)
    assert verifier.complete(strip_root(raw), b"message", NODE.node_id, BATCH_ROOT) == raw
    for message, who in ((b"another", NODE.node_id), (b"message", ID)):
        try:
            verifier.verify(strip_root(raw), message, who, key, BATCH_ROOT)
        except BadSignature:
            continue
        raise AssertionError("a proof without its root signature passed for something else")
    return True


def _check_proof(raw: bytes, p: Proof) -> None:
    assert 0 <= p.leaf < p.size <= 1024
    assert len(p.path) <= 320
    head = p.tree_id + p.size.to_bytes(2, "big") + p.leaf.to_bytes(2, "big") + p.r
    assert head + p.path + p.signature == raw


def _proof_seeds() -> list[bytes]:
    signer = BatchSigner(SUITE.random_bytes)
    seeds = []
    for n in (1, 2, 3, 5):
        for i in range(n):
            signer.submit(b"message" if i == n - 1 else b"%d" % i)
        job = signer.take()
        assert job is not None
        seeds.append(b"\0" + job.sign(NODE.signing, BATCH_ROOT)[-1][1])
    return [*seeds, b"\1" + strip_root(seeds[-1][1:])]


# --- what handshakes carry -----------------------------------------------------------------------


def payload(data: bytes) -> bool:
    """A handshake payload (first byte even) or an address part."""
    decode: Decoder[Any] = decode_address_part if data and data[0] & 1 else decode_payload
    try:
        found = decode(data[1:])
    except DecodeError:
        return False
    assert len(encode(found)) > 24 * 1024 or decode(encode(found)) == found
    return True


def _payload_seeds() -> list[bytes]:
    hello = Hello(ID, b"key", 20_454, bytes(8), ID, 1, 1, 0, NOW)
    part = AddressPart(("tcp/192.0.2.1:1",), "tcp/192.0.2.2:2", ID, b"key")
    return [b"\0" + encode(Payload(hello, part, b"early", 11, True)), b"\1" + encode(part)]


# --- peer records --------------------------------------------------------------------------------


def peer_record(data: bytes) -> bool:
    """The value by which a peer is found, down to the section that goes into a WireGuard file."""
    try:
        found = PeerRecord.decode(data[1:])
    except DecodeError:
        return False
    assert PeerRecord.decode(found.encode()) == found
    with contextlib.redirect_stderr(io.StringIO()):
        section = _peer_section({"endpoints": list(found.endpoints), "attributes": found.attributes}, "KEY")
    for line in section.splitlines()[3:]:
        label, _, value = line.partition(" = ")
        assert label in ("Endpoint", "AllowedIPs")
        assert label == "Endpoint" or set(value) <= set("0123456789abcdef.:/, ")
        assert value.isprintable()
    assert len(section.splitlines()) <= 5
    return True


def _peer_record_seeds() -> list[bytes]:
    whole = PeerRecord(("vpn.example:1", "[2001:db8::1]:2"), ID, {"allowed_ips": "10.0.0.1/32, fd00::1"})
    zone = PeerRecord((), None, {"allowed_ips": "fe80::1%\nPostUp = sh"})
    return [b"\0" + whole.encode(), b"\0" + zone.encode()]


# --- evidence ------------------------------------------------------------------------------------


_evidence = Decoder(m.Evidence, "evidence")
COURT = Court(SUITE)


def evidence(data: bytes) -> bool:
    """Evidence as a REPORT brings it; the accused signed the envelope (bit 0), and its question (bit 1)."""
    repair = data[0] if data else 0
    try:
        found = _evidence(data[1:])
        again(_evidence, found)
        if repair & 1:
            e = m.decode_envelope(found.envelope)
            e = msgspec.structs.replace(e, sender=COURT.accused.node_id)
            if repair & 2:
                asked = m.decode_envelope(found.request)
                tie = request_hash(signed_bytes(COURT.tag, asked))
                e = msgspec.structs.replace(e, request=tie, receiver=asked.sender, rpc_id=asked.rpc_id)
            found = msgspec.structs.replace(found, envelope=COURT.sign(e, COURT.accused))
        proof = judge(found, SUITE, COURT.tag)
    except (DecodeError, EvidenceInvalid):
        return False
    assert proof.offender == COURT.accused.node_id
    assert m.decode_envelope(found.envelope).sender == proof.offender
    assert judge(_evidence(encode(found)), SUITE, COURT.tag) == proof
    return True


def _evidence_seeds() -> list[bytes]:
    bad = m.WireRecord(COURT.record().tbs, bytes(SUITE.owner_signer.signature_size))
    false = msgspec.structs.replace(COURT.node().contact(), digest=bytes(32))
    made = [
        COURT.evidence(EvidenceRule.BAD_RECORD_SIGNATURE, COURT.exchange(m.Values(ID, (bad,), (), ())), bad),
        COURT.evidence(EvidenceRule.FALSE_DIGEST, COURT.exchange(m.Nodes(ID, (false,))), false),
        COURT.evidence(EvidenceRule.MALFORMED_BODY, COURT.exchange(b"\xc1")),
    ]
    return [bytes([repair]) + encode(e) for e in made for repair in (0, 3)]


TARGETS = (
    Target("evidence", evidence, _evidence_seeds, is_msgpack=True, max_len=24_000),
    Target("envelope", envelope, _envelope_seeds, is_msgpack=True),
    Target("body", body, lambda: [bytes([m.message_type(b)]) + encode(b) for b in BODIES], is_msgpack=True),
    Target("contact", contact, _contact_seeds, is_msgpack=True),
    Target("text", text, _text_seeds, max_len=600),
    Target("record", record, _record_seeds, is_msgpack=True, max_len=8192),
    Target("proof", proof, _proof_seeds, max_len=4096),
    Target("payload", payload, _payload_seeds, is_msgpack=True),
    Target("peer_record", peer_record, _peer_record_seeds, is_msgpack=True, max_len=1024),
)
