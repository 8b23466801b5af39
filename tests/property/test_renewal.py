"""Renewal of a session under any interleaving: nothing lost, nothing reordered, nothing wrong taken."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pqdht.channel.session import REKEY_EVERY, FrameKind, Session
from pqdht.constants import HOUR_MS
from pqdht.errors import SessionFailed
from tests.unit.channel.peers import NOW, sessions

LATER = NOW + HOUR_MS


class Side:
    """One end with its wire to the other: bytes wait there until somebody carries them."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.wire = bytearray()
        self.sent: list[bytes] = []
        self.got: list[bytes] = []

    def say(self) -> None:
        content = b"%d" % len(self.sent)
        self.sent.append(content)
        self.wire += self.session.send(FrameKind.ENVELOPE, content)

    def renew(self) -> None:
        if self.session.may_renew:
            self.wire += self.session.renew()

    def take(self, data: bytes) -> None:
        while frames := self.session.receive(data):
            data = b""
            for frame in frames:
                if frame.kind == FrameKind.RENEW:
                    self.wire += self.session.on_renewal(frame.content, LATER)
                else:
                    self.got.append(frame.content)


def carry(source: Side, to: Side, n: int) -> None:
    """The next `n` bytes under way."""
    data = bytes(source.wire[:n])
    del source.wire[:n]
    to.take(data)


def settle(one: Side, two: Side) -> None:
    while one.wire or two.wire:
        carry(one, two, len(one.wire))
        carry(two, one, len(two.wire))


ACTIONS = st.one_of(
    st.tuples(st.sampled_from(["say 1", "say 2", "renew"]), st.just(0)),
    st.tuples(st.sampled_from(["carry 1", "carry 2"]), st.integers(1, 4000)),
)


def act(one: Side, two: Side, action: str, n: int) -> None:
    match action:
        case "say 1":
            one.say()
        case "say 2":
            two.say()
        case "renew":
            one.renew()
        case "carry 1":
            carry(one, two, n)
        case _:
            carry(two, one, n)


@given(st.lists(ACTIONS, max_size=60), st.sampled_from(["off", "256"]), st.integers(0, 3))
@settings(max_examples=150)
def test_nothing_is_lost_or_reordered_whatever_crosses(
    actions: list[tuple[str, int]], padding: str, before_rekey: int
) -> None:
    """Messages of both directions, renewals begun at any time, both near a re-key, bytes cut anywhere."""
    one, two = map(Side, sessions(padding))  # type: ignore[arg-type]
    for cipher in (one.session._send, two.session._receive):
        cipher.n = REKEY_EVERY - before_rekey
    for action, n in actions:
        act(one, two, action, n)
    settle(one, two)
    assert two.got == one.sent
    assert one.got == two.sent
    assert one.session.renewed == two.session.renewed
    assert one.session.may_renew
    one.say()
    two.say()
    settle(one, two)
    assert (two.got, one.got) == (one.sent, two.sent)


@given(st.integers(0, 3), st.integers(0, 8 * 9000), st.lists(st.integers(0, 9000), max_size=4))
@settings(max_examples=150)
def test_one_flipped_bit_in_any_frame_of_a_renewal_ends_the_session(
    which: int, bit: int, cuts: list[int]
) -> None:
    """ASK, ANSWER, SWITCH, and the first frame under the new keys."""
    one, two = map(Side, sessions())
    one.renew()
    writer, reader = one, two
    for _ in range(min(which, 2)):
        carry(writer, reader, len(writer.wire))
        writer, reader = reader, writer
    if which == 3:
        carry(one, two, len(one.wire))
        one.say()
    writer, reader = (one, two) if which != 1 else (two, one)
    raw = bytearray(writer.wire)
    bit %= 8 * len(raw)
    raw[bit // 8] ^= 1 << bit % 8
    raw += bytes(70_000)  # the length may now ask for more
    edges = sorted({0, len(raw), *cuts})
    renewed = reader.session.renewed

    def read() -> None:
        for start, end in itertools.pairwise(edges):
            reader.take(bytes(raw[start:end]))

    with pytest.raises(SessionFailed):
        read()
    assert reader.got == []
    assert reader.session.renewed == renewed
    with pytest.raises(SessionFailed):
        reader.session.send(FrameKind.KEEPALIVE, b"")


@given(st.booleans(), st.booleans(), st.binary(max_size=60) | st.integers(0, 5).map(lambda n: bytes([n])))
@example(False, False, b"\x03")
def test_any_content_of_a_renewal_frame_ends_the_session_or_is_right(
    to_initiator: bool, begun: bool, content: bytes
) -> None:
    """An authentic peer that puts anything into a RENEW frame."""
    one, two = map(Side, sessions())
    if begun:
        one.renew()
        if not to_initiator:
            carry(one, two, len(one.wire))
    writer, reader = (two, one) if to_initiator else (one, two)
    wire = writer.session.send(FrameKind.RENEW, content)
    if begun and not to_initiator and content == b"\x03":
        reader.take(wire)  # the right answer, though the writer never read ours
        assert reader.session.renewed == 1
        return
    with pytest.raises(SessionFailed):
        reader.take(wire)


@given(st.lists(ACTIONS, max_size=30))
@settings(max_examples=50)
def test_an_old_peer_ignores_it_and_the_session_goes_on(actions: list[tuple[str, int]]) -> None:
    one, two = map(Side, sessions())
    two.session._renewal = None

    def take(data: bytes) -> None:
        two.got += [f.content for f in two.session.receive(data) if f.kind != FrameKind.RENEW]

    two.take = take  # type: ignore[method-assign]
    for action, n in actions:
        act(one, two, action, n)
    settle(one, two)
    assert (two.got, one.got) == (one.sent, two.sent)
    assert one.session.renewed == 0
