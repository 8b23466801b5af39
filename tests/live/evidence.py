"""Checks the evidence of a GET from its raw bytes, with nothing of `pqdht`: MessagePack, SHA3-256 and
OpenSSL's ML-DSA.
"""

from __future__ import annotations

import struct
from hashlib import sha3_256
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey, MLDSA87PublicKey

FIND_VALUE, VALUES = 5, 6
VERSION, TYPE, RPC_ID, SENDER, RECEIVER, REQUEST, SENT_AT, BINDING, BODY, SIGNATURE = range(10)
RECORDS, SAME = 1, 2


def h(label: str, *parts: bytes) -> bytes:
    """SHA3-256(label || parts...)."""
    return sha3_256(b"pqdht/1/" + label.encode() + b"\0" + b"".join(parts)).digest()


def message(network_tag: bytes, e: list[Any]) -> bytes:
    """m of section 4."""
    m: bytes = (
        b"pqdht/1/message\0"
        + network_tag
        + struct.pack(">BH", e[VERSION], e[TYPE])
        + e[RPC_ID]
        + e[SENDER]
        + e[RECEIVER]
        + e[REQUEST]
        + struct.pack(">Q", e[SENT_AT])
        + e[BINDING]
        + sha3_256(e[BODY]).digest()
    )
    return m


def check_proof(proof: bytes, m: bytes, public: bytes) -> int:
    """Walk the Merkle path and verify the signature of its root; returns the size of the batch."""
    tree, size, index, coin = struct.unpack_from(">32sHH32s", proof)
    depth = (size - 1).bit_length()
    path, signature = proof[68 : 68 + 32 * depth], proof[68 + 32 * depth :]
    node = h("batch-leaf", tree, struct.pack(">BH", 0, index), coin, m)
    at = index
    for level in range(1, depth + 1):
        sibling = path[32 * (level - 1) : 32 * level]
        pair = sibling + node if at % 2 else node + sibling
        at //= 2
        node = h("batch-node", tree, struct.pack(">BBH", 1, level, at), pair)
    label = b"pqdht/1/batch-root\0"
    statement = label + tree + node + struct.pack(">H", size)
    MLDSA65PublicKey.from_public_bytes(public).verify(signature, statement, label)
    return int(size)


def check(
    network_tag: bytes, envelope: bytes, request: bytes, asker: bytes, answerer: bytes, key: bytes
) -> list[Any]:
    """One answer to one question, signed by `answerer` with `key`; returns the VALUES body.

    Raises AssertionError or cryptography's InvalidSignature.
    """
    answer, question = msgspec.msgpack.decode(envelope), msgspec.msgpack.decode(request)
    assert (answer[TYPE], question[TYPE]) == (VALUES, FIND_VALUE)
    assert (question[SENDER], question[RECEIVER]) == (asker, answerer)
    assert (answer[SENDER], answer[RECEIVER]) == (answerer, asker)
    assert question[REQUEST] == bytes(32)
    assert answer[REQUEST] == h("request", message(network_tag, question))
    check_proof(answer[SIGNATURE], message(network_tag, answer), key)
    values, asked = msgspec.msgpack.decode(answer[BODY]), msgspec.msgpack.decode(question[BODY])
    assert values[0] == asked[0], "another key than was asked for"
    found: list[Any] = values
    return found


def check_record(tbs: bytes, signature: bytes, owner: bytes) -> tuple[bytes, bytes]:
    """(record id, value) of a record that `owner` signed with ML-DSA-87."""
    _version, _suite, _tag, _kind, _key, public, value, *_ = msgspec.msgpack.decode(tbs)
    assert h("owner-id", public) == owner
    label = b"pqdht/1/record\0"
    MLDSA87PublicKey.from_public_bytes(public).verify(signature, label + tbs, label)
    return h("record-id", tbs), value
