"""Whole handshakes: who learns what and when, early requests, keys left out, and every refusal."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pqdht.channel.framing import FRAME_OVERHEAD, Kind
from pqdht.channel.handshake import Handshake, HandshakeMessage, StrikeRegister
from pqdht.channel.hello import MAX_EARLY, AddressPart, Payload
from pqdht.channel.noise import PQ_IK, PQ_XX, message_sizes
from pqdht.channel.replay import SeenFlights
from pqdht.channel.session import FrameKind
from pqdht.constants import HANDSHAKE_FORMAT, MINUTE_MS
from pqdht.crypto.api import Provider, make_suite
from pqdht.crypto.labels import NOISE_PROLOGUE
from pqdht.errors import (
    WireCode,
)
from tests.unit.channel.peers import (
    NOW,
    forge,
    pair_of,
    params_of,
    reason,
    shake,
    upto,
    write,
)

BOTH = pytest.mark.parametrize("xx", [False, True], ids=["pqIK", "pqXX"])


# --- what both learn ---------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("suite", [1, 2, 3])
def test_with_real_cryptography(provider: Provider, suite: int, xx: bool) -> None:
    a, b = (params_of(make_suite(suite, provider)) for _ in range(2))
    initiator, responder = pair_of(a, b, xx=xx)
    shake(initiator, responder)
    assert initiator.peer is not None
    assert responder.peer is not None
    assert initiator.peer.node_id == b.identity.node_id
    assert responder.peer.node_id == a.identity.node_id
    one, two = initiator.session("256"), responder.session("256")
    assert two.receive(one.send(FrameKind.ENVELOPE, b"there")) == [(FrameKind.ENVELOPE, b"there")]
    assert one.receive(two.send(FrameKind.ENVELOPE, b"back")) == [(FrameKind.ENVELOPE, b"back")]


@BOTH
def test_each_knows_the_other_as_it_is(xx: bool) -> None:
    a = params_of(seed=1, features=0b0111, versions=(1, 3), certificate=b"a" * 32)
    b = params_of(seed=2, features=0b1101, versions=(2, 5), certificate=b"b" * 32)
    initiator, responder = pair_of(a, b, xx=xx)
    shake(initiator, responder)
    peer = responder.peer
    assert peer is not None
    if not xx:
        assert peer.addresses == ()
        assert peer.observed == ""
        assert initiator.address_part_due
        peer = peer.with_address_part(initiator.address_part())
    assert not responder.address_part_due
    for found, params, seen_at in (
        (peer, a, "tcp/192.0.2.2:4733"),
        (initiator.peer, b, "tcp/192.0.2.1:50000"),
    ):
        assert found is not None
        assert found.contact == params.identity.contact(params.addresses, params.features, with_key=True)
        assert found.node_id == params.identity.node_id
        assert found.signing_key == params.identity.signing.public
        assert found.kem_key == params.identity.kem.public
        assert found.addresses == params.addresses
        assert found.certificate == params.certificate
        assert found.observed == seen_at
        assert found.version == 3
        assert found.features == 0b0101
        assert found.time == NOW
        assert params.verifier.verify(found.contact, NOW).node_id == found.node_id


def test_who_may_be_a_recording() -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    first, second = shake(initiator, responder)
    assert first.replayable
    assert responder.replayable
    assert not second.replayable
    assert not initiator.replayable
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2), xx=True)
    assert not any(m.replayable for m in shake(initiator, responder))
    assert not responder.replayable


def test_addresses_are_told_to_the_authenticated_only() -> None:
    """pqIK: message 2. pqXX: messages 3 and 4."""
    for xx, known_after in ((False, {1: "responder"}), (True, {2: "initiator", 3: "responder"})):
        initiator, responder = pair_of(params_of(seed=1), params_of(seed=2), xx=xx)
        writer, reader = initiator, responder
        for number in range(4 if xx else 2):
            before = reader.peer.addresses if reader.peer else ()
            reader.receive(write(writer), NOW)
            learnt = reader.peer is not None and reader.peer.addresses != before
            assert learnt == (number in known_after)
            writer, reader = reader, writer


@BOTH
def test_the_prologue_binds_network_format_and_responder(monkeypatch: pytest.MonkeyPatch, xx: bool) -> None:
    seen: list[bytes] = []
    module = __import__("pqdht.channel.handshake", fromlist=["HandshakeState"])
    real = module.HandshakeState

    def spy(*args: Any, prologue: bytes, **more: Any) -> Any:
        seen.append(prologue)
        return real(*args, prologue=prologue, **more)

    monkeypatch.setattr(module, "HandshakeState", spy)
    a, b = params_of(seed=1), params_of(seed=2)
    shake(*pair_of(a, b, xx=xx))
    responder = bytes(32) if xx else b.identity.node_id
    assert seen == [NOISE_PROLOGUE + a.network_tag + bytes([HANDSHAKE_FORMAT]) + responder] * 2


@BOTH
def test_bindings_are_the_same_on_both_sides_and_all_differ(xx: bool) -> None:
    writer, reader = pair_of(params_of(seed=1), params_of(seed=2), xx=xx)
    bindings = []
    while not (writer.done and reader.done):
        binding = writer.prepare()
        message = reader.receive(writer.finish(), NOW)
        assert message is not None
        assert message.binding == binding
        bindings.append(binding)
        writer, reader = reader, writer
    final = {writer.session("off").handshake_hash, reader.session("off").handshake_hash}
    assert len(final) == 1
    assert len(final | set(bindings)) == 1 + len(bindings)


def test_wire_sizes_of_suite_1() -> None:
    """Without padding, with one address each: a change here is a change of the format."""
    a = params_of(seed=1, padding_spread=1)
    b = params_of(seed=2, padding_spread=1)
    for xx, expected in ((False, [5675, 4406]), (True, [1259, 4459, 4517, 1238])):
        writer, reader = pair_of(a, b, xx=xx)
        sizes = []
        while not (writer.done and reader.done):
            raw = write(writer)
            sizes.append(len(raw))
            reader.receive(raw, NOW)
            writer, reader = reader, writer
        bare = message_sizes(PQ_XX if xx else PQ_IK, a.suite.kem)
        assert all(size > n + FRAME_OVERHEAD for size, n in zip(sizes, bare, strict=True))
        assert sizes == expected


def test_padding_is_random_and_keeps_a_first_reply_in_the_first_window() -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    sizes = {len(write(pair_of(a, b)[0])) for _ in range(50)}
    assert len(sizes) > 20
    assert max(sizes) - min(sizes) < 256
    for size, most in ((9_500, 14_000), (9_000, 14_000), (12_000, 17_000)):
        initiator, responder = pair_of(a, b)
        responder.receive(write(initiator, b"q"), NOW)
        reply = write(responder, bytes(size))
        assert len(reply) <= most
        assert initiator.receive(reply, NOW) is not None


# --- early requests ----------------------------------------------------------------------------


@BOTH
def test_a_question_and_its_answer_travel_in_the_handshake(xx: bool) -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    initiator, responder = pair_of(a, b, xx=xx)
    if xx:
        assert not initiator.may_send_early
        responder.receive(write(initiator), NOW)
        initiator.receive(write(responder), NOW)
    assert initiator.may_send_early
    assert not responder.may_send_early
    question = responder.receive(write(initiator, b"question"), NOW)
    assert question is not None
    assert (question.early, question.code, question.replayable) == (b"question", WireCode.OK, not xx)
    answer = initiator.receive(write(responder, b"answer"), NOW)
    assert answer is not None
    assert (answer.early, answer.code, answer.replayable) == (b"answer", WireCode.OK, False)
    assert initiator.done
    assert responder.done
    assert not initiator.may_send_early


def test_the_longest_early_envelope() -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    message = responder.receive(write(initiator, bytes(MAX_EARLY)), NOW)
    assert message is not None
    assert message.early == bytes(MAX_EARLY)
    responder.prepare()
    for early in (bytes(MAX_EARLY + 1), b""):
        with pytest.raises(ValueError, match="early"):
            responder.finish(early)


@pytest.mark.parametrize("kind", [Kind.XX_1, Kind.XX_2])
def test_messages_that_take_no_early_envelope(kind: Kind) -> None:
    writer, _ = upto(kind, params_of(seed=1), params_of(seed=2))
    writer.prepare()
    with pytest.raises(ValueError, match=f"fits a {kind.name}"):
        writer.finish(b"early")


def test_a_replayed_first_flight_is_not_served_twice() -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    initiator, responder = pair_of(a, b)
    recorded = write(initiator, b"question")
    assert responder.receive(recorded, NOW).early == b"question"  # type: ignore[union-attr]
    assert reason(lambda: Handshake.respond(b, observed="", now=NOW).receive(recorded, NOW + 1)) == "replay"
    b = replace(b, seen=SeenFlights())  # as after many others
    again = Handshake.respond(b, observed="", now=NOW).receive(recorded, NOW + 1)
    assert again is not None
    assert (again.early, again.code) == (None, WireCode.EARLY_REJECTED)
    b = replace(b, seen=SeenFlights(), addresses=())
    other = Handshake.respond(b, observed="", now=NOW).receive(recorded, NOW + 1)
    assert other is not None
    assert other.code == WireCode.EARLY_REJECTED, "the register outlives a change of addresses"


@pytest.mark.parametrize(
    ("clock", "code"),
    [
        (-5 * MINUTE_MS, WireCode.OK),
        (5 * MINUTE_MS, WireCode.OK),
        (-5 * MINUTE_MS - 1, WireCode.EARLY_REJECTED),
        (5 * MINUTE_MS + 1, WireCode.EARLY_REJECTED),
    ],
)
def test_a_wrong_clock_costs_a_round_trip_and_nothing_else(clock: int, code: WireCode) -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    initiator._now = NOW + clock
    message = responder.receive(write(initiator, b"question"), NOW)
    assert message is not None
    assert message.code == code
    assert (message.early is None) == (code != WireCode.OK)
    answer = initiator.receive(write(responder, None, message.code), NOW)
    assert answer is not None
    assert (answer.early, answer.code) == (None, code)
    assert initiator.done


def test_only_early_requests_of_pqik_strike() -> None:
    strikes = StrikeRegister()
    b = params_of(seed=2, strikes=strikes)
    shake(*pair_of(params_of(seed=1), b))
    shake(*pair_of(params_of(seed=1), b, xx=True))
    assert len(strikes) == 0
    initiator, responder = pair_of(params_of(seed=3), b)
    responder.receive(write(initiator, b"question"), NOW)
    assert len(strikes) == 1


def test_an_answer_nobody_asked_for_is_refused() -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    responder.receive(write(initiator), NOW)
    assert reason(lambda: initiator.receive(write(responder, b"answer"), NOW)) == "payload"


def test_an_unknown_code_means_ask_again() -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    responder.receive(write(initiator, b"question"), NOW)
    part = AddressPart((), "")
    answer = initiator.receive(forge(responder, Payload(responder._hello(), part, b"x", 9999)), NOW)
    assert answer is not None
    assert (answer.early, answer.code) == (None, WireCode.EARLY_REJECTED)


# --- signing keys left out ---------------------------------------------------------------------


@BOTH
def test_a_key_the_peer_does_not_hold_after_all_is_sent_after_the_handshake(xx: bool) -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    initiator, responder = pair_of(a, b, xx=xx, peer_holds_key=True)
    messages: list[HandshakeMessage] = []
    writer, reader = initiator, responder
    while not (initiator.done and responder.done):
        early = b"question" if writer.may_send_early else None
        code = messages[-1].code if messages else WireCode.OK
        message = reader.receive(write(writer, early, code if writer is responder else WireCode.OK), NOW)
        assert message is not None
        messages.append(message)
        writer, reader = reader, writer
    assert [(m.early, m.code) for m in messages[-2:]] == [(None, WireCode.NEED_KEY)] * 2
    assert responder.peer is not None
    assert responder.peer.signing_key == b""
    assert initiator.address_part_due
    peer = responder.peer.with_address_part(initiator.address_part())
    assert peer.signing_key == a.identity.signing.public


@BOTH
def test_a_held_key_is_not_sent_again(xx: bool) -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    keys = {p.identity.signing_key_hash: p.identity.signing.public for p in (a, b)}
    a, b = replace(a, held_key=keys.get), replace(b, held_key=keys.get)
    full = sum(len(raw) for raw in _run(*pair_of(a, b, xx=xx)))
    initiator, responder = pair_of(
        a, b, xx=xx, peer_holds_key=True, signing_key_hash=b.identity.signing_key_hash
    )
    short = sum(len(raw) for raw in _run(initiator, responder))
    assert full - short > 2 * 1952 - 1024
    assert initiator.peer is not None
    assert responder.peer is not None
    assert initiator.peer.signing_key == b.identity.signing.public
    assert responder.peer.signing_key == a.identity.signing.public
    assert initiator.address_part_due == (not xx)
    assert responder.peer.with_address_part(initiator.address_part()).signing_key


def test_a_key_forgotten_after_it_was_said_to_be_held_is_still_held() -> None:
    """The cache of a busy node may drop it before the responder's Hello is here."""
    a, b = params_of(seed=1), params_of(seed=2)
    keys = {b.identity.signing_key_hash: b.identity.signing.public}
    a = replace(a, held_key=keys.get)
    initiator, responder = pair_of(a, b, signing_key_hash=b.identity.signing_key_hash)
    keys.clear()
    shake(initiator, responder)
    assert initiator.peer is not None
    assert initiator.peer.signing_key == b.identity.signing.public


