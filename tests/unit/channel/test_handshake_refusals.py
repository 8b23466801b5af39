"""Every reason for which a handshake ends, and what it does to the byte stream."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pqdht.channel.framing import Kind
from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.channel.hello import AddressPart, Payload
from pqdht.channel.noise import PQ_IK, PQ_XX
from pqdht.channel.session import MAX_FRAME, FrameKind
from pqdht.constants import DAY_MS
from pqdht.errors import (
    BadPuzzle,
    DecodeError,
    HandshakeFailed,
    PeerIdentityMismatch,
    RemoteError,
)
from pqdht.identity.contact import ContactVerifier
from pqdht.ids import NodeId
from pqdht.testing.fake import fake_suite
from pqdht.wire.codec import encode
from tests.unit.channel.peers import (
    EASY,
    NOW,
    forge,
    identity_of,
    pair_of,
    params_of,
    reason,
    shake,
    upto,
    write,
)

BOTH = pytest.mark.parametrize("xx", [False, True], ids=["pqIK", "pqXX"])


# --- refusals ----------------------------------------------------------------------------------


def failing_at(kind: Kind, a: HandshakeParams, b: HandshakeParams, now: int = NOW) -> RemoteError:
    """The error of the reader of this message."""
    writer, reader = upto(kind, a, b)
    raw = write(writer)
    with pytest.raises(RemoteError) as failure:
        reader.receive(raw, now)
    return failure.value


HELLOS = pytest.mark.parametrize("kind", [Kind.IK_1, Kind.IK_2, Kind.XX_2, Kind.XX_3])


def test_another_network() -> None:
    a = params_of(seed=1)
    b = params_of(seed=2, name="elsewhere")
    assert failing_at(Kind.IK_1, a, b).fields["reason"] == "authentication"
    assert failing_at(Kind.XX_1, a, b).fields["reason"] in ("header", "mac1")


@pytest.mark.parametrize("xx", [False, True])
def test_another_suite(xx: bool) -> None:
    a, b = params_of(fake_suite(1, 1)), params_of(fake_suite(2, 2))
    if xx:
        assert failing_at(Kind.XX_1, a, b).fields["reason"] in ("header", "mac1")
    else:
        with pytest.raises(DecodeError):
            pair_of(a, b)


@HELLOS
def test_no_common_version(kind: Kind) -> None:
    a, b = params_of(seed=1, versions=(1, 2)), params_of(seed=2, versions=(3, 4))
    if kind == Kind.XX_3 or kind == Kind.IK_2:  # there the initiator would have noticed first
        writer, reader = upto(kind, params_of(seed=1), params_of(seed=2))
        writer._params = replace(writer._params, versions=(3, 4))
        assert reason(lambda: reader.receive(write(writer), NOW)) == "version"
    else:
        assert failing_at(kind, a, b).fields["reason"] == "version"


@HELLOS
def test_a_puzzle_that_is_too_easy(kind: Kind) -> None:
    hard = replace(EASY, puzzle_schedule=((0, 200),))
    a, b = params_of(seed=1), params_of(seed=2)
    judge = a if kind in (Kind.IK_2, Kind.XX_2) else b
    strict = replace(judge, verifier=ContactVerifier(judge.suite, hard, judge.network_tag))
    a, b = (strict, b) if judge is a else (a, strict)
    assert isinstance(failing_at(kind, a, b), BadPuzzle)


@HELLOS
def test_a_false_puzzle_digest(kind: Kind) -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    liar = b if kind in (Kind.IK_2, Kind.XX_2) else a
    identity = replace(liar.identity, digest=bytes(32))
    node_id = liar.verifier.claimed_id(identity.contact())
    false = replace(liar, identity=replace(identity, node_id=node_id))
    a, b = (a, false) if liar is b else (false, b)
    error = failing_at(kind, a, b)
    assert isinstance(error, BadPuzzle)
    assert "false" in str(error) or "match" in str(error)


@HELLOS
@pytest.mark.parametrize("days", [38, -2])
def test_an_identity_too_old_or_from_the_future(kind: Kind, days: int) -> None:
    error = failing_at(kind, params_of(seed=1), params_of(seed=2), NOW + days * DAY_MS)
    assert isinstance(error, BadPuzzle)


def test_another_node_than_was_meant() -> None:
    a, b, other = (params_of(seed=n) for n in (1, 2, 3))
    initiator = Handshake.initiate(a, expected=other.identity.node_id, kem_key=None, observed="", now=NOW)
    responder = Handshake.respond(b, observed="", now=NOW)
    responder.receive(write(initiator), NOW)
    with pytest.raises(PeerIdentityMismatch) as failure:
        initiator.receive(write(responder), NOW)
    assert failure.value.fields == {
        "expected": other.identity.node_id.hex(),
        "found": b.identity.node_id.hex(),
    }


def test_a_wrong_kem_key_for_the_right_node_gets_no_answer() -> None:
    a, b, other = (params_of(seed=n) for n in (1, 2, 3))
    initiator = Handshake.initiate(
        a,
        expected=b.identity.node_id,
        kem_key=other.identity.kem.public,
        observed="",
        now=NOW,
    )
    responder = Handshake.respond(b, observed="", now=NOW)
    assert reason(lambda: responder.receive(write(initiator), NOW)) == "authentication"


def test_a_key_in_the_middle_is_found_out() -> None:
    """Who made us believe another KEM key of the node can answer, but not with the node's id."""
    a, b, mallory = (params_of(seed=n) for n in (1, 2, 3))
    initiator = Handshake.initiate(
        a, expected=b.identity.node_id, kem_key=mallory.identity.kem.public, observed="", now=NOW
    )
    posing = replace(mallory, identity=replace(mallory.identity, node_id=b.identity.node_id))
    responder = Handshake.respond(posing, observed="", now=NOW)
    responder.receive(write(initiator), NOW)
    with pytest.raises(PeerIdentityMismatch):
        initiator.receive(write(responder), NOW)


