"""PQNoise against the crate clatter: both patterns, both roles, every KEM, both providers; what must fail."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidTag

from pqdht.channel.noise import PQ_IK, PQ_XX, CipherState, HandshakeState, Pattern
from pqdht.crypto.api import Kem, KemPrivateKey, Provider
from pqdht.errors import DecodeError, HandshakeFailed
from tests.interop.peer import Peer, PeerRefused

PATTERNS = pytest.mark.parametrize("pattern", [PQ_IK, PQ_XX], ids=lambda p: p.name)
ROLES = pytest.mark.parametrize("we_begin", [True, False], ids=["initiator", "responder"])
KEMS = pytest.mark.parametrize("kem_name", ["MLKEM768", "MLKEM1024", "XWing"])
PROLOGUE = b"pqdht interop \x00\xff"


class Meeting:
    """One handshake between us and the peer, stepped message by message."""

    def __init__(
        self,
        peer: Peer,
        pattern: Pattern,
        kem: Kem,
        *,
        we_begin: bool,
        their_prologue: bytes = PROLOGUE,
        pinned: bytes | None = None,
    ) -> None:
        """`pinned`: the responder's static key as pqIK's initiator knows it, where that is wrong."""
        self.peer, self.we_begin, self.s = peer, we_begin, kem.generate()
        known = pattern.responder_is_known
        rs = (pinned or self.s.public) if known and not we_begin else b""
        theirs = "responder" if we_begin else "initiator"
        (self.theirs,) = peer.ask("start", kem.name, pattern.name, theirs, their_prologue, rs)
        self.us = HandshakeState(
            pattern,
            kem,
            initiator=we_begin,
            prologue=PROLOGUE,
            s=self.s,
            rs=(pinned or self.theirs) if known and we_begin else None,
        )

    def step(self, payload: bytes, flip: int | None = None) -> None:
        """The next message, whoever's it is; `flip` is the index of a byte changed on the way.

        Raises HandshakeFailed or DecodeError from us, PeerRefused from the peer.
        """
        ours = self.us.is_our_turn
        if ours:
            self.us.begin_write()
            message = self.us.finish_write(payload)
        else:
            (message,) = self.peer.ask("write", payload)
        if flip is not None:
            changed = bytearray(message)
            changed[flip] ^= 1
            message = bytes(changed)
        got = self.peer.ask("read", message)[0] if ours else self.us.read(message)[1]
        assert got == payload or flip is not None

    def step_twice(self, flip: int | None = None) -> None:
        """The next message, maybe changed, and the answer to it."""
        self.step(b"payload", flip)
        self.step(b"payload")

    def complete(self) -> None:
        while not self.us.is_done:
            self.step(b"payload of message %d" % self.us.index)


def check_transport(peer: Peer, send: CipherState, receive: CipherState) -> None:
    for text in (b"", b"one", b"x" * 40_000):
        assert peer.ask("receive", send.encrypt_with_ad(b"", text)) == [text]
        assert receive.decrypt_with_ad(b"", peer.ask("send", text)[0]) == text


@KEMS
@PATTERNS
@ROLES
def test_a_whole_session(
    peer: Peer, provider: Provider, kem_name: str, pattern: Pattern, we_begin: bool
) -> None:
    meeting = Meeting(peer, pattern, provider.kem(kem_name), we_begin=we_begin)
    meeting.complete()
    assert peer.ask("finish") == [meeting.us.h, meeting.s.public]
    assert meeting.us.rs == meeting.theirs
    send, receive = meeting.us.split()
    check_transport(peer, send, receive)
    # Each direction by itself, as our sessions do it.
    send.rekey()
    peer.ask("rekey-receive")
    check_transport(peer, send, receive)
    receive.rekey()
    peer.ask("rekey-send")
    check_transport(peer, send, receive)


@PATTERNS
@ROLES
@pytest.mark.parametrize("size", [0, 1, 24 * 1024])
def test_payloads_of_any_size(
    peer: Peer, provider: Provider, pattern: Pattern, we_begin: bool, size: int
) -> None:
    meeting = Meeting(peer, pattern, provider.kem("MLKEM768"), we_begin=we_begin)
    while not meeting.us.is_done:
        meeting.step(bytes(size))
    assert peer.ask("finish")[0] == meeting.us.h


# --- what must fail ----------------------------------------------------------------------------


def refused_by_reader(meeting: Meeting) -> type[Exception] | tuple[type[Exception], ...]:
    """What the reader of the next message says to a bad one."""
    return PeerRefused if meeting.us.is_our_turn else (HandshakeFailed, DecodeError)


@PATTERNS
@ROLES
def test_a_flipped_bit_anywhere_is_refused(
    peer: Peer, provider: Provider, pattern: Pattern, we_begin: bool
) -> None:
    """At once; after the bare first message of pqXX, by the answer."""
    kem = provider.kem("MLKEM768")
    for number in range(len(pattern.messages)):
        for flip in (0, 700, kem.ciphertext_size + 3, -17, -1):
            meeting = Meeting(peer, pattern, kem, we_begin=we_begin)
            for _ in range(number):
                meeting.step(b"payload")
            if number == 0 and pattern is PQ_XX:
                with pytest.raises((HandshakeFailed, DecodeError, PeerRefused)):
                    meeting.step_twice(flip)
            else:
                with pytest.raises(refused_by_reader(meeting)):
                    meeting.step(b"payload", flip)


@PATTERNS
@ROLES
def test_another_prologue_is_refused(
    peer: Peer, provider: Provider, pattern: Pattern, we_begin: bool
) -> None:
    meeting = Meeting(
        peer, pattern, provider.kem("MLKEM768"), we_begin=we_begin, their_prologue=PROLOGUE + b"!"
    )
    if pattern is PQ_XX:
        meeting.step(b"")  # carries nothing that could show it
    with pytest.raises(refused_by_reader(meeting)):
        meeting.step(b"")


@ROLES
def test_another_static_key_is_refused(peer: Peer, provider: Provider, we_begin: bool) -> None:
    """pqIK towards a key that is not the responder's."""
    kem = provider.kem("MLKEM768")
    meeting = Meeting(peer, PQ_IK, kem, we_begin=we_begin, pinned=kem.generate().public)
    with pytest.raises(refused_by_reader(meeting)):
        meeting.step(b"early")