def test_a_held_key_is_not_taken_for_that_of_another_node() -> None:
    """Any node will do, and another one answers, without its key."""
    a, b, c = (params_of(seed=n) for n in (1, 2, 3))
    keys = {b.identity.signing_key_hash: b.identity.signing.public}
    initiator = Handshake.initiate(
        replace(a, held_key=keys.get), expected=None, kem_key=None, observed="", now=NOW,
        signing_key_hash=b.identity.signing_key_hash,
    )  # fmt: skip
    responder = Handshake.respond(c, observed="", now=NOW)
    responder.receive(write(initiator), NOW)
    assert reason(lambda: initiator.receive(write(responder), NOW)) == "signing key"


def test_only_a_first_message_says_that_a_key_is_held() -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    a = replace(a, held_key={b.identity.signing_key_hash: b.identity.signing.public}.get)
    initiator, responder = pair_of(a, b, xx=True, signing_key_hash=b.identity.signing_key_hash)
    said = []
    take, responder_take = initiator._take, responder._take

    def note(kind: Kind, payload: Payload, binding: bytes) -> HandshakeMessage:
        said.append((kind, payload.holds_key))
        return (responder_take if kind in (Kind.XX_1, Kind.XX_3) else take)(kind, payload, binding)

    initiator._take = responder._take = note  # type: ignore[method-assign]
    shake(initiator, responder)
    assert said == [(Kind.XX_1, True), (Kind.XX_2, False), (Kind.XX_3, False), (Kind.XX_4, False)]


