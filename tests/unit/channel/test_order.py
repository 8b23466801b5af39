"""What junk makes a responder compute: nothing dearer before the cheaper check failed (section 3).

The doubles count and delegate; what they delegate to is what a node uses (OpenSSL).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pqdht.channel.cookie import CookieJar, Gate
from pqdht.channel.framing import Kind, frame_key
from pqdht.channel.handshake import Handshake, HandshakeParams
from pqdht.channel.noise import PQ_IK, message_sizes
from pqdht.constants import DAY_MS, MINUTE_MS
from pqdht.crypto.api import make_suite
from pqdht.crypto.providers import get_provider
from pqdht.errors import BadPuzzle, HandshakeFailed, RemoteError
from pqdht.identity.contact import ContactVerifier
from tests.unit.channel.peers import EASY, NOW, identity_of, pair_of, params_of, write


class Counting:
    """Delegates everything; counts the calls of some methods, and wraps what others return."""

    def __init__(self, real: Any, counts: Counter[str], count: dict[str, str], wrap: dict[str, Any]) -> None:
        self._real, self._counts, self._count, self._wrap = real, counts, count, wrap

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name not in self._count and name not in self._wrap:
            return found

        def call(*arguments: Any) -> Any:
            if name in self._count:
                self._counts[self._count[name]] += 1
            made = found(*arguments)
            return self._wrap[name](made) if name in self._wrap else made

        return call


class Responder:
    """A node whose costly operations are counted."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.loaded = False
        real = make_suite(1, get_provider("openssl"))
        counts = self.counts

        def public(key: Any) -> Any:
            return Counting(key, counts, {"encapsulate": "encapsulate"}, {})

        kem = Counting(real.kem, counts, {"public_key": "expand"}, {"public_key": public})
        provider = Counting(real.provider, counts, {"puzzle_digest": "argon2"}, {})
        suite = replace(real, kem=kem, provider=provider)
        base = params_of(real, seed=2)
        secret = Counting(base.identity.kem, counts, {"decapsulate": "decapsulate"}, {})
        self.params = replace(
            base,
            suite=suite,
            identity=replace(base.identity, kem=secret),
            verifier=ContactVerifier(suite, EASY, base.network_tag),
        )
        self.cookies = CookieJar(real.random_bytes)
        self.real = real

    def caller(self, **more: Any) -> HandshakeParams:
        return params_of(self.real, seed=1, **more)

    def flight(
        self, caller: HandshakeParams | None = None, now: int = NOW, early: bytes | None = None
    ) -> bytes:
        initiator, _ = pair_of(caller or self.caller(), self.params, now=now)
        return write(initiator, early)

    def meet(self, data: bytes) -> tuple[Counter[str], str, bytes]:
        """(what was computed, why it ended, what was answered) for these bytes of a caller."""
        self.counts.clear()
        gate = Gate(self.cookies, "192.0.2.1", lambda: self.loaded)
        side = Handshake.respond(self.params, observed="", now=NOW, gate=gate)
        try:
            side.receive(data, NOW)
            if side.is_waiting:
                assert self.counts == {}, "before its turn nothing was computed"
                side.proceed(NOW)
                side.prepare()
        except HandshakeFailed as e:
            return Counter(self.counts), str(e.fields["reason"]), b""
        except RemoteError as e:
            return Counter(self.counts), type(e).__name__, b""
        return Counter(self.counts), "", side.take_reply()


@pytest.fixture(scope="module")
def node() -> Responder:
    return Responder()


def key_of(node: Responder) -> Any:
    return frame_key(node.params.identity.node_id)


def test_a_good_first_message_costs_one_of_each(node: Responder) -> None:
    counts, why, _ = node.meet(node.flight())
    assert why == ""
    assert counts == {"decapsulate": 1, "argon2": 1, "expand": 3, "encapsulate": 2}


