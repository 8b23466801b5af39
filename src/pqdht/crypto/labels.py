"""The one file with every domain-separation label, and the hash that uses them.

Each label ends in NUL and contains no other, so no label is a prefix of another: a value hashed or
signed for one purpose can never be read as another.  FIPS 204 signatures carry the label as `ctx`
as well.  Never change a label; add a new one.
"""

from __future__ import annotations

from hashlib import sha3_256

NETWORK_TAG = b"pqdht/1/network-tag\0"
PUZZLE_COMMIT = b"pqdht/1/puzzle-commit\0"
PUZZLE_SALT = b"pqdht/1/puzzle-salt\0"
STAKE = b"pqdht/1/stake\0"
NODE_ID = b"pqdht/1/node-id\0"
OWNER_ID = b"pqdht/1/owner-id\0"
KEY_HASH = b"pqdht/1/public-key-hash\0"

NOISE_PROLOGUE = b"pqdht/1/noise-prologue\0"
RENEW_PROLOGUE = b"pqdht/1/renew-prologue\0"
FIRST_FLIGHT_MASK = b"pqdht/1/first-flight-mask\0"
FIRST_FLIGHT_MAC = b"pqdht/1/first-flight-mac\0"
COOKIE = b"pqdht/1/cookie\0"
LENGTH_MASK = b"pqdht/1/length-mask\0"

MESSAGE = b"pqdht/1/message\0"
REQUEST_HASH = b"pqdht/1/request\0"
BATCH_LEAF = b"pqdht/1/batch-leaf\0"
BATCH_NODE = b"pqdht/1/batch-node\0"
BATCH_PAD = b"pqdht/1/batch-pad\0"
BATCH_ROOT = b"pqdht/1/batch-root\0"

RECORD = b"pqdht/1/record\0"
RECORD_ID = b"pqdht/1/record-id\0"
CONTENT_KEY = b"pqdht/1/key-content\0"
OWNER_KEY = b"pqdht/1/key-owner\0"
TOPIC_KEY = b"pqdht/1/key-topic\0"
TOPIC_NODE = b"pqdht/1/topic-node\0"
TOPIC_ORDER = b"pqdht/1/topic-order\0"
VALUE_HASH = b"pqdht/1/value-hash\0"
VERDICT = b"pqdht/1/verdict\0"


def all_labels() -> dict[str, bytes]:
    """Name -> label, for the test that they are unique and prefix-free."""
    return {k: v for k, v in globals().items() if k.isupper() and isinstance(v, bytes)}


def tagged_hash(label: bytes, *parts: bytes) -> bytes:
    """H(label || parts...), SHA3-256, 32 bytes."""
    digest = sha3_256(label)
    for part in parts:
        digest.update(part)
    return digest.digest()


def network_tag(name: str, genesis_salt: bytes, suite: int) -> bytes:
    """The 32-byte tag that keeps networks and suites apart (section 1)."""
    if len(genesis_salt) != 16:
        raise ValueError("genesis_salt must be 16 bytes")
    return tagged_hash(NETWORK_TAG, name.encode(), genesis_salt, bytes([suite]))