@BOTH
def test_who_asks_for_a_key_that_it_was_sent_is_refused(xx: bool) -> None:
    """Else it could have it sent over and over."""
    initiator, responder = upto(Kind.XX_4 if xx else Kind.IK_2, params_of(seed=1), params_of(seed=2))[::-1]
    assert reason(lambda: initiator.receive(write(responder, None, WireCode.NEED_KEY), NOW)) == "need key"


def test_bytes_of_first_flights_with_and_without_the_keys() -> None:
    """Suite 1, a FIND_NODE and its NODES with 20 contacts and 2 keys; padding adds 0 to 255."""
    question, answer = bytes(3540 + 37 - 2), bytes(3540 + 5294 - 1)

    def flights(held: bool) -> list[int]:
        a, b = params_of(seed=1, padding_spread=1), params_of(seed=2, padding_spread=1)
        hashed = b.identity.signing_key_hash
        if held:
            keys = {p.identity.signing_key_hash: p.identity.signing.public for p in (a, b)}
            a, b = replace(a, held_key=keys.get), replace(b, held_key=keys.get)
        initiator, responder = pair_of(a, b, peer_holds_key=held, signing_key_hash=hashed)
        first = write(initiator, question)
        responder.receive(first, NOW)
        second = write(responder, answer)
        initiator.receive(second, NOW)
        return [len(first), len(second)]

    assert flights(held=False) == [9252, 13241]
    assert flights(held=True) == [7298, 11287]


