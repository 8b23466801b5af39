"""The frame of handshake messages, byte by byte."""

from __future__ import annotations

import hmac

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20

from pqdht.channel.framing import (
    FRAME_OVERHEAD,
    HEADER,
    MAX_PADDING,
    NONCE_SIZE,
    Expected,
    FrameKey,
    FrameReader,
    Kind,
)
from pqdht.crypto.labels import FIRST_FLIGHT_MAC, FIRST_FLIGHT_MASK, tagged_hash
from pqdht.errors import HandshakeFailed

SECRET = b"\x11" * 32
OTHER = b"\x22" * 32
NONCE = bytes(range(16))


def frame_of(message: bytes, kind: Kind = Kind.IK_1, padding: int = 0, secret: bytes = SECRET) -> bytes:
    return FrameKey(secret).seal(kind, message, padding, NONCE)


def reader_of(*expected: Expected) -> FrameReader:
    reader = FrameReader()
    reader.expect(*expected)
    return reader


def expect(kind: Kind = Kind.IK_1, secret: bytes = SECRET, shortest: int = 4, longest: int = 100) -> Expected:
    return Expected(kind, FrameKey(secret), shortest, longest)


def sealed(plain: bytes, secret: bytes = SECRET) -> bytes:
    """A frame made by hand, with a right mac1 over whatever `plain` says."""
    mask = tagged_hash(FIRST_FLIGHT_MASK, secret, NONCE)
    masked = NONCE + Cipher(ChaCha20(mask, bytes(16)), mode=None).encryptor().update(plain)
    return masked + hmac.digest(tagged_hash(FIRST_FLIGHT_MAC, secret), masked, "sha256")[:16]


def test_numbers_of_the_kinds() -> None:
    assert [(k.name, int(k)) for k in Kind] == [
        ("IK_1", 1),
        ("IK_2", 2),
        ("XX_1", 3),
        ("XX_2", 4),
        ("XX_3", 5),
        ("XX_4", 6),
        ("COOKIE", 7),
        ("IK_1_COOKIE", 8),
        ("XX_1_COOKIE", 9),
    ]


def test_layout() -> None:
    plain = b"\x01" + b"\x00\x05" + b"\x00\x03" + b"noise" + bytes(3)
    assert frame_of(b"noise", padding=3) == sealed(plain)
    assert len(frame_of(b"noise", padding=3)) == FRAME_OVERHEAD + 5 + 3
    assert FRAME_OVERHEAD == 37


def test_a_frame_and_what_follows_it() -> None:
    reader = reader_of(expect())
    reader.feed(frame_of(b"noise message", padding=7) + b"rest")
    assert reader.next() == (Kind.IK_1, b"noise message")
    assert reader.rest() == b"rest"
    assert len(reader) == 4


def test_bytes_one_by_one() -> None:
    reader = reader_of(expect(), expect(Kind.XX_1, OTHER))
    *start, last = frame_of(b"noise message", padding=7)
    for byte in start:
        reader.feed(bytes([byte]))
        assert reader.next() is None
    reader.feed(bytes([last]))
    assert reader.next() == (Kind.IK_1, b"noise message")
    assert reader.rest() == b""


def test_the_mask_tells_which_secret_was_meant() -> None:
    for kind, secret in ((Kind.IK_1, SECRET), (Kind.XX_1, OTHER)):
        reader = reader_of(expect(), expect(Kind.XX_1, OTHER))
        reader.feed(frame_of(b"message", kind, secret=secret))
        assert reader.next() == (kind, b"message")


def test_two_headers_that_both_seem_right_are_told_apart_by_mac1() -> None:
    """A nonce under which a frame for one secret has a plausible header under the other as well."""
    length = 300
    both = [expect(longest=60_000), expect(Kind.XX_1, OTHER, shortest=0, longest=65_535)]
    for n in range(1_000_000):  # the kinds agree once in 256, and the lengths are wide
        nonce = n.to_bytes(NONCE_SIZE, "big")
        frame = FrameKey(SECRET).seal(Kind.IK_1, bytes(length), 0, nonce)
        size = both[1].frame_size(frame[: NONCE_SIZE + HEADER.size])
        if size is not None:
            break
    assert size is not None
    assert size != len(frame)
    reader = reader_of(*both)
    reader.feed(frame + bytes(max(0, size - len(frame))))
    assert reader.next() == (Kind.IK_1, bytes(length))


@pytest.mark.parametrize(
    ("kind", "length", "padding"),
    [
        (2, 50, 0),
        (0, 50, 0),
        (255, 50, 0),
        (1, 3, 0),
        (1, 101, 0),
        (1, 65_535, 0),
        (1, 50, MAX_PADDING + 1),
        (1, 50, 65_535),
    ],
)
def test_a_wrong_header_is_refused_as_soon_as_it_is_there(kind: int, length: int, padding: int) -> None:
    reader = reader_of(expect())
    head = sealed(HEADER.pack(kind, length, padding))[: NONCE_SIZE + HEADER.size]
    reader.feed(head[:-1])
    assert reader.next() is None
    reader.feed(head[-1:])
    with pytest.raises(HandshakeFailed) as failure:
        reader.next()
    assert failure.value.fields["reason"] == "header"


@pytest.mark.parametrize("padding", [0, 1, MAX_PADDING])
def test_padding_bounds(padding: int) -> None:
    reader = reader_of(expect())
    reader.feed(frame_of(b"message", padding=padding))
    assert reader.next() == (Kind.IK_1, b"message")


def test_every_flipped_bit_is_noticed() -> None:
    good = frame_of(b"message", padding=2)
    for at in range(8 * len(good)):
        bad = bytearray(good)
        bad[at // 8] ^= 1 << at % 8
        reader = reader_of(expect())
        reader.feed(bytes(bad))
        if NONCE_SIZE <= at // 8 < NONCE_SIZE + HEADER.size:
            reader.feed(bytes(2000))  # where the length grew, mac1 is judged when that much is here
        with pytest.raises(HandshakeFailed) as failure:
            reader.next()
        assert failure.value.fields["reason"] in ("mac1", "header")


def test_padding_must_be_zeros_even_with_a_right_mac() -> None:
    reader = reader_of(expect())
    reader.feed(sealed(HEADER.pack(1, 7, 2) + b"message" + b"\x00\x01"))
    with pytest.raises(HandshakeFailed) as failure:
        reader.next()
    assert failure.value.fields["reason"] == "padding"


def test_frames_look_random() -> None:
    """Nothing repeats between two frames of one message, and no byte value stands out."""
    one = FrameKey(SECRET).seal(Kind.IK_1, bytes(4000), 0, b"a" * 16)
    two = FrameKey(SECRET).seal(Kind.IK_1, bytes(4000), 0, b"b" * 16)
    assert sum(a == b for a, b in zip(one[16:], two[16:], strict=True)) < 60  # 16 expected
    assert max(one[16:].count(v) for v in range(256)) < 45
