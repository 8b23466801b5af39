"""The channel's state machines against a real peer whose messages are changed on the way, or who cheats.

The fake suite lets a coverage-guided fuzzer past the cryptography; where a MAC would stop every changed
byte, the change is made inside: a forged payload in an authentic message, a changed Noise message under
a right mac1, any plaintext in an authentic frame.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

from pqdht.channel.framing import MAX_PADDING, Kind
from pqdht.channel.handshake import Handshake, HandshakeMessage, HandshakeParams
from pqdht.channel.hello import MAX_PAYLOAD, StrikeRegister
from pqdht.channel.noise import CipherState
from pqdht.channel.replay import SeenFlights
from pqdht.channel.session import HEADER, MAX_FRAME, REKEY_EVERY, Frame, FrameKind, Session, _next_key
from pqdht.constants import MAX_MESSAGE
from pqdht.errors import (
    BadPuzzle,
    DecodeError,
    HandshakeFailed,
    PeerIdentityMismatch,
    SessionFailed,
    WireCode,
)
from tests.fuzz.mutate import mutate_tree
from tests.fuzz.source import Source, Target
from tests.unit.channel.peers import NOW, pair_of, params_of

REFUSALS = (HandshakeFailed, PeerIdentityMismatch, BadPuzzle, DecodeError)
A, B = params_of(seed=1), params_of(seed=2)


def _fresh(params: HandshakeParams, **more: Any) -> HandshakeParams:
    """The same node with nothing remembered, drawing the same numbers as in every run."""
    dice = params.suite.provider._dice  # type: ignore[attr-defined]
    dice.seed(params.identity.node_id)
    return replace(params, strikes=StrikeRegister(capacity=4), seen=SeenFlights(), **more)


# --- handshakes ----------------------------------------------------------------------------------


def handshake(data: bytes) -> bool:
    """Both patterns, both roles; whoever writes may cheat, whatever is written may be changed."""
    source = Source(data)
    is_xx, how = source.flag(), source.u8()
    held = B.identity.signing.public if how & 1 else None
    a = _fresh(A, held_key=lambda _: held)
    b = _fresh(B, bridge=bool(how & 2), held_key=lambda _: A.identity.signing.public if how & 4 else None)
    more: dict[str, Any] = {"peer_holds_key": bool(how & 8)}
    if how & 16:
        more["signing_key_hash"] = B.identity.signing_key_hash
    one, two = pair_of(a, b, xx=is_xx, **more)
    talk = _Talk(source, one, two)
    if not talk.run():
        return False
    assert not talk.is_changed, "a changed handshake came to its end"
    assert one.peer is not None
    assert two.peer is not None
    assert one.peer.node_id == B.identity.node_id
    assert two.peer.node_id == A.identity.node_id
    ends = one.session("off"), two.session("off")
    assert ends[0].handshake_hash == ends[1].handshake_hash
    for end, other in () if talk.is_followed else (ends, ends[::-1]):
        assert other.receive(end.send(FrameKind.ENVELOPE, b"hello")) == [(FrameKind.ENVELOPE, b"hello")]
    return True


class _Talk:
    """One run of a handshake."""

    def __init__(self, source: Source, initiator: Handshake, responder: Handshake) -> None:
        self.source = source
        self.ends = initiator, responder
        self.is_changed = False
        """Whether a reader took a Noise message that its writer did not write."""
        self.is_followed = False
        """Whether bytes came behind the last message, which are the session's."""
        self.sent: list[bytes] = []

    def run(self) -> bool:
        """Whether both ends came to the end."""
        writer, reader = self.ends
        while not (writer.done and reader.done):
            if not self._prepare(writer):
                return False
            frame, is_own = self._message(writer)
            message = self._deliver(reader, frame)
            if message is None:
                return False
            self.is_changed |= not is_own
            assert len(message.binding) == 32
            writer, reader = reader, writer
        return True

    def _prepare(self, writer: Handshake) -> bool:
        """A key that is none is noticed when it is used: only of an end that sent what it should not."""
        try:
            writer.prepare()
        except DecodeError:
            assert self.is_changed
            return False
        return True

    def _message(self, writer: Handshake) -> tuple[bytes, bool]:
        """(a frame, whether its Noise message is the writer's)."""
        source = self.source
        kind = writer._next_kind()
        noise, key = writer._noise, writer._key
        assert kind is not None
        assert noise is not None
        assert key is not None
        how = source.u8() % 8
        if how in (4, 5):
            frame = self._cheat(writer, kind)
            self.sent.append(frame)
            return frame, True
        early = source.blob() if kind in (Kind.IK_1, Kind.XX_3) and source.flag() else None
        honest = writer.finish(early or None, WireCode(source.u8() % len(WireCode)))
        self.sent.append(honest)
        if how == 6:  # by somebody who knows the frame's secret, as every member does
            message = key.open(honest)
            changed = source.spoil(message)
            sealed = changed[: 0xFFFF - 64]
            padding = source.u16() % (MAX_PADDING + 64)
            return key.seal(kind, sealed, padding, source.exactly(16)), sealed == message
        if how == 7:
            frame = source.spoil(source.pick(self.sent))
            self.is_followed |= writer.done and frame != honest and frame.startswith(honest)
            return frame, frame.startswith(honest)
        return honest, True

    def _cheat(self, writer: Handshake, kind: Kind) -> bytes:
        """An authentic message with any payload: the honest one changed, or bytes of the fuzzer's."""
        source = self.source
        noise, key = writer._noise, writer._key
        assert noise is not None
        assert key is not None
        finish, payloads = noise.finish_write, list[bytes]()
        if source.flag():
            payload = source.blob()
        else:

            def keep(payload: bytes) -> bytes:
                payloads.append(payload)
                changed = mutate_tree(payload, Random(source.u16())) or source.spoil(payload)
                return finish(changed[:MAX_PAYLOAD])

            noise.finish_write = keep  # type: ignore[method-assign]
            try:
                return writer.finish()
            finally:
                noise.finish_write = finish  # type: ignore[method-assign]
        message = finish(payload)
        if not noise.is_done:
            writer._reader.expect(writer._frame(noise.pattern, noise.index))
        return key.seal(kind, message, source.u8(), source.exactly(16))

    def _deliver(self, reader: Handshake, frame: bytes) -> HandshakeMessage | None:
        message = None
        try:
            for piece in self.source.cut(frame):
                got = reader.receive(piece, NOW)
                assert got is None or message is None
                message = message if got is None else got
                assert len(reader._reader) <= max(MAX_FRAME, 2 * MAX_PAYLOAD)
        except REFUSALS as e:
            for again in (b"", frame):
                try:
                    reader.receive(again, NOW)
                except HandshakeFailed:
                    continue
                raise AssertionError("a failed handshake went on") from e
            return None
        return message


