"""New keys inside a session: who begins, where each direction switches, and every frame out of place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pqdht.channel.noise import PQ_IK, HandshakeState
from pqdht.channel.renewal import Renewal, Step
from pqdht.channel.session import REKEY_EVERY, RENEW_PATIENCE_MS, Frame, FrameKind, Session
from pqdht.constants import HANDSHAKE_FORMAT, HOUR_MS
from pqdht.crypto.api import Provider, make_suite
from pqdht.crypto.labels import NOISE_PROLOGUE, RENEW_PROLOGUE
from pqdht.errors import SessionFailed
from pqdht.testing.fake import fake_suite
from tests.unit.channel.peers import NOW, key_pair, pair_of, params_of, sessions, shake

KEM = fake_suite(1, 7).kem
US, THEM, OTHER = (key_pair(KEM, n) for n in (1, 2, 3))
LATER = NOW + HOUR_MS


def take(side: Session, wire: bytes, now: int = LATER) -> tuple[list[Frame], bytes]:
    """(frames, what to write at once): what a connection does with bytes of its peer."""
    frames, out, data = [], b"", wire
    while found := side.receive(data):
        frames += found
        data = b""
        if found[-1].kind == FrameKind.RENEW:
            out += side.on_renewal(found[-1].content, now)
    return frames, out


def renew(one: Session, two: Session) -> None:
    """One renewal begun by `one` with nothing else under way."""
    _, answer = take(two, one.renew())
    _, switch = take(one, answer)
    assert take(two, switch)[1] == b""


def ends(rs: bytes | None = None, tags: tuple[bytes, bytes] = (b"t" * 32,) * 2) -> tuple[Renewal, Renewal]:
    """(initiator's, responder's) side; `rs`: another key than ours at the responder."""
    one = Renewal(KEM, US, THEM.public, initiator=True, network_tag=tags[0], handshake_hash=b"h" * 32)
    two = Renewal(KEM, THEM, rs or US.public, initiator=False, network_tag=tags[1], handshake_hash=b"h" * 32)
    return one, two


def test_numbers_of_the_steps_and_sizes_of_the_frames() -> None:
    assert [(s.name, int(s)) for s in Step] == [("ASK", 1), ("ANSWER", 2), ("SWITCH", 3)]
    one, two = ends()
    ask = one.begin()
    answer = two.take(ask).reply
    assert answer is not None
    switch = one.take(answer).reply
    assert switch is not None
    assert [len(ask), len(answer), len(switch)] == [1 + 3584, 1 + 2272, 1]


@pytest.mark.parametrize("suite", [1, 2, 3])
@pytest.mark.parametrize("xx", [False, True])
def test_with_real_cryptography(provider: Provider, suite: int, xx: bool) -> None:
    a, b = (params_of(make_suite(suite, provider)) for _ in range(2))
    initiator, responder = pair_of(a, b, xx=xx)
    shake(initiator, responder)
    one, two = initiator.session("256"), responder.session("256")
    bound = one.handshake_hash
    for n in range(3):
        renew(one, two)
        assert (one.renewed, two.renewed) == (n + 1, n + 1)
        assert two.receive(one.send(FrameKind.ENVELOPE, b"there")) == [(FrameKind.ENVELOPE, b"there")]
        assert one.receive(two.send(FrameKind.ENVELOPE, b"back")) == [(FrameKind.ENVELOPE, b"back")]
    assert one.handshake_hash == two.handshake_hash == bound


def test_each_direction_switches_just_after_its_own_marker() -> None:
    """Frames of both directions sent before, between and after the markers, all under way at once."""
    one, two = sessions()
    old = {one._send, one._receive, two._send, two._receive}
    to_two = one.send(FrameKind.ENVELOPE, b"a0") + one.renew() + one.send(FrameKind.ENVELOPE, b"a1")
    to_one = two.send(FrameKind.ENVELOPE, b"b0")
    frames, answer = take(two, to_two)
    assert [f.content for f in frames if f.kind == 1] == [b"a0", b"a1"]
    assert two._send not in old  # it writes with new keys, and still reads with the old
    assert two._receive in old
    to_one += answer + two.send(FrameKind.ENVELOPE, b"b1")
    late = one.send(FrameKind.ENVELOPE, b"a2")
    frames, switch = take(one, to_one)
    assert [f.content for f in frames if f.kind == 1] == [b"b0", b"b1"]
    assert one._send not in old
    frames, nothing = take(two, late + switch + one.send(FrameKind.ENVELOPE, b"a3"))
    assert [f.content for f in frames if f.kind == 1] == [b"a2", b"a3"]
    assert nothing == b""
    assert not {one._send, one._receive, two._send, two._receive} & old
    assert (one.renewed, two.renewed) == (1, 1)


def test_new_keys_count_and_re_key_from_zero() -> None:
    one, two = sessions()
    for cipher in (one._send, two._receive):
        cipher.n = REKEY_EVERY - 1
    renew(one, two)
    assert [c.n for c in (one._send, one._receive, two._send, two._receive)] == [0, 0, 0, 0]
    assert take(two, one.send(FrameKind.ENVELOPE, b"x"))[0] == [(1, b"x")]


def test_old_keys_open_nothing_that_comes_after() -> None:
    """And the other way round: neither side keeps them."""
    one, two = sessions()
    thief, mask = two._receive, two._receive_mask
    renew(one, two)
    after = one.send(FrameKind.ENVELOPE, b"after the theft")
    spy = Session(
        thief, thief, send_mask=bytes(32), receive_mask=bytes(32), handshake_hash=bytes(32),
        padding="off", opened_at=NOW,
    )  # fmt: skip
    spy._receive_mask = mask
    with pytest.raises(SessionFailed):
        spy.receive(after + bytes(70_000))
    assert take(two, after)[0] == [(1, b"after the theft")]
    assert one._renewal is not None
    assert one._renewal._noise is None
    assert two._renewal is not None
    assert two._renewal._pending is None


def test_renewal_is_due_once_and_again_an_hour_later() -> None:
    one, two = sessions()
    assert not one.needs_renewal(LATER - 1)
    assert one.needs_renewal(LATER)
    renew(one, two)
    for side in (one, two):
        assert not side.needs_renewal(LATER + HOUR_MS - 1)
        assert side.needs_renewal(LATER + HOUR_MS)
        assert not side.is_outworn(LATER + HOUR_MS)


def test_a_peer_that_does_not_help_is_given_up_after_a_while() -> None:
    """Counted from when it was noticed: a session that slept has its chance when it wakes."""
    one, two = sessions()
    sleepy = LATER + 3 * RENEW_PATIENCE_MS
    for side in (one, two):
        assert not side.is_outworn(sleepy)
        assert not side.is_outworn(sleepy + RENEW_PATIENCE_MS - 1)
        assert side.is_outworn(sleepy + RENEW_PATIENCE_MS)
    take(one, take(two, one.renew())[1])
    assert not one.is_outworn(sleepy + RENEW_PATIENCE_MS)  # it came after all


def test_only_the_initiator_begins_and_only_one_at_a_time() -> None:
    one, two = sessions()
    assert (one.may_renew, two.may_renew) == (True, False)
    with pytest.raises(ValueError, match="initiator"):
        two.renew()
    first = one.renew()
    assert not one.may_renew
    with pytest.raises(ValueError, match="at a time"):
        one.renew()
    take(one, take(two, first)[1])
    assert one.may_renew


def test_frames_after_a_marker_wait_for_the_new_keys() -> None:
    """A caller that forgets `on_renewal` reads nothing wrong: it reads nothing at all."""
    one, two = sessions()
    wire = one.renew() + one.send(FrameKind.ENVELOPE, b"next")
    (ask,) = two.receive(wire)
    assert two.receive(b"") == []
    two.on_renewal(ask.content, LATER)
    assert two.receive(b"") == [(1, b"next")]
    with pytest.raises(ValueError, match="follows"):
        two.on_renewal(ask.content, LATER)


def test_a_session_without_renewal_hands_the_frame_on() -> None:
    """As versions before did, which ignored the kind: the session goes on under its old keys."""
    one, two = sessions()
    two._renewal = None
    wire = one.renew() + one.send(FrameKind.ENVELOPE, b"next")
    assert [f.kind for f in two.receive(wire)] == [FrameKind.RENEW, FrameKind.ENVELOPE]
    assert one.receive(two.send(FrameKind.ENVELOPE, b"back")) == [(1, b"back")]
    with pytest.raises(ValueError, match="cannot be renewed"):
        two.renew()


# --- what a peer may do wrong --------------------------------------------------------------------


def test_both_static_keys_stay_the_same() -> None:
    """Whoever has the session's keys but not the KEM keys it was made with gets no new ones."""
    one, two = ends(rs=OTHER.public)
    with pytest.raises(SessionFailed, match="another KEM key"):
        two.take(one.begin())
    liar = Renewal(KEM, OTHER, US.public, initiator=False, network_tag=b"t" * 32, handshake_hash=b"h" * 32)
    one, _ = ends()
    with pytest.raises(SessionFailed, match="authentic"):
        liar.take(one.begin())