def _run(initiator: Handshake, responder: Handshake) -> list[bytes]:
    wire = []
    writer, reader = initiator, responder
    while not (initiator.done and responder.done):
        wire.append(write(writer))
        assert reader.receive(wire[-1], NOW) is not None
        writer, reader = reader, writer
    return wire


@BOTH
def test_a_responder_must_not_withhold_its_key(xx: bool) -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2), xx=xx)
    responder.receive(write(initiator), NOW)
    responder._peer_holds_key = True
    assert reason(lambda: initiator.receive(write(responder), NOW)) == "signing key"


@pytest.mark.parametrize("kind", [Kind.IK_1, Kind.IK_2, Kind.XX_2, Kind.XX_3])
def test_a_hello_with_somebody_elses_signing_key_is_refused(kind: Kind) -> None:
    writer, reader = upto(kind, params_of(seed=1), params_of(seed=2))
    other = params_of(seed=3).identity.signing.public
    hello = writer._hello()
    bad = type(hello)(
        hello.signing_key_hash,
        other,
        hello.born,
        hello.nonce,
        hello.digest,
        hello.version_min,
        hello.version_max,
        hello.features,
        hello.time,
    )
    part = AddressPart((), "") if kind in (Kind.IK_2, Kind.XX_3) else None
    assert reason(lambda: reader.receive(forge(writer, Payload(bad, part)), NOW)) == "signing key"