def _handshake_seeds() -> list[bytes]:
    return [
        bytes(2) + b"\0\1\5early\0\0" * 2 + bytes(8),
        b"\0\20" + bytes(12),
        b"\1\0" + bytes(24),
        b"\1\10" + bytes(24),
    ]


# --- sessions ------------------------------------------------------------------------------------


def _ends() -> tuple[Session, Session]:
    keys = [bytes([i]) * 32 for i in range(4)]

    def end(send: int, receive: int) -> Session:
        return Session(
            CipherState(keys[send]),
            CipherState(keys[receive]),
            send_mask=keys[send + 2],
            receive_mask=keys[receive + 2],
            handshake_hash=bytes(32),
            padding="off",
            opened_at=NOW,
        )

    return end(0, 1), end(1, 0)


def session(data: bytes) -> bool:
    """Frames of an honest peer, of one that puts anything into them, and bytes that are none."""
    source = Source(data)
    peer, victim = _ends()
    start = source.pick((0, 1, REKEY_EVERY - 2, REKEY_EVERY, 2**20))
    peer._send.n = victim._receive.n = start
    wire, due = _stream(source, peer)
    got: list[Frame] = []
    try:
        for piece in source.cut(wire):
            got += victim.receive(piece)
            assert len(victim._buffer) <= MAX_FRAME
    except SessionFailed:
        assert got == due[: len(got)]
        assert not victim._buffer
        for call in (lambda: victim.receive(b""), lambda: victim.send(FrameKind.KEEPALIVE, b"")):
            try:
                call()
            except SessionFailed:
                continue
            raise AssertionError("a failed session went on") from None
        return False
    assert got == due[: len(got)]
    assert victim.needs_renewal(NOW) == (start + len(got) >= 2**20)
    return got == due


def _stream(source: Source, peer: Session) -> tuple[bytes, list[Frame]]:
    """(what the peer sends, the frames of it that may be delivered)."""
    wire, due, is_sound = b"", list[Frame](), True
    for _ in range(source.u8() % 8 + 1):
        how = source.u8() % 8
        if how < 3:
            kind, content = source.pick(list(FrameKind)), source.blob() * (1 + 200 * (how == 2))
            wire += peer.send(kind, content)
            due += [Frame(kind, content)] if is_sound else []
        elif how < 6:
            plain = source.blob() + bytes(source.u16() if how == 5 else 0)
            sealed = _next_key(peer._send).encrypt_with_ad(b"", plain[: 0xFFFF - 16])
            wire += peer._send_mask.update(len(sealed).to_bytes(2, "big")) + sealed
            frame = _judge(plain[: 0xFFFF - 16])
            due += [frame] if is_sound and frame is not None else []
            is_sound &= frame is not None
        else:
            garbage = source.blob()
            wire += garbage
            is_sound &= not garbage
    return source.spoil(wire), due


def _judge(plain: bytes) -> Frame | None:
    """What the format makes of a plaintext, worked out independently."""
    if len(plain) < HEADER.size:
        return None
    kind, length = plain[0], int.from_bytes(plain[1:3], "big")
    content, padding = plain[3 : 3 + length], plain[3 + length :]
    is_right = len(content) == length <= MAX_MESSAGE and not any(padding)
    return Frame(kind, content) if is_right else None


def _session_seeds() -> list[bytes]:
    return [
        b"\0\2" + b"\0\0\3abc" + b"\1\1\0" + b"\2\2\2xy" + bytes(2),
        b"\2\3" + b"\0\0\1a" * 4 + bytes(2),
        b"\0\0" + b"\3\6\1\0\2ab\0" + bytes(2),
    ]


TARGETS = (
    Target("handshake", handshake, _handshake_seeds, max_len=1024),
    Target("session", session, _session_seeds, max_len=2048),
)