def test_a_renewal_belongs_to_one_session_and_one_place_in_it() -> None:
    one, two = ends()
    stranger = Renewal(KEM, THEM, US.public, initiator=False, network_tag=b"t" * 32, handshake_hash=b"i" * 32)
    ask = one.begin()
    with pytest.raises(SessionFailed, match="authentic"):
        stranger.take(ask)
    answer = two.take(ask).reply
    assert answer is not None
    one.take(answer)
    two.take(b"\3")
    with pytest.raises(SessionFailed, match="authentic"):
        two.take(ask)  # the same again: bound to a hash that is no longer the last
    one, two = ends(tags=(b"t" * 32, b"u" * 32))
    with pytest.raises(SessionFailed, match="authentic"):
        two.take(one.begin())


def test_the_prologue_is_its_own() -> None:
    """No first flight of an ordinary handshake can serve as a renewal, nor the reverse."""
    assert not RENEW_PROLOGUE.startswith(NOISE_PROLOGUE)
    one, two = ends()
    noise = one._handshake()
    expected = HandshakeState(
        PQ_IK, KEM, initiator=True, s=US, rs=THEM.public,
        prologue=b"pqdht/1/renew-prologue\0" + b"t" * 32 + bytes([HANDSHAKE_FORMAT]) + b"h" * 32,
    )  # fmt: skip
    assert noise.h == expected.h
    assert two._handshake().h == expected.h


