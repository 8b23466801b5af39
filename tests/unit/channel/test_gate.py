"""A loaded responder: cookies cost it nothing, and honest callers one round trip and no question."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pqdht.channel.cookie import PERIOD_MS, CookieJar, Gate
from pqdht.channel.framing import FRAME_OVERHEAD, Kind, frame_key
from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.channel.replay import SeenFlights
from tests.unit.channel.peers import NOW, pair_of, params_of, reason, shake, write

BOTH = pytest.mark.parametrize("xx", [False, True], ids=["pqIK", "pqXX"])
HERE = "192.0.2.1"


class Load:
    """How a responder is: set by the test."""

    def __init__(self, params: HandshakeParams, *, loaded: bool = True) -> None:
        self.params = params
        self.loaded = loaded
        self.cookies = CookieJar(params.suite.random_bytes)

    def respond(self, address: str = HERE, now: int = NOW) -> Handshake:
        gate = Gate(self.cookies, address, lambda: self.loaded)
        return Handshake.respond(self.params, observed=f"tcp/{address}:50000", now=now, gate=gate)


def caller_of(load: Load, *, xx: bool = False, seed: int = 1) -> Handshake:
    return pair_of(params_of(seed=seed), load.params, xx=xx)[0]


def challenged(load: Load, flight: bytes, address: str = HERE, now: int = NOW) -> bytes:
    """The answer to a first flight, which must be a cookie."""
    responder = load.respond(address, now)
    assert responder.receive(flight, now) is None
    assert not responder.is_waiting
    return responder.take_reply()


@BOTH
def test_an_honest_caller_gets_through_with_the_question_it_asked(xx: bool) -> None:
    load = Load(params_of(seed=2))
    caller, responder = caller_of(load, xx=xx), load.respond()
    first = write(caller, None if xx else b"question")
    assert responder.receive(first, NOW) is None
    cookie = responder.take_reply()
    assert 0 < len(cookie) < len(first), "less than it answers: nobody is flooded with it"
    assert responder.buffered == 0
    assert caller.receive(cookie, NOW) is None
    again = caller.take_reply()
    assert again
    assert caller.take_reply() == b""
    assert responder.receive(again, NOW) is None
    assert responder.is_waiting
    message = responder.proceed(NOW)
    assert message.early == (None if xx else b"question")
    writer, reader = responder, caller
    while not (caller.done and responder.done):
        answer = write(writer)
        read = reader.receive(answer, NOW)
        if reader is responder:
            assert read is None
            read = responder.proceed(NOW)
        assert read is not None
        writer, reader = reader, writer
    assert caller.session("off").handshake_hash == responder.session("off").handshake_hash


@BOTH
def test_a_cookie_moves_nothing_in_the_first_message(xx: bool) -> None:
    load = Load(params_of(seed=2))
    caller = caller_of(load, xx=xx)
    first = write(caller)
    caller.receive(challenged(load, first), NOW)
    key = frame_key(load.params.network_tag if xx else load.params.identity.node_id)
    again = caller.take_reply()
    assert key.open(again)[16:] == key.open(first)
    assert key.header(again[:21])[0] == (Kind.XX_1_COOKIE if xx else Kind.IK_1_COOKIE)


@BOTH
def test_a_cookie_is_worth_nothing_elsewhere_and_later(xx: bool) -> None:
    load = Load(params_of(seed=2))
    caller = caller_of(load, xx=xx)
    caller.receive(challenged(load, write(caller)), NOW)
    again = caller.take_reply()
    assert reason(lambda: load.respond("192.0.2.2").receive(again, NOW)) == "cookie"
    later = NOW + 2 * PERIOD_MS
    assert reason(lambda: load.respond(now=later).receive(again, later)) == "cookie"


@BOTH
def test_a_right_cookie_does_no_harm_when_the_load_is_over(xx: bool) -> None:
    load = Load(params_of(seed=2))
    caller = caller_of(load, xx=xx)
    caller.receive(challenged(load, write(caller)), NOW)
    load.loaded = False
    responder = load.respond()
    responder.receive(caller.take_reply(), NOW)
    assert responder.is_waiting


def test_a_cookie_opens_only_to_whom_it_answers() -> None:
    load = Load(params_of(seed=2))
    one, other = caller_of(load, seed=1), caller_of(load, seed=3)
    cookie = challenged(load, write(one))
    write(other)
    assert reason(lambda: other.receive(cookie, NOW)) == "cookie"


@BOTH
def test_a_second_cookie_is_not_obeyed(xx: bool) -> None:
    load = Load(params_of(seed=2))
    caller = caller_of(load, xx=xx)
    first = write(caller)
    caller.receive(challenged(load, first), NOW)
    assert reason(lambda: caller.receive(challenged(load, first), NOW)) in ("header", "mac1")


def test_after_the_cookie_only_the_same_kind_of_message_with_it_will_do() -> None:
    load = Load(params_of(seed=2))
    caller, responder = caller_of(load), load.respond()
    first = write(caller)
    responder.receive(first, NOW)
    responder.take_reply()
    assert reason(lambda: responder.receive(first, NOW)) == "header"


def test_nothing_may_follow_a_first_message_loaded_or_not() -> None:
    for loaded in (True, False):
        load = Load(params_of(seed=2), loaded=loaded)
        flight = write(caller_of(load))
        assert reason(lambda f=flight, s=load: s.respond().receive(f + b"x", NOW)) == "turn"  # type: ignore[misc]
    responder = load.respond()
    responder.receive(write(caller_of(load, seed=5)), NOW)
    assert responder.is_waiting
    assert reason(lambda: responder.receive(b"x", NOW)) == "turn"


@BOTH
def test_a_copy_is_refused_before_it_is_given_a_cookie(xx: bool) -> None:
    load = Load(params_of(seed=2), loaded=False)
    flight = write(caller_of(load, xx=xx))
    load.respond().receive(flight, NOW)
    load.loaded = True
    assert reason(lambda: load.respond().receive(flight, NOW)) == "replay"
    key = frame_key(load.params.network_tag if xx else load.params.identity.node_id)
    renewed = key.seal(Kind.XX_1 if xx else Kind.IK_1, key.open(flight), 7, bytes(16))
    assert reason(lambda: load.respond().receive(renewed, NOW)) == "replay", "in another frame too"


def test_a_challenged_message_is_no_copy_of_itself() -> None:
    load = Load(params_of(seed=2))
    flight = write(caller_of(load))
    assert challenged(load, flight)
    assert challenged(load, flight), "nothing was remembered of it"
    assert len(load.params.seen) == 0


def test_without_a_gate_a_handshake_is_read_at_once() -> None:
    params = replace(params_of(seed=2), seen=SeenFlights())
    shake(*pair_of(params_of(seed=1), params))
    assert len(params.seen) == 1


@pytest.mark.parametrize("spread", [1, 256])
def test_a_cookie_frame_has_a_random_length_too(spread: int) -> None:
    load = Load(params_of(seed=2, padding_spread=spread))
    lengths = {len(challenged(load, write(caller_of(load, seed=i)))) for i in range(10, 40)}
    assert min(lengths) >= FRAME_OVERHEAD + 48
    assert (len(lengths) == 1) == (spread == 1)