@BOTH
def test_a_node_does_not_talk_to_itself(xx: bool) -> None:
    a = params_of(seed=1)
    error = failing_at(Kind.XX_2 if xx else Kind.IK_1, a, a)
    assert error.fields["reason"] == "self"


def test_any_node_will_do_where_none_was_named() -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    initiator = Handshake.initiate(a, expected=None, kem_key=None, observed="", now=NOW)
    shake(initiator, Handshake.respond(b, observed="", now=NOW))
    assert initiator.peer is not None
    assert initiator.peer.node_id == b.identity.node_id


def test_pqik_needs_the_node_id() -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    with pytest.raises(ValueError, match="node id"):
        Handshake.initiate(a, expected=None, kem_key=b.identity.kem.public, observed="", now=NOW)


def test_a_bridge_serves_those_who_know_its_key() -> None:
    a, b = params_of(seed=1), params_of(seed=2, bridge=True)
    shake(*pair_of(a, b))
    assert failing_at(Kind.XX_1, a, b).fields["reason"] in ("header", "mac1")


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.IK_1, Payload()),
        (Kind.IK_1, "hello+addresses"),
        (Kind.IK_2, Payload()),
        (Kind.IK_2, "hello"),
        (Kind.IK_2, Payload(addresses=AddressPart((), ""))),
        (Kind.XX_1, Payload(code=1, early=b"e")),
        (Kind.XX_1, Payload(addresses=AddressPart((), ""))),
        (Kind.XX_2, Payload()),
        (Kind.XX_2, "hello+addresses"),
        (Kind.XX_2, "hello+early"),
        (Kind.XX_3, "hello"),
        (Kind.XX_3, Payload(addresses=AddressPart((), ""))),
        (Kind.XX_4, Payload()),
        (Kind.XX_4, "hello+addresses"),
    ],
)
def test_parts_out_of_place_are_refused(kind: Kind, payload: Payload | str) -> None:
    writer, reader = upto(kind, params_of(seed=1), params_of(seed=2))
    if isinstance(payload, str):
        parts = payload.split("+")
        payload = Payload(
            writer._hello(),
            AddressPart((), "") if "addresses" in parts else None,
            b"early" if "early" in parts else None,
        )
    assert reason(lambda: reader.receive(forge(writer, payload), NOW)) == "payload"


@pytest.mark.parametrize("kind", [k for k in Kind if k <= Kind.XX_4])
def test_a_payload_that_is_none_is_refused(kind: Kind) -> None:
    for raw in (b"", b"\xc1", b"\x90" * 40, encode(Payload()) + b"\x00"):
        writer, reader = upto(kind, params_of(seed=1), params_of(seed=2))
        with pytest.raises(RemoteError) as failure:
            reader.receive(forge(writer, raw), NOW)
        assert isinstance(failure.value, DecodeError | HandshakeFailed)