def _asked(two: Renewal, one: Renewal) -> None:
    two.take(one.begin())


OUT_OF_PLACE: dict[str, tuple[bool, Callable[[Renewal, Renewal], object], Callable[[], bytes]]] = {
    "nothing at all": (False, lambda two, one: None, lambda: b""),
    "an unknown step": (False, lambda two, one: None, lambda: b"\x04"),
    "an answer to nothing": (True, lambda one, two: None, lambda: b"\x02" + bytes(2272)),
    "a switch to nothing": (False, lambda two, one: None, lambda: b"\x03"),
    "asked by the responder": (True, lambda one, two: None, lambda: b"\x01" + bytes(3584)),
    "a switch by the responder": (True, lambda one, two: one.begin(), lambda: b"\x03"),
    "an answer by the initiator": (False, _asked, lambda: b"\x02" + bytes(2272)),
    "asked twice": (False, _asked, lambda: ends()[0].begin()),
    "a switch with content": (False, _asked, lambda: b"\x03\x00"),
    "an empty question": (False, lambda two, one: None, lambda: b"\x01"),
    "a short question": (False, lambda two, one: None, lambda: ends()[0].begin()[:-1]),
    "a short answer": (True, lambda one, two: one.begin(), lambda: b"\x02" + bytes(100)),
    "an answer of zeros": (True, lambda one, two: one.begin(), lambda: b"\x02" + bytes(2272)),
}


@pytest.mark.parametrize("name", OUT_OF_PLACE)
def test_a_frame_out_of_place_ends_the_session(name: str) -> None:
    is_initiator, before, content = OUT_OF_PLACE[name]
    one, two = ends()
    reader, other = (one, two) if is_initiator else (two, one)
    before(reader, other)
    with pytest.raises(SessionFailed):
        reader.take(content())


def test_a_payload_is_refused() -> None:
    one, two = ends()
    noise = one._handshake()
    noise.begin_write()
    with pytest.raises(SessionFailed, match="payload"):
        two.take(b"\x01" + noise.finish_write(b"x"))


def test_a_failed_renewal_ends_the_whole_session() -> None:
    one, two = sessions()
    (frame,) = two.receive(one.send(FrameKind.RENEW, b"\x09"))
    with pytest.raises(SessionFailed):
        two.on_renewal(frame.content, LATER)
    for call in (lambda: two.receive(b""), lambda: two.send(FrameKind.KEEPALIVE, b"")):
        with pytest.raises(SessionFailed, match="has failed"):
            call()
    assert not two.may_renew
