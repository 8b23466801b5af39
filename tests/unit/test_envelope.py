"""envelope: the bytes a message signature covers, and what ties an answer to its question."""

from __future__ import annotations

from hashlib import sha3_256

import msgspec
import pytest

from pqdht.crypto.labels import MESSAGE, REQUEST_HASH, tagged_hash
from pqdht.envelope import ZEROS, is_request, open_answer, request_hash, signed_bytes, with_signature
from pqdht.errors import DecodeError, PeerError, WireCode
from pqdht.wire.codec import encode
from pqdht.wire.messages import Envelope, Error, FindNode, FindValue, MessageType, Nodes, Ping, Pong, Values

TAG = b"\x01" * 32
QUESTION = Envelope(
    1, 3, b"rpc-id-8", b"\x02" * 32, b"\x03" * 32, ZEROS, 0x0102030405060708, b"\x04" * 32, b"body", b""
)


def answer(body: Error | Nodes | Pong | Values, number: MessageType) -> Envelope:
    return msgspec.structs.replace(QUESTION, type=int(number), request=b"\x05" * 32, body=encode(body))


def test_the_signed_bytes_are_those_of_the_protocol() -> None:
    expected = b"".join(
        (
            MESSAGE,
            TAG,
            b"\x01",
            b"\x00\x03",
            b"rpc-id-8",
            b"\x02" * 32,
            b"\x03" * 32,
            bytes(32),
            bytes([1, 2, 3, 4, 5, 6, 7, 8]),
            b"\x04" * 32,
            sha3_256(b"body").digest(),
        )
    )
    assert signed_bytes(TAG, QUESTION) == expected
    assert request_hash(expected) == tagged_hash(REQUEST_HASH, expected)


CHANGES = {
    "version": 2,
    "type": 4,
    "rpc_id": b"rpc-id-9",
    "sender": b"\x09" * 32,
    "receiver": b"\x09" * 32,
    "request": b"\x09" * 32,
    "sent_at": 1,
    "binding": b"\x09" * 32,
    "body": b"other",
}


@pytest.mark.parametrize("field", CHANGES)
def test_each_field_but_the_signature_is_covered(field: str) -> None:
    assert set(CHANGES) | {"signature"} == set(Envelope.__struct_fields__)
    changed = msgspec.structs.replace(QUESTION, **{field: CHANGES[field]})
    assert signed_bytes(TAG, changed) != signed_bytes(TAG, QUESTION)
    assert signed_bytes(TAG, with_signature(QUESTION, b"proof")) == signed_bytes(TAG, QUESTION)
    assert signed_bytes(b"\x07" * 32, QUESTION) != signed_bytes(TAG, QUESTION)


def test_zeros_in_request_make_a_request() -> None:
    assert is_request(QUESTION)
    assert not is_request(msgspec.structs.replace(QUESTION, request=b"\x05" * 32))


def test_an_answer_must_fit_its_question() -> None:
    nodes = answer(Nodes(b"\x06" * 32, ()), MessageType.NODES)
    assert open_answer(nodes, MessageType.FIND_NODE, FindNode(b"\x06" * 32)) == Nodes(b"\x06" * 32, ())
    with pytest.raises(DecodeError, match="something else"):
        open_answer(nodes, MessageType.FIND_NODE, FindNode(b"\x07" * 32))
    with pytest.raises(DecodeError, match="does not answer"):
        open_answer(nodes, MessageType.PING, Ping())
    values = answer(Values(b"\x06" * 32, (), (), ()), MessageType.VALUES)
    with pytest.raises(DecodeError, match="something else"):
        open_answer(values, MessageType.FIND_VALUE, FindValue(b"\x07" * 32))


@pytest.mark.parametrize(
    ("number", "code"),
    [(1, WireCode.BUSY), (0, WireCode.OK), (19, WireCode.SHUTTING_DOWN), (65_535, WireCode.INTERNAL)],
)
def test_an_error_is_raised_with_its_code_known_or_not(number: int, code: WireCode) -> None:
    with pytest.raises(PeerError) as caught:
        open_answer(answer(Error(number, 250, 7), MessageType.ERROR), MessageType.PING, Ping())
    assert (caught.value.code, caught.value.retry_after) == (code, 250)
    assert caught.value.fields == {"peer_time": 7}
