"""Nodes and KEMs for the channel tests: nothing here stands in for what is tested."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pqdht.channel.framing import Kind
from pqdht.channel.handshake import Handshake, HandshakeMessage, HandshakeParams
from pqdht.channel.hello import Payload
from pqdht.channel.session import Padding, Session
from pqdht.constants import DAY_MS, DEMO, ParameterSet
from pqdht.crypto.api import Kem, KemPrivateKey, KemPublicKey, Suite
from pqdht.crypto.labels import network_tag
from pqdht.errors import HandshakeFailed, WireCode
from pqdht.identity.contact import ContactVerifier
from pqdht.identity.keys import NodeIdentity, born_day, new_commit
from pqdht.testing.fake import fake_suite
from pqdht.wire.codec import encode

NOW = 20_000 * DAY_MS + 12_345
EASY = replace(DEMO, puzzle_schedule=((0, 0),))
"""A network whose puzzle any nonce solves."""


@dataclass
class ScriptedKem:
    """A KEM whose encapsulations are given: (ciphertext, secret) in the order they are asked for."""

    real: Kem
    encapsulations: list[tuple[bytes, bytes]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def public_key(self, public: bytes) -> KemPublicKey:
        self.real.public_key(public)
        return _Scripted(self.encapsulations)


@dataclass
class _Scripted:
    encapsulations: list[tuple[bytes, bytes]]

    def encapsulate(self) -> tuple[bytes, bytes]:
        return self.encapsulations.pop(0)


@dataclass
class RecordingKem:
    """A KEM that keeps what it encapsulated, to be replayed by `ScriptedKem`."""

    real: Kem
    encapsulations: list[tuple[bytes, bytes]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def public_key(self, public: bytes) -> KemPublicKey:
        return _Recording(self.real.public_key(public), self.encapsulations)


@dataclass
class _Recording:
    key: KemPublicKey
    encapsulations: list[tuple[bytes, bytes]]

    def encapsulate(self) -> tuple[bytes, bytes]:
        pair = self.key.encapsulate()
        self.encapsulations.append(pair)
        return pair


def key_pair(kem: Kem, n: int) -> KemPrivateKey:
    """A key pair by number."""
    return kem.private_key(bytes([n]) * kem.seed_size)


def identity_of(suite: Suite, tag: bytes, now: int = NOW) -> NodeIdentity:
    """A fresh node whose puzzle has whatever bits nonce 0 gives."""
    return new_commit(suite, tag, born_day(now)).solved(bytes(8))


def params_of(
    suite: Suite | None = None, *, seed: int = 1, params: ParameterSet = EASY, name: str = "demo", **more: Any
) -> HandshakeParams:
    """A node; by default with fake cryptography drawn from `seed`."""
    suite = suite or fake_suite(1, seed)
    tag = network_tag(name, params.genesis_salt, suite.number)
    fields: dict[str, Any] = {
        "suite": suite,
        "network_tag": tag,
        "identity": identity_of(suite, tag),
        "verifier": ContactVerifier(suite, params, tag),
        "addresses": (f"tcp/127.0.0.{seed % 250 + 1}:4733",),
    }
    return HandshakeParams(**{**fields, **more})


def pair_of(
    a: HandshakeParams, b: HandshakeParams, *, xx: bool = False, now: int = NOW, **more: Any
) -> tuple[Handshake, Handshake]:
    """(initiator, responder), pqIK or pqXX."""
    kem_key = None if xx else b.identity.kem.public
    initiator = Handshake.initiate(
        a,
        expected=b.identity.node_id,
        kem_key=kem_key,
        observed="tcp/192.0.2.2:4733",
        now=now,
        **more,
    )
    return initiator, Handshake.respond(b, observed="tcp/192.0.2.1:50000", now=now)


def write(side: Handshake, early: bytes | None = None, code: WireCode = WireCode.OK) -> bytes:
    """The next message of a side."""
    side.prepare()
    return side.finish(early, code)


def shake(initiator: Handshake, responder: Handshake, now: int = NOW) -> list[HandshakeMessage]:
    """Run a handshake to its end; the messages as their readers saw them."""
    writer, reader, messages = initiator, responder, []
    while not (initiator.done and responder.done):
        message = reader.receive(write(writer), now)
        assert message is not None
        messages.append(message)
        writer, reader = reader, writer
    return messages


def sessions(padding: Padding = "off", xx: bool = False) -> tuple[Session, Session]:
    """(initiator's, responder's) ends of an open channel."""
    initiator, responder = pair_of(params_of(seed=1), params_of(seed=2), xx=xx)
    shake(initiator, responder)
    return initiator.session(padding), responder.session(padding)


def forge(side: Handshake, payload: Payload | bytes) -> bytes:
    """A message whose tokens are right and whose payload is anything."""
    assert side._noise is not None
    assert side._key is not None
    kind = side._next_kind()
    assert kind is not None
    side._noise.begin_write()
    raw = payload if isinstance(payload, bytes) else encode(payload)
    message = side._noise.finish_write(raw)
    if not side._noise.is_done:
        side._reader.expect(side._frame(side._noise.pattern, side._noise.index))
    return side._key.seal(kind, message, 0, bytes(16))


def upto(kind: Kind, a: HandshakeParams, b: HandshakeParams) -> tuple[Handshake, Handshake]:
    """(writer, reader) where the next message is of this kind."""
    writer, reader = pair_of(a, b, xx=kind.name.startswith("XX"))
    while writer._next_kind() != kind:
        reader.receive(write(writer), NOW)
        writer, reader = reader, writer
    return writer, reader


def reason(action: Callable[[], Any]) -> str:
    """Why a call raises HandshakeFailed."""
    with pytest.raises(HandshakeFailed) as failure:
        action()
    return str(failure.value.fields["reason"])