# --- the stream --------------------------------------------------------------------------------


def test_what_follows_the_last_message_is_for_the_session() -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    responder.receive(write(initiator), NOW)
    last = write(responder)
    push = responder.session("off").send(FrameKind.ENVELOPE, b"pushed")
    assert initiator.receive(last + push[:7], NOW) is not None
    assert initiator.receive(push[7:9], NOW) is None
    session = initiator.session("off")
    assert session.receive(b"") == []
    assert session.receive(push[9:]) == [(FrameKind.ENVELOPE, b"pushed")]


def test_a_flood_before_the_session_began() -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    shake(initiator, responder)
    assert initiator.receive(bytes(MAX_FRAME), NOW) is None
    assert reason(lambda: initiator.receive(b"x", NOW)) == "flood"


@BOTH
def test_speaking_out_of_turn(xx: bool) -> None:
    a, b = params_of(seed=1), params_of(seed=2)
    initiator, responder = pair_of(a, b, xx=xx)
    assert reason(lambda: initiator.receive(b"x", NOW)) == "turn"
    initiator, responder = pair_of(a, b, xx=xx)
    assert reason(lambda: responder.receive(write(initiator) + b"x", NOW)) == "turn"
    initiator, responder = pair_of(a, b, xx=xx)
    responder.receive(write(initiator), NOW)
    assert responder.receive(b"", NOW) is None
    assert reason(lambda: responder.receive(b"x", NOW)) == "turn"


def test_after_a_failure_all_is_refused() -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    good = write(initiator)
    assert reason(lambda: responder.receive(bytes(40), NOW)) in ("header", "mac1")
    assert reason(lambda: responder.receive(good, NOW)) == "failed"
    assert not responder.done
    assert responder.peer is None


@pytest.mark.parametrize("kind", [k for k in Kind if k <= Kind.XX_4])
def test_a_message_too_long_for_its_kind_is_refused_by_its_header(kind: Kind) -> None:
    writer, reader = upto(kind, params_of(seed=1), params_of(seed=2))
    assert writer._key is not None
    longest = writer._frame(PQ_IK if kind.name.startswith("IK") else PQ_XX, _index(kind)).longest
    frame = writer._key.seal(kind, bytes(longest + 1), 0, bytes(16))
    assert reason(lambda: reader.receive(frame[:21], NOW)) == "header"


def _index(kind: Kind) -> int:
    return int(kind.name[-1]) - 1


@pytest.mark.parametrize("kind", [k for k in Kind if k not in (Kind.IK_1, Kind.IK_1_COOKIE)])
def test_kinds_that_begin_nothing_are_refused(kind: Kind) -> None:
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2))
    assert initiator._key is not None
    frame = initiator._key.seal(kind, bytes(4000), 0, bytes(16))
    assert reason(lambda: responder.receive(frame, NOW)) == "header"


def test_a_changed_bare_first_message_is_noticed_in_the_answer() -> None:
    """pqXX's first message has no tag: a man in the middle can change and re-mask it, to no avail."""
    a, b = params_of(seed=1), params_of(seed=2)
    initiator, responder = pair_of(a, b, xx=True)
    assert initiator._key is not None
    message = initiator._key.open(_unpadded(initiator))
    changed = message[:-1] + b"\xc3"  # holds_key: false becomes true
    assert responder.receive(initiator._key.seal(Kind.XX_1, changed, 0, bytes(16)), NOW) is not None
    assert responder._peer_holds_key
    assert reason(lambda: initiator.receive(write(responder), NOW)) == "authentication"


def _unpadded(side: Handshake) -> bytes:
    side._params = replace(side._params, padding_spread=1)
    return write(side)


def test_identities_are_not_shared_by_accident() -> None:
    """The helpers above make different nodes; otherwise half of these tests would prove nothing."""
    a, b = params_of(seed=1), params_of(seed=2)
    assert a.identity.node_id != b.identity.node_id
    assert a.network_tag == b.network_tag
    assert identity_of(a.suite, a.network_tag).node_id != a.identity.node_id
    assert isinstance(NodeId(a.identity.node_id), bytes)