class WrongKey:
    """A static key whose holder has only the public half: it decapsulates with another."""

    def __init__(self, shown: KemPrivateKey, used: KemPrivateKey) -> None:
        self.seed, self.public, self.decapsulate = used.seed, shown.public, used.decapsulate


@PATTERNS
@ROLES
def test_who_has_only_the_public_half_of_a_static_key_gets_no_further(
    peer: Peer, provider: Provider, pattern: Pattern, we_begin: bool
) -> None:
    kem = provider.kem("MLKEM768")
    meeting = Meeting(peer, pattern, kem, we_begin=we_begin)
    meeting.us._s = WrongKey(meeting.s, kem.generate())
    with pytest.raises(HandshakeFailed):
        meeting.complete()
    if we_begin:  # the peer has written its last message and waits for ours
        peer.ask("finish")
        forged, _ = meeting.us.symmetric.split()
        with pytest.raises(PeerRefused):
            peer.ask("receive", forged.encrypt_with_ad(b"", b"text"))
    else:
        with pytest.raises(PeerRefused):
            peer.ask("finish")


@ROLES
def test_changed_and_repeated_transport_messages_are_refused(
    peer: Peer, provider: Provider, we_begin: bool
) -> None:
    meeting = Meeting(peer, PQ_IK, provider.kem("MLKEM768"), we_begin=we_begin)
    meeting.complete()
    peer.ask("finish")
    send, receive = meeting.us.split()
    sealed = send.encrypt_with_ad(b"", b"text")
    with pytest.raises(PeerRefused):
        peer.ask("receive", bytes([sealed[0] ^ 1]) + sealed[1:])
    assert peer.ask("receive", sealed) == [b"text"]
    with pytest.raises(PeerRefused):
        peer.ask("receive", sealed)
    (theirs,) = peer.ask("send", b"text")
    with pytest.raises(InvalidTag):
        receive.decrypt_with_ad(b"", theirs[:-1] + bytes([theirs[-1] ^ 1]))
    assert receive.decrypt_with_ad(b"", theirs) == b"text"
    with pytest.raises(InvalidTag):
        receive.decrypt_with_ad(b"", theirs)
