"""The PQNoise engine: stepped against an independent reference, fixed vectors, sizes, misuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pqdht.channel import noise
from pqdht.channel.noise import (
    MAX_NONCE,
    PQ_IK,
    PQ_XX,
    CipherState,
    HandshakeState,
    Pattern,
    SymmetricState,
    message_sizes,
    protocol_name,
)
from pqdht.crypto.api import Provider
from pqdht.crypto.kdf import hkdf
from pqdht.crypto.providers import get_provider
from pqdht.errors import DecodeError, HandshakeFailed, SessionFailed
from pqdht.testing.fake import FakeProvider
from tests.unit.channel.peers import RecordingKem, ScriptedKem, key_pair
from tests.unit.channel.reference import Reference

VECTORS = Path(__file__).parents[2] / "vectors"
PATTERNS = pytest.mark.parametrize("pattern", [PQ_IK, PQ_XX], ids=lambda p: p.name)
KEMS = pytest.mark.parametrize("kem_name", ["XWing", "MLKEM768", "MLKEM1024"])


def both_sides(pattern: Pattern, kem: Any, prologue: bytes = b"p") -> tuple[HandshakeState, HandshakeState]:
    s_i, s_r, e = (key_pair(kem, n) for n in (1, 2, 3))
    rs = s_r.public if pattern.responder_is_known else None
    return (
        HandshakeState(pattern, kem, initiator=True, prologue=prologue, s=s_i, rs=rs, ephemeral=e),
        HandshakeState(pattern, kem, initiator=False, prologue=prologue, s=s_r),
    )


def finish(a: HandshakeState, b: HandshakeState) -> None:
    while not a.is_done:
        writer, reader = (a, b) if a.is_our_turn else (b, a)
        writer.begin_write()
        reader.read(writer.finish_write(b""))


def state(side: HandshakeState) -> tuple[bytes, bytes, bytes | None, int]:
    s = side.symmetric
    return s.h, s.ck, s.k, s.cipher.n


# --- the protocol ------------------------------------------------------------------------------


@KEMS
@PATTERNS
def test_both_sides_and_the_reference_agree_after_each_token(
    provider: Provider, kem_name: str, pattern: Pattern
) -> None:
    kem = RecordingKem(provider.kem(kem_name), [])
    a, b = both_sides(pattern, kem)
    s_i, s_r, e = (key_pair(kem, n).public for n in (1, 2, 3))
    reference = Reference(
        f"Noise_{pattern.name}_{kem_name}_ChaChaPoly_SHA256", b"p", s_r if pattern is PQ_IK else None
    )
    for number, tokens in enumerate(pattern.messages):
        writer, reader = (a, b) if number % 2 == 0 else (b, a)
        for token in tokens:
            assert writer.token_size(token) == reader.token_size(token)
            size = writer.token_size(token)
            sent = writer.write_token(token)
            reader.read_token(token, sent)
            if token == "e":
                expected = reference.e(e)
            elif token == "s":
                expected = reference.s(s_i if writer is a else s_r)
            elif token == "ekem":
                expected = reference.ekem(*kem.encapsulations[-1])
            else:
                expected = reference.skem(*kem.encapsulations[-1])
            assert sent == expected
            assert len(sent) == size
            assert state(a) == state(b) == (reference.h, reference.ck, reference.k, reference.n)
        payload = b"payload %d" % number
        sent = writer.symmetric.encrypt_and_hash(payload)
        assert sent == reference.payload(payload)
        assert reader.symmetric.decrypt_and_hash(sent) == payload
        assert state(a) == state(b) == (reference.h, reference.ck, reference.k, reference.n)
    for ours, theirs, key in zip(a.symmetric.split(), b.symmetric.split(), reference.split(), strict=True):
        sealed = ours.encrypt_with_ad(b"", b"m")
        assert sealed == ChaCha20Poly1305(key).encrypt(bytes(12), b"m", None)
        assert theirs.decrypt_with_ad(b"", sealed) == b"m"


def test_patterns_are_those_of_the_paper() -> None:
    assert PQ_IK.messages == (("skem", "e", "s"), ("ekem", "skem"))
    assert PQ_IK.responder_is_known
    assert PQ_XX.messages == (("e",), ("ekem", "s"), ("skem", "s"), ("skem",))
    assert not PQ_XX.responder_is_known


@pytest.mark.parametrize(
    ("pattern", "kem_name", "name"),
    [
        (PQ_IK, "XWing", "Noise_pqIK_XWing_ChaChaPoly_SHA256"),
        (PQ_XX, "MLKEM768", "Noise_pqXX_MLKEM768_ChaChaPoly_SHA256"),
        (PQ_XX, "MLKEM1024", "Noise_pqXX_MLKEM1024_ChaChaPoly_SHA256"),
    ],
)
def test_protocol_names(pattern: Pattern, kem_name: str, name: str) -> None:
    assert protocol_name(pattern, FakeProvider(0).kem(kem_name)) == name


@pytest.mark.parametrize(
    ("kem_name", "ik", "xx"),
    [
        ("XWing", (3584, 2272), (1216, 2368, 2384, 1152)),
        ("MLKEM768", (3488, 2208), (1184, 2304, 2320, 1120)),
        ("MLKEM1024", (4736, 3168), (1568, 3168, 3184, 1600)),
    ],
)
def test_message_sizes(kem_name: str, ik: tuple[int, ...], xx: tuple[int, ...]) -> None:
    kem = FakeProvider(0).kem(kem_name)
    for pattern, expected in ((PQ_IK, ik), (PQ_XX, xx)):
        assert message_sizes(pattern, kem) == expected
        a, b = both_sides(pattern, kem)
        for number, size in enumerate(expected):
            writer, reader = (a, b) if number % 2 == 0 else (b, a)
            writer.begin_write()
            message = writer.finish_write(b"")
            assert len(message) == size
            reader.read(message)
        assert a.is_done
        assert b.is_done


@PATTERNS
def test_a_whole_handshake_with_fresh_keys(provider: Provider, pattern: Pattern) -> None:
    kem = provider.kem("XWing")
    s_i, s_r = kem.generate(), kem.generate()
    rs = s_r.public if pattern is PQ_IK else None
    a = HandshakeState(pattern, kem, initiator=True, prologue=b"", s=s_i, rs=rs)
    b = HandshakeState(pattern, kem, initiator=False, prologue=b"", s=s_r)
    finish(a, b)
    assert a.h == b.h
    assert (a.rs, b.rs) == (s_r.public, s_i.public)
    send_a, receive_a = a.split()
    send_b, receive_b = b.split()
    assert receive_b.decrypt_with_ad(b"", send_a.encrypt_with_ad(b"", b"there")) == b"there"
    assert receive_a.decrypt_with_ad(b"", send_b.encrypt_with_ad(b"", b"back")) == b"back"
    assert a.symmetric.export(b"l") == b.symmetric.export(b"l") != a.symmetric.export(b"m")


@PATTERNS
def test_the_binding_is_known_to_both_before_the_payload(pattern: Pattern) -> None:
    a, b = both_sides(pattern, FakeProvider(1).kem("XWing"))
    seen = set()
    while not a.is_done:
        writer, reader = (a, b) if a.is_our_turn else (b, a)
        binding = writer.begin_write()
        assert reader.read(writer.finish_write(b"signed: " + binding)) == (binding, b"signed: " + binding)
        seen.add(binding)
    assert len(seen) == len(pattern.messages)
    assert a.h not in seen


# --- fixed vectors -----------------------------------------------------------------------------


def clatter() -> list[Any]:
    doc = json.loads((VECTORS / "noise_clatter.json").read_text())
    return [pytest.param(doc, t, id=f"{t['pattern']}-{t['role']}") for t in doc["transcripts"]]


@pytest.mark.parametrize(("doc", "transcript"), clatter())
def test_transcripts_recorded_with_another_implementation(doc: Any, transcript: Any) -> None:
    kem = get_provider("openssl").kem("MLKEM768")
    scripted = ScriptedKem(
        kem, [(bytes.fromhex(c), bytes.fromhex(k)) for c, k in transcript["our_encapsulations"]]
    )
    pattern = PQ_IK if transcript["pattern"] == "pqIK" else PQ_XX
    initiator = transcript["role"] == "initiator"
    theirs = bytes.fromhex(transcript["their_static"])
    us = HandshakeState(
        pattern,
        scripted,
        initiator=initiator,
        prologue=bytes.fromhex(doc["prologue"]),
        s=key_pair(kem, 1),
        rs=theirs if initiator and pattern is PQ_IK else None,
        ephemeral=key_pair(kem, 2),
    )
    for message in map(bytes.fromhex, transcript["messages"]):
        if us.is_our_turn:
            us.begin_write()
            assert us.finish_write(bytes.fromhex(doc["our_payload"])) == message
        else:
            assert us.read(message)[1] == bytes.fromhex(doc["their_payload"])
    assert us.is_done
    assert us.rs == theirs
    assert us.h.hex() == transcript["handshake_hash"]
    send, receive = us.split()
    plaintext = bytes.fromhex(doc["transport_plaintext"])
    for number, (incoming, outgoing) in enumerate(transcript["transport"]):
        if number == 2:
            send.rekey()
            receive.rekey()
        assert receive.decrypt_with_ad(b"", bytes.fromhex(incoming)) == plaintext
        assert send.encrypt_with_ad(b"", plaintext).hex() == outgoing


def own_vectors() -> list[Any]:
    doc = json.loads((VECTORS / "noise_vectors.json").read_text())
    return [pytest.param(v, id=v["name"]) for v in doc["vectors"]]


@pytest.mark.parametrize("vector", own_vectors())
def test_fixed_vectors(provider: Provider, vector: Any) -> None:
    _, pattern_name, kem_name, _, _ = vector["name"].split("_")
    pattern = PQ_IK if pattern_name == "pqIK" else PQ_XX
    kem = ScriptedKem(
        provider.kem(kem_name), [(bytes.fromhex(c), bytes.fromhex(k)) for c, k in vector["encapsulations"]]
    )
    a, b = both_sides(pattern, kem, b"pqdht vectors")
    for number, (message, hashes) in enumerate(zip(vector["messages"], vector["hashes"], strict=True)):
        writer, reader = (a, b) if a.is_our_turn else (b, a)
        payload = b"payload %d" % number
        assert writer.begin_write().hex() == hashes[0]
        assert writer.finish_write(payload).hex() == message
        assert reader.read(bytes.fromhex(message)) == (bytes.fromhex(hashes[0]), payload)
        assert a.h.hex() == b.h.hex() == hashes[1]
    send_a, send_b = a.split()[0], b.split()[0]
    assert [send_a.encrypt_with_ad(b"", b"ping").hex(), send_b.encrypt_with_ad(b"", b"pong").hex()] == vector[
        "transport"
    ]
    assert a.symmetric.export(b"label").hex() == vector["export"]


# --- what must fail ----------------------------------------------------------------------------


@PATTERNS
@pytest.mark.parametrize("how", ["flip first", "flip middle", "flip last", "cut", "append", "empty"])
def test_a_changed_message_breaks_the_handshake(pattern: Pattern, how: str) -> None:
    """Where the change is not seen at once (pqXX's first message is bare), the next message fails."""
    for number in range(len(pattern.messages)):
        a, b = both_sides(pattern, FakeProvider(1).kem("XWing"))
        for _ in range(number):
            writer, reader = (a, b) if a.is_our_turn else (b, a)
            writer.begin_write()
            reader.read(writer.finish_write(b"payload"))
        writer, reader = (a, b) if a.is_our_turn else (b, a)
        writer.begin_write()
        good = writer.finish_write(b"payload")
        bad = bytearray(good)
        if how.startswith("flip"):
            bad[{"flip first": 0, "flip middle": 16, "flip last": -1}[how]] ^= 1
        elif how == "cut":
            del bad[-1]
        elif how == "append":
            bad.append(0)
        else:
            bad.clear()

        def go_on(reader: HandshakeState, writer: HandshakeState, bad: bytes) -> None:
            reader.read(bad)
            reader.begin_write()
            writer.read(reader.finish_write(b""))

        with pytest.raises((HandshakeFailed, DecodeError)):
            go_on(reader, writer, bytes(bad))


@pytest.mark.parametrize("what", ["prologue", "static key of the responder", "KEM name"])
def test_both_must_mean_the_same_handshake(what: str) -> None:
    kem = FakeProvider(1).kem("XWing")
    s_r = key_pair(kem, 2)
    rs = key_pair(kem, 9).public if what.startswith("static") else s_r.public
    a = HandshakeState(PQ_IK, kem, initiator=True, prologue=b"x", s=key_pair(kem, 1), rs=rs)
    prologue = b"y" if what == "prologue" else b"x"
    other: Any = kem
    if what == "KEM name":
        other = ScriptedKem(kem, [])
        other.name = "Other"
    b = HandshakeState(PQ_IK, other, initiator=False, prologue=prologue, s=s_r)
    a.begin_write()
    with pytest.raises(HandshakeFailed) as failure:
        b.read(a.finish_write(b""))
    assert failure.value.fields["reason"] == "authentication"


def test_a_key_outside_the_range_is_refused_before_it_is_used(provider: Provider) -> None:
    kem = provider.kem("MLKEM768")
    _, b = both_sides(PQ_XX, kem)
    b.read(b"\xff" * kem.public_size)
    with pytest.raises(DecodeError):
        b.begin_write()


def test_only_the_holder_of_the_static_key_can_answer() -> None:
    """An impostor with the responder's public key alone gets no further than message 1."""
    kem = FakeProvider(1).kem("XWing")
    a, _ = both_sides(PQ_IK, kem)
    impostor = HandshakeState(PQ_IK, kem, initiator=False, prologue=b"p", s=key_pair(kem, 2))
    impostor._s = key_pair(kem, 5)  # the transcript has the right key, the decapsulation the wrong one
    a.begin_write()
    with pytest.raises(HandshakeFailed):
        impostor.read(a.finish_write(b""))


def test_turns_are_kept() -> None:
    a, b = both_sides(PQ_XX, FakeProvider(1).kem("XWing"))
    with pytest.raises(ValueError, match="turn to write"):
        b.begin_write()
    with pytest.raises(ValueError, match="turn to read"):
        a.read(b"")
    with pytest.raises(ValueError, match="begin_write"):
        a.finish_write(b"")
    with pytest.raises(ValueError, match="not done"):
        a.split()
    a.begin_write()
    with pytest.raises(ValueError, match="turn to write"):
        a.begin_write()
    b.read(a.finish_write(b""))
    finish(a, b)
    with pytest.raises(ValueError, match="turn to read"):
        b.read(b"")


def test_the_responder_key_is_given_where_the_pattern_says() -> None:
    kem = FakeProvider(1).kem("XWing")
    s = key_pair(kem, 1)
    for pattern, initiator, rs in (
        (PQ_IK, True, None),
        (PQ_IK, False, s.public),
        (PQ_XX, True, s.public),
        (PQ_XX, False, s.public),
    ):
        with pytest.raises(ValueError, match="static key"):
            HandshakeState(pattern, kem, initiator=initiator, prologue=b"", s=s, rs=rs)
    with pytest.raises(DecodeError):
        HandshakeState(PQ_IK, kem, initiator=True, prologue=b"", s=s, rs=b"short")


# --- the objects -------------------------------------------------------------------------------


def test_a_short_name_is_padded_and_a_long_one_hashed() -> None:
    assert SymmetricState("short").h == b"short" + bytes(27)
    assert SymmetricState("n" * 32).h == b"n" * 32
    assert SymmetricState("n" * 33).h != b"n" * 33


def test_without_a_key_a_cipher_passes_bytes_on() -> None:
    cipher = CipherState()
    assert not cipher.has_key
    assert cipher.encrypt_with_ad(b"ad", b"text") == cipher.decrypt_with_ad(b"ad", b"text") == b"text"
    assert cipher.n == 0


def test_nonce_is_four_zero_bytes_and_a_little_endian_counter() -> None:
    cipher = CipherState(bytes(32))
    cipher.n = 0x0102
    sealed = cipher.encrypt_with_ad(b"ad", b"text")
    nonce = bytes.fromhex("00000000 0201000000000000")
    assert ChaCha20Poly1305(bytes(32)).decrypt(nonce, sealed, b"ad") == b"text"
    assert cipher.n == 0x0103


def test_a_wrong_tag_leaves_the_counter() -> None:
    cipher = CipherState(bytes(32))
    with pytest.raises(InvalidTag):
        cipher.decrypt_with_ad(b"", bytes(20))
    assert cipher.n == 0


def test_rekey_is_that_of_noise_and_keeps_the_counter() -> None:
    cipher = CipherState(bytes(32))
    cipher.encrypt_with_ad(b"", b"")
    cipher.rekey()
    new = ChaCha20Poly1305(bytes(32)).encrypt(bytes(4) + b"\xff" * 8, bytes(32), None)[:32]
    sealed = cipher.encrypt_with_ad(b"", b"text")
    assert sealed == ChaCha20Poly1305(new).encrypt(bytes(4) + b"\x01" + bytes(7), b"text", None)


def test_the_last_nonce_is_never_used() -> None:
    cipher = CipherState(bytes(32))
    cipher.n = MAX_NONCE
    with pytest.raises(SessionFailed):
        cipher.encrypt_with_ad(b"", b"")
    with pytest.raises(SessionFailed):
        cipher.decrypt_with_ad(b"", bytes(16))


def test_exported_secrets_are_hkdf_of_the_chaining_key() -> None:
    symmetric = SymmetricState("name")
    symmetric.mix_key(b"secret")
    assert symmetric.export(b"label") == hkdf(symmetric.ck, b"", b"label", 32)


def test_tag_size() -> None:
    assert len(CipherState(bytes(32)).encrypt_with_ad(b"", b"")) == noise.TAG_SIZE == 16
