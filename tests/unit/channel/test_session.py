"""The transport phase: layout, padding, re-keys, renewal, and that any damage ends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from pqdht.channel import session as module
from pqdht.channel.framing import stream
from pqdht.channel.noise import CipherState
from pqdht.channel.session import (
    BUCKETS,
    FRAME_OVERHEAD,
    MAX_FRAME,
    REKEY_EVERY,
    RENEW_AFTER_MESSAGES,
    Frame,
    FrameKind,
    Padding,
    Session,
)
from pqdht.constants import HOUR_MS, MAX_MESSAGE
from pqdht.errors import SessionFailed
from tests.unit.channel.peers import NOW, sessions

A, B, MASK_A, MASK_B = (bytes([n]) * 32 for n in range(1, 5))


def ends(padding: Padding = "off") -> tuple[Session, Session]:
    """Both ends over known keys."""
    one = Session(
        CipherState(A),
        CipherState(B),
        send_mask=MASK_A,
        receive_mask=MASK_B,
        handshake_hash=bytes(32),
        padding=padding,
        opened_at=NOW,
    )
    two = Session(
        CipherState(B),
        CipherState(A),
        send_mask=MASK_B,
        receive_mask=MASK_A,
        handshake_hash=bytes(32),
        padding=padding,
        opened_at=NOW,
    )
    return one, two


def sealed(plain: bytes, number: int = 0) -> bytes:
    """A frame of end one made by hand."""
    body = ChaCha20Poly1305(A).encrypt(bytes(4) + number.to_bytes(8, "little"), plain, None)
    return stream(MASK_A).update(len(body).to_bytes(2, "big")) + body


@pytest.mark.parametrize("xx", [False, True])
@pytest.mark.parametrize("padding", ["off", "256", "constant"])
def test_both_directions(padding: Padding, xx: bool) -> None:
    one, two = sessions(padding, xx)
    for n in range(3):
        assert two.receive(one.send(FrameKind.ENVELOPE, b"there %d" % n)) == [(1, b"there %d" % n)]
        assert one.receive(two.send(FrameKind.KEEPALIVE, b"")) == [(2, b"")]
    assert one.handshake_hash == two.handshake_hash
    assert len(one.handshake_hash) == 32


def test_numbers_of_the_kinds() -> None:
    assert [(k.name, int(k)) for k in FrameKind] == [
        ("ENVELOPE", 1),
        ("KEEPALIVE", 2),
        ("ADDRESSES", 3),
        ("CLOSE", 4),
        ("RENEW", 5),
    ]


def test_layout() -> None:
    one, two = ends()
    frame = one.send(FrameKind.ADDRESSES, b"content")
    assert frame == sealed(b"\x03" + b"\x00\x07" + b"content")
    assert len(frame) == FRAME_OVERHEAD + 7
    assert FRAME_OVERHEAD == 21
    assert two.receive(frame) == [Frame(FrameKind.ADDRESSES, b"content")]


def test_lengths_are_masked_by_one_stream_per_direction() -> None:
    one, two = ends()
    frames = [one.send(FrameKind.KEEPALIVE, b"") for _ in range(8)]
    lengths = [frame[:2] for frame in frames]
    assert len(set(lengths)) > 6
    masks = stream(MASK_A)
    assert [int.from_bytes(masks.update(m), "big") for m in lengths] == [19] * 8
    assert two.receive(b"".join(frames)) == [(FrameKind.KEEPALIVE, b"")] * 8


@pytest.mark.parametrize(
    ("padding", "content", "size"),
    [
        ("off", 0, 21),
        ("off", 500, 521),
        ("256", 0, 274),
        ("256", 253, 274),
        ("256", 254, 530),
        ("256", MAX_MESSAGE, 2 + 61_696 + 16),
        ("constant", 0, 16_402),
        ("constant", 16_381, 16_402),
        ("constant", 16_382, 32_786),
        ("constant", MAX_MESSAGE, MAX_FRAME),
    ],
)
def test_sizes_on_the_wire(padding: Padding, content: int, size: int) -> None:
    one, two = ends(padding)
    frame = one.send(FrameKind.ENVELOPE, bytes(content))
    assert len(frame) == size
    assert two.receive(frame) == [(FrameKind.ENVELOPE, bytes(content))]


def test_padding_policies() -> None:
    assert BUCKETS == {"off": 1, "256": 256, "constant": 16_384}


@pytest.mark.parametrize(("padding", "size"), [("off", 21), ("256", 34), ("constant", 16_402)])
def test_a_keepalive_is_small_unless_all_must_look_alike(padding: Padding, size: int) -> None:
    one, two = ends(padding)
    frame = one.send(FrameKind.KEEPALIVE, b"")
    assert len(frame) == size
    assert two.receive(frame) == [(FrameKind.KEEPALIVE, b"")]


def test_too_much_content_is_the_callers_mistake() -> None:
    one, two = ends()
    with pytest.raises(ValueError, match="61440"):
        one.send(FrameKind.ENVELOPE, bytes(MAX_MESSAGE + 1))
    assert two.receive(one.send(FrameKind.ENVELOPE, b"still fine")) == [(1, b"still fine")]


def test_unknown_kinds_are_handed_on() -> None:
    _, two = ends()
    assert two.receive(sealed(b"\xc8\x00\x01x")) == [(200, b"x")]


def test_many_frames_cut_anywhere() -> None:
    one, two = ends("256")
    contents = [bytes([n]) * (n * 37) for n in range(40)]
    wire = b"".join(one.send(FrameKind.ENVELOPE, c) for c in contents)
    got = []
    for at in range(0, len(wire), 7):
        got += two.receive(wire[at : at + 7])
    assert [frame.content for frame in got] == contents


def test_what_came_with_the_handshake_comes_first() -> None:
    one, _ = ends()
    first, second = one.send(FrameKind.ENVELOPE, b"1"), one.send(FrameKind.ENVELOPE, b"2")
    late = Session(
        CipherState(B),
        CipherState(A),
        send_mask=MASK_B,
        receive_mask=MASK_A,
        handshake_hash=bytes(32),
        padding="off",
        opened_at=NOW,
        received=first + second[:5],
    )
    assert late.receive(b"") == [(1, b"1")]
    assert late.receive(second[5:]) == [(1, b"2")]


# --- damage ------------------------------------------------------------------------------------

DAMAGE: dict[str, Callable[[list[bytes]], bytes]] = {
    "replayed": lambda f: f[0] + f[0] + f[1],
    "reordered": lambda f: f[1] + f[0],
    "lost": lambda f: f[1] + f[2],
    "flipped length": lambda f: bytes([f[0][0] ^ 0x40]) + f[0][1:] + f[1],
    "flipped body": lambda f: f[0][:5] + bytes([f[0][5] ^ 1]) + f[0][6:],
    "flipped tag": lambda f: f[0][:-1] + bytes([f[0][-1] ^ 1]),
    "byte lost": lambda f: f[0][:9] + f[0][10:] + f[1],
    "byte added": lambda f: f[0][:9] + b"x" + f[0][9:],
    "reflected": lambda f: f[3],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_ends_the_session_for_good(damage: str) -> None:
    one, two = sessions()
    frames = [one.send(FrameKind.ENVELOPE, b"frame %d" % n * 60) for n in range(3)]
    frames.append(two.send(FrameKind.ENVELOPE, b"ours" * 100))
    with pytest.raises(SessionFailed):
        # a length unmasked with the wrong bytes may ask for up to 64 KiB before the tag is judged
        two.receive(DAMAGE[damage](frames) + bytes(MAX_FRAME))
    with pytest.raises(SessionFailed, match="has failed"):
        two.receive(frames[0])
    with pytest.raises(SessionFailed, match="has failed"):
        two.receive(b"")
    with pytest.raises(SessionFailed, match="has failed"):
        two.send(FrameKind.KEEPALIVE, b"")


def test_a_frame_too_short_for_its_tag_is_refused_by_its_length() -> None:
    for length in (0, 16, 18):
        _, two = ends()
        with pytest.raises(SessionFailed, match="too short"):
            two.receive(stream(MASK_A).update(length.to_bytes(2, "big")))


@pytest.mark.parametrize(
    "plain",
    [
        b"\x01\x00\x05four",
        b"\x01\x00\x03abc\x00\x01\x00",
        b"\x01\xff\xff" + bytes(100),
        b"\x01\xf0\x01" + bytes(MAX_MESSAGE + 1),
    ],
    ids=["length beyond the frame", "padding not zero", "length far beyond", "over 60 KiB"],
)
def test_an_authentic_frame_with_a_wrong_inside_is_refused(plain: bytes) -> None:
    _, two = ends()
    with pytest.raises(SessionFailed, match="inner"):
        two.receive(sealed(plain))


def test_the_buffer_never_holds_more_than_one_frame_and_a_chunk() -> None:
    one, two = ends()
    frame = one.send(FrameKind.ENVELOPE, bytes(MAX_MESSAGE))
    for at in range(0, len(frame) - 1, 1000):
        two.receive(frame[at : min(at + 1000, len(frame) - 1)])
        assert len(two._buffer) <= MAX_FRAME
    assert two.receive(frame[-1:]) == [(1, bytes(MAX_MESSAGE))]
    assert len(two._buffer) == 0


# --- keys --------------------------------------------------------------------------------------


def test_both_ends_rekey_at_the_same_message() -> None:
    assert REKEY_EVERY == 16_384
    one, two = ends()
    one._send.n = two._receive.n = REKEY_EVERY - 1
    last_of_old = one.send(FrameKind.ENVELOPE, b"old")
    first_of_new = one.send(FrameKind.ENVELOPE, b"new")
    nonce = bytes(4) + REKEY_EVERY.to_bytes(8, "little")
    new_key = ChaCha20Poly1305(A).encrypt(bytes(4) + b"\xff" * 8, bytes(32), None)[:32]
    assert ChaCha20Poly1305(new_key).decrypt(nonce, first_of_new[2:], None) == b"\x01\x00\x03new"
    assert two.receive(last_of_old + first_of_new) == [(1, b"old"), (1, b"new")]


def test_rekeys_of_the_directions_cross(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each direction counts for itself, with frames of both keys under way at once."""
    monkeypatch.setattr(module, "REKEY_EVERY", 4)
    one, two = ends()
    keys = {one._send._aead, one._receive._aead}
    for turn in range(1, 12):
        there = [one.send(FrameKind.ENVELOPE, b"t%d" % n) for n in range(turn)]
        back = [two.send(FrameKind.ENVELOPE, b"b%d" % n) for n in range(turn % 3)]
        assert [f.content for f in two.receive(b"".join(there))] == [b"t%d" % n for n in range(turn)]
        assert [f.content for f in one.receive(b"".join(back))] == [b"b%d" % n for n in range(turn % 3)]
        keys |= {one._send._aead, one._receive._aead}
    assert one._send.n == 66
    assert one._receive.n == 12
    assert len(keys) > 10


def test_renewal_is_due_after_an_hour_or_many_messages() -> None:
    one, two = ends()
    assert not one.needs_renewal(NOW + HOUR_MS - 1)
    assert one.needs_renewal(NOW + HOUR_MS)
    assert RENEW_AFTER_MESSAGES == 2**20
    one._send.n = two._receive.n = RENEW_AFTER_MESSAGES - 1
    assert not one.needs_renewal(NOW)
    two.receive(one.send(FrameKind.KEEPALIVE, b""))
    assert one.needs_renewal(NOW)
    assert two.needs_renewal(NOW)
