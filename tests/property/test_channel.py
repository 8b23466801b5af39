"""Properties of the channel: any bytes, cut anywhere, are accepted or end it with a documented error."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pqdht.channel.framing import Kind
from pqdht.channel.handshake import Handshake, HandshakeMessage
from pqdht.channel.hello import Payload, StrikeRegister, decode_address_part, decode_payload
from pqdht.channel.session import REKEY_EVERY, Frame, FrameKind, Session
from pqdht.constants import MAX_MESSAGE
from pqdht.errors import (
    BadPuzzle,
    DecodeError,
    HandshakeFailed,
    PeerIdentityMismatch,
    SessionFailed,
    WireCode,
)
from pqdht.wire.codec import encode
from tests.unit.channel.peers import NOW, pair_of, params_of, sessions, shake, write

REFUSALS = (HandshakeFailed, PeerIdentityMismatch, BadPuzzle, DecodeError)
"""What `Handshake.receive` documents."""

KINDS = st.sampled_from([k for k in Kind if k <= Kind.XX_4])
A, B = params_of(seed=1), params_of(seed=2)


def upto(kind: Kind) -> tuple[Handshake, Handshake]:
    """(writer, reader) where the next message is of this kind; fresh every time."""
    a, b = (_fresh(p) for p in (A, B))
    writer, reader = pair_of(a, b, xx=kind.name.startswith("XX"))
    while writer._next_kind() != kind:
        reader.receive(write(writer), NOW)
        writer, reader = reader, writer
    return writer, reader


def _fresh(params: Any) -> Any:
    return replace(params, strikes=StrikeRegister())


def feed(reader: Handshake, data: bytes, cuts: list[int]) -> HandshakeMessage | type[Exception] | None:
    """What comes of `data` cut at these places: the one message, the error, or nothing yet."""
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    message = None
    for start, end in itertools.pairwise(edges):
        try:
            got = reader.receive(data[start:end], NOW)
        except REFUSALS as refusal:
            with pytest.raises(HandshakeFailed, match="has failed"):
                reader.receive(b"", NOW)
            return type(refusal)
        assert got is None or message is None
        message = got or message
    return message


@given(KINDS, st.lists(st.integers(0, 40_000), max_size=12))
@settings(max_examples=60)
def test_handshakes_do_not_mind_where_they_are_cut(kind: Kind, cuts: list[int]) -> None:
    writer, reader = upto(kind)
    message = feed(reader, write(writer), cuts)
    assert isinstance(message, HandshakeMessage)
    assert message.code == WireCode.OK


@given(KINDS, st.binary(max_size=300), st.lists(st.integers(0, 400), max_size=4))
@example(Kind.IK_1, bytes(21), [])
def test_no_handshake_state_accepts_garbage(kind: Kind, data: bytes, cuts: list[int]) -> None:
    _, reader = upto(kind)
    outcome = feed(reader, data, cuts)
    assert outcome is None or outcome is HandshakeFailed
    if len(data) >= 21 + 16 and outcome is None:  # a header that happens to be right, once in 2^20
        assert not reader.done


@given(KINDS, st.integers(0, 8 * 6000), st.lists(st.integers(0, 6000), max_size=2))
@settings(max_examples=150)
def test_one_flipped_bit_ends_the_handshake(kind: Kind, bit: int, cuts: list[int]) -> None:
    """Anywhere in the frame, whatever follows it: never a message, never `done`."""
    writer, reader = upto(kind)
    raw = bytearray(write(writer))
    bit %= 8 * len(raw)
    raw[bit // 8] ^= 1 << bit % 8
    outcome = feed(reader, bytes(raw) + bytes(1024), cuts)  # the header may now ask for more
    assert outcome is None or outcome is HandshakeFailed
    assert not reader.done


@given(KINDS, st.integers(0, 8 * 6000))
@settings(max_examples=150)
def test_one_flipped_bit_ends_it_even_under_a_right_mac1(kind: Kind, bit: int) -> None:
    """A man in the middle who knows the frame's secret changes the Noise message itself."""
    writer, reader = upto(kind)
    assert writer._key is not None
    message = bytearray(writer._key.open(write(writer)))
    bit %= 8 * len(message)
    message[bit // 8] ^= 1 << bit % 8
    forged = writer._key.seal(kind, bytes(message), 0, bytes(16))

    def go_on() -> None:
        reader.receive(forged, NOW)
        writer.receive(write(reader), NOW)  # only pqXX's first message, without a key, comes this far

    with pytest.raises(REFUSALS):
        go_on()
    assert not writer.done or kind in (Kind.IK_2, Kind.XX_4)
    assert not reader.done or kind == Kind.XX_3


@given(KINDS, KINDS)
def test_messages_out_of_order_or_of_another_handshake_are_refused(state: Kind, sent: Kind) -> None:
    """Any message recorded in another run between the same two nodes."""
    recorded = write(upto(sent)[0])
    _, reader = upto(state)
    outcome = feed(reader, recorded, [])
    first = (Kind.IK_1, Kind.XX_1)
    if state in first and sent in first:
        assert isinstance(outcome, HandshakeMessage)  # a first flight may come from anybody, again and again
    else:
        assert outcome is None or outcome in REFUSALS
        assert not reader.done


@pytest.mark.parametrize("kind", [k for k in Kind if k <= Kind.XX_4])
def test_a_message_sent_back_to_its_writer_is_refused(kind: Kind) -> None:
    writer, _ = upto(kind)
    raw = write(writer)
    if writer.done:
        with pytest.raises(SessionFailed):
            writer.session("off").receive(raw + bytes(70_000))
    else:
        assert feed(writer, raw, []) is HandshakeFailed


@given(KINDS, st.integers(0, 6000))
def test_a_truncated_message_is_never_taken(kind: Kind, length: int) -> None:
    writer, reader = upto(kind)
    raw = write(writer)
    assert feed(reader, raw[: length % len(raw)], []) is None
    assert not reader.done


def fields() -> st.SearchStrategy[Any]:
    """Anything MessagePack can say where a payload is expected."""
    leaves = (
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.binary(max_size=40)
        | st.text(max_size=20)
    )
    return st.recursive(leaves, lambda inner: st.lists(inner, max_size=10), max_leaves=20)


@given(KINDS, fields() | st.binary(max_size=60))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_an_authentic_message_with_any_payload(kind: Kind, content: Any) -> None:
    """A peer that follows Noise to the letter and puts anything into the payload."""
    writer, reader = upto(kind)
    assert writer._noise is not None
    assert writer._key is not None
    writer._noise.begin_write()
    payload = content if isinstance(content, bytes) else encode(content)
    sealed = writer._noise.finish_write(payload)
    outcome = feed(reader, writer._key.seal(kind, sealed, 0, bytes(16)), [])
    assert isinstance(outcome, HandshakeMessage) or outcome in REFUSALS


@given(st.binary(max_size=200))
@example(b"\x95\xc0\xc0\xc0\x00\xc2")
def test_payload_parsers(data: bytes) -> None:
    for parse in (decode_payload, decode_address_part):
        try:
            value = parse(data)
        except DecodeError:
            continue
        assert parse(encode(value)) == value
    if data == b"\x95\xc0\xc0\xc0\x00\xc2":
        assert decode_payload(data) == Payload()


# --- sessions ----------------------------------------------------------------------------------

CONTENTS = st.lists(st.binary(max_size=600), min_size=1, max_size=6)
PADDINGS: Any = st.sampled_from(["off", "256"])


def receive(session: Session, data: bytes, cuts: list[int]) -> tuple[list[Frame], bool]:
    """(frames, whether it failed) of `data` cut at these places."""
    edges = sorted({0, len(data), *(c % (len(data) + 1) for c in cuts)})
    frames: list[Frame] = []
    for start, end in itertools.pairwise(edges):
        try:
            frames += session.receive(data[start:end])
        except SessionFailed:
            with pytest.raises(SessionFailed):
                session.send(FrameKind.KEEPALIVE, b"")
            return frames, True
    return frames, False


@given(CONTENTS, PADDINGS, st.lists(st.integers(0, 5000), max_size=8))
def test_frames_arrive_whole_and_in_order_however_cut(
    contents: list[bytes], padding: Any, cuts: list[int]
) -> None:
    one, two = sessions(padding)
    wire = b"".join(one.send(FrameKind.ENVELOPE, c) for c in contents)
    assert receive(two, wire, cuts) == ([(FrameKind.ENVELOPE, c) for c in contents], False)


@given(CONTENTS, st.integers(0, 8 * 5000), st.lists(st.integers(0, 5000), max_size=4))
def test_a_flipped_bit_ends_a_session_with_nothing_wrong_delivered(
    contents: list[bytes], bit: int, cuts: list[int]
) -> None:
    one, two = sessions()
    wire = bytearray(b"".join(one.send(FrameKind.ENVELOPE, c) for c in contents))
    bit %= 8 * len(wire)
    wire[bit // 8] ^= 1 << bit % 8
    frames, failed = receive(two, bytes(wire) + bytes(70_000), cuts)
    assert failed
    assert len(frames) < len(contents)
    assert [f.content for f in frames] == contents[: len(frames)]


@given(st.binary(max_size=400), st.lists(st.integers(0, 400), max_size=4))
def test_a_session_delivers_nothing_from_garbage(data: bytes, cuts: list[int]) -> None:
    _, two = sessions()
    frames, _ = receive(two, data, cuts)
    assert frames == []


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=12), st.integers(0, 30))
@settings(max_examples=40)
def test_rekeys_cross(turns: list[tuple[bool, int]], before: int) -> None:
    """Both directions near their re-key, in any interleaving, with frames held back."""
    one, two = sessions()
    for cipher in (one._send, one._receive, two._send, two._receive):
        cipher.n = REKEY_EVERY - before
    under_way: dict[Session, list[tuple[bytes, bytes]]] = {one: [], two: []}
    for is_one, n in turns:
        side, other = (one, two) if is_one else (two, one)
        for i in range(n):
            content = b"%d" % i
            under_way[other].append((side.send(FrameKind.ENVELOPE, content), content))
        for wire, content in under_way[side]:
            assert side.receive(wire) == [(FrameKind.ENVELOPE, content)]
        under_way[side].clear()
    for side, frames in under_way.items():
        assert [f.content for f in side.receive(b"".join(w for w, _ in frames))] == [c for _, c in frames]


@given(st.integers(0, MAX_MESSAGE), st.sampled_from(["off", "256", "constant"]))
@settings(max_examples=30)
@example(MAX_MESSAGE, "constant")
def test_every_length_is_carried(length: int, padding: Any) -> None:
    one, two = sessions(padding)
    assert two.receive(one.send(FrameKind.ENVELOPE, bytes(length))) == [(FrameKind.ENVELOPE, bytes(length))]


@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(-15, 15), st.integers(0, 4)), max_size=60),
    st.integers(1, 6),
)
def test_no_first_flight_is_served_twice(calls: list[tuple[int, int, int]], capacity: int) -> None:
    """Any order of senders, wrong clocks and time steps, at any capacity."""
    strikes, now, served = StrikeRegister(window_ms=10, capacity=capacity), NOW, set()
    for name, skew, step in calls:
        now += step - 1
        sent = NOW + skew
        key = b"%d/%d" % (name, skew)
        if strikes.strike(key, sent, now) == WireCode.OK:
            assert key not in served
            assert abs(now - sent) <= 10
            served.add(key)
        assert len(strikes) <= capacity


def test_the_nodes_of_these_tests_do_shake_hands() -> None:
    assert len(shake(*pair_of(_fresh(A), _fresh(B)))) == 2
