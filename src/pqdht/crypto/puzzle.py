"""The identity puzzle: proof of work that makes a node id cost something (section 2).

    commit  = H(label || network_tag || H(signing key) || H(KEM key) || born u32)
    digest  = Argon2id(commit || nonce[8], salt = H(label || network_tag)[:16])
    node_id = H(label || commit || digest)

Nothing here starts threads or looks at a clock.  To use all cores, hand disjoint ranges to
`search_range` in threads (Argon2id runs without the GIL); to resume, start where you stopped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import BadPuzzle
from ..ids import NodeId, leading_zero_bits
from .labels import NODE_ID, PUZZLE_COMMIT, PUZZLE_SALT, tagged_hash

if TYPE_CHECKING:
    from .api import Provider

NONCE_SIZE = 8
SALT_SIZE = 16


def commit(network_tag: bytes, signing_key_hash: bytes, kem_key_hash: bytes, born: int) -> bytes:
    """The 32 bytes that tie a node id to both keys, the network and the day number `born`."""
    return tagged_hash(PUZZLE_COMMIT, network_tag, signing_key_hash, kem_key_hash, born.to_bytes(4, "big"))


def salt(network_tag: bytes) -> bytes:
    """The 16-byte Argon2id salt of a network."""
    return tagged_hash(PUZZLE_SALT, network_tag)[:SALT_SIZE]


def digest(provider: Provider, network_tag: bytes, commit: bytes, nonce: bytes) -> bytes:
    """The 32-byte puzzle digest of an 8-byte nonce: one Argon2id, about 150 us."""
    return provider.puzzle_digest(commit + nonce, salt(network_tag))


def node_id(commit: bytes, digest: bytes) -> NodeId:
    """The 32-byte node id."""
    return NodeId(tagged_hash(NODE_ID, commit, digest))


def check_bits(digest: bytes, bits: int) -> None:
    """Raises BadPuzzle if `digest` has fewer than `bits` leading zero bits. Costs nothing."""
    found = leading_zero_bits(digest)
    if found < bits:
        raise BadPuzzle(f"puzzle has {found} bits, the network asks {bits}", found=found, asked=bits)


def check(provider: Provider, network_tag: bytes, commit: bytes, nonce: bytes, claimed: bytes) -> None:
    """Raises BadPuzzle if `claimed` is not the digest of `nonce`. Costs one Argon2id."""
    if digest(provider, network_tag, commit, nonce) != claimed:
        raise BadPuzzle("puzzle digest does not match its nonce")


def search_range(
    provider: Provider, salt: bytes, commit: bytes, bits: int, start: int, count: int
) -> bytes | None:
    """The first solving nonce of start, ..., start + count - 1, else None. Pure, thread-safe."""
    for n in range(start, start + count):
        nonce = n.to_bytes(NONCE_SIZE, "big")
        if leading_zero_bits(provider.puzzle_digest(commit + nonce, salt)) >= bits:
            return nonce
    return None