@pytest.mark.parametrize("size", [21, 37, 5000, 60_000])
def test_random_bytes_cost_nothing(node: Responder, size: int) -> None:
    assert node.meet(bytes(range(256)) * (size // 256 + 1))[:2] == ({}, "header")


def test_a_wrong_length_is_refused_by_the_header_alone(node: Responder) -> None:
    size = message_sizes(PQ_IK, node.params.suite.kem)[0]
    for length in (size - 1, size + 30_000):
        frame = key_of(node).seal(Kind.IK_1, bytes(length), 0, bytes(16))
        assert node.meet(frame[:21])[:2] == ({}, "header")


def test_a_wrong_mac1_costs_nothing_more(node: Responder) -> None:
    flight = node.flight()
    assert node.meet(flight[:-1] + bytes([flight[-1] ^ 1]))[:2] == ({}, "mac1")


def test_a_copy_is_not_decapsulated(node: Responder) -> None:
    flight = node.flight()
    assert node.meet(flight)[1] == ""
    assert node.meet(flight)[:2] == ({}, "replay")
    message = key_of(node).open(flight)
    token = node.params.suite.kem.ciphertext_size
    changed = message[:token] + bytes(len(message) - token)
    assert node.meet(key_of(node).seal(Kind.IK_1, changed, 0, bytes(16)))[:2] == ({}, "replay")


def test_while_loaded_nothing_is_computed_without_a_cookie(node: Responder) -> None:
    node.loaded = True
    try:
        counts, why, reply = node.meet(node.flight())
        assert (counts, why) == ({}, "")
        assert reply
        message = bytes(16) + key_of(node).open(node.flight())
        frame = key_of(node).seal(Kind.IK_1_COOKIE, message, 0, bytes(16))
        assert node.meet(frame)[:2] == ({}, "cookie")
    finally:
        node.loaded = False


def test_what_does_not_open_costs_the_decapsulation_alone(node: Responder) -> None:
    size = message_sizes(PQ_IK, node.params.suite.kem)[0]
    frame = key_of(node).seal(Kind.IK_1, bytes(range(256)) * (size // 256) + bytes(size % 256), 0, bytes(16))
    assert node.meet(frame)[:2] == ({"decapsulate": 1}, "authentication")
    flight = key_of(node).open(node.flight())
    changed = flight[:-1] + bytes([flight[-1] ^ 1])
    frame = key_of(node).seal(Kind.IK_1, changed, 0, bytes(16))
    assert node.meet(frame)[:2] == ({"decapsulate": 1}, "authentication")


def _too_old(node: Responder) -> HandshakeParams:
    tag = node.params.network_tag
    return node.caller(identity=identity_of(node.real, tag, NOW - 40 * DAY_MS))


def _other_version(node: Responder) -> HandshakeParams:
    return node.caller(versions=(3, 4))


@pytest.mark.parametrize(("make", "why"), [(_too_old, "BadPuzzle"), (_other_version, "version")])
def test_what_the_hello_says_is_judged_before_its_puzzle(
    node: Responder, make: Callable[[Responder], HandshakeParams], why: str
) -> None:
    counts, found, _ = node.meet(node.flight(make(node)))
    assert (counts, found) == ({"decapsulate": 1}, why)


def test_a_false_digest_costs_one_argon2id_and_the_second_time_none(node: Responder) -> None:
    liar = node.caller()
    identity = replace(liar.identity, digest=bytes(32))
    identity = replace(identity, node_id=liar.verifier.claimed_id(identity.contact()))
    liar = replace(liar, identity=identity)
    counts, why, _ = node.meet(node.flight(liar))
    assert (counts, why) == ({"decapsulate": 1, "expand": 1, "argon2": 1}, BadPuzzle.__name__)
    counts, why, _ = node.meet(node.flight(liar))
    assert (counts, why) == ({"decapsulate": 1, "expand": 1}, BadPuzzle.__name__)


def test_a_known_caller_costs_no_argon2id(node: Responder) -> None:
    caller = node.caller()
    node.meet(node.flight(caller))
    assert node.meet(node.flight(caller))[0] == {"decapsulate": 1, "expand": 2, "encapsulate": 2}


def test_a_question_out_of_time_is_not_looked_at(node: Responder) -> None:
    """The time is in the Hello, so that it is judged before the question's signature, which costs more."""
    side = Handshake.respond(node.params, observed="", now=NOW)
    message = side.receive(node.flight(now=NOW - 6 * MINUTE_MS, early=b"not even an envelope"), NOW)
    assert message is not None
    assert message.early is None
