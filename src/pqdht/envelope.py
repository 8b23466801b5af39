"""The bytes a message signature covers, and the checks that tie an answer to its question (section 4).

    m = label || network_tag || version u8 || type u16 || rpc_id[8] || sender || receiver
        || request[32] || sent_at u64 || binding[32] || SHA3-256(body)
    request = H(label || m of the request); zeros in a request
    binding = the channel's handshake hash in the first message of each direction, else zeros
"""

from __future__ import annotations

import struct
from hashlib import sha3_256

import msgspec

from .crypto.labels import MESSAGE, REQUEST_HASH, tagged_hash
from .errors import DecodeError, PeerError, WireCode
from .wire.messages import (
    MESSAGES,
    Body,
    Envelope,
    Error,
    FindNode,
    FindValue,
    FindValues,
    MessageSet,
    Nodes,
    Values,
    ValuesList,
)

ZEROS = bytes(32)
_FIXED = struct.Struct(">BH8s32s32s32sQ32s32s")


def signed_bytes(network_tag: bytes, e: Envelope) -> bytes:
    """m: what the sender's node key signs."""
    fixed = _FIXED.pack(
        e.version,
        e.type,
        e.rpc_id,
        e.sender,
        e.receiver,
        e.request,
        e.sent_at,
        e.binding,
        sha3_256(e.body).digest(),
    )
    return b"".join((MESSAGE, network_tag, fixed))


def request_hash(m: bytes) -> bytes:
    """What an answer puts in `request` to name the question m."""
    return tagged_hash(REQUEST_HASH, m)


def is_request(e: Envelope) -> bool:
    """Requests carry zeros in `request`; anything else answers something."""
    return e.request == ZEROS


def with_signature(e: Envelope, signature: bytes) -> Envelope:
    """The same envelope, signed."""
    return msgspec.structs.replace(e, signature=signature)


def open_answer(answer: Envelope, asked_type: int, asked: Body, messages: MessageSet = MESSAGES) -> Body:
    """The body of an answer that fits its question. Raises PeerError (ERROR) or DecodeError.

    NODES and VALUES repeat the target or key, so that nobody can pass off another question's answer.
    """
    body = messages.decode(answer.type, answer.body)
    if isinstance(body, Error):
        code = WireCode(body.code) if body.code in WireCode.__members__.values() else WireCode.INTERNAL
        raise PeerError(
            f"peer answered {code.name}", code=code, retry_after=body.retry_after, peer_time=body.time
        )
    if answer.type != messages.answers.get(asked_type):
        raise DecodeError(f"{type(body).__name__} does not answer {type(asked).__name__}")
    if _subjects(body) != _subjects(asked):
        raise DecodeError("the answer is about something else than was asked")
    return body


def _subjects(body: Body) -> tuple[bytes, ...]:
    """The targets or keys that a question and its answer name."""
    match body:
        case FindNode() | Nodes():
            return (body.target,)
        case FindValue() | Values():
            return (body.key,)
        case FindValues():
            return tuple(q.key for q in body.questions)
        case ValuesList():
            return tuple(a.key for a in body.answers)
        case _:
            return ()
