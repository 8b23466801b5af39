"""Batch signatures: one signature over a Merkle tree of what waits to be signed (section 4).

Aguilar-Melchor, Albrecht, Bailleux et al., "Batch signatures, revisited", 2023 (ePrint 2023/492).
With H(label, ...) of `labels` and a tree id `t` of 32 random bytes:

    leaf i     H(BATCH_LEAF, t, 0 u8, i u16, r_i[32], message)     fresh random r_i
    padding i  H(BATCH_PAD,  t, 2 u8, i u16)                       N <= i < 2^depth
    node       H(BATCH_NODE, t, 1 u8, level u8, j u16, left, right)   parents of leaves: level 1
    signed     BATCH_ROOT || t || root || N u16
    proof      t 32 | N u16 | i u16 | r_i 32 | path 32 * depth | root signature (may be empty)

depth = ceil(log2 N), N <= 1024, integers big-endian.  One message is a tree of one: depth 0, the
leaf is the root.  The signer takes whatever queued while it was busy, so it adds no delay when
idle and divides the cost when loaded.
"""

from __future__ import annotations

from collections import OrderedDict
from struct import Struct
from typing import TYPE_CHECKING, NamedTuple

from ..errors import BadSignature, DecodeError
from .labels import BATCH_LEAF, BATCH_NODE, BATCH_PAD, BATCH_ROOT, tagged_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .api import SigningKey, VerifyKey

MAX_BATCH = 1024
"""Messages under one root. More would save nothing: the signature is already divided by 1,024."""
HASH_SIZE = 32
TREE_ID_SIZE = 32
HEADER_SIZE = 32 + 2 + 2 + 32

_HEADER = Struct(">32sHH32s")
_U16 = Struct(">H")
_LEAF_INDEX = Struct(">BH")  # domain byte, index
_NODE_INDEX = Struct(">BBH")  # domain byte, level, index


class Proof(NamedTuple):
    """A proof taken apart."""

    tree_id: bytes
    size: int
    """N, the number of messages in the tree, 1..1024."""
    leaf: int
    """i < N."""
    r: bytes
    path: bytes
    """The siblings from the leaf up, 32 bytes each."""
    signature: bytes
    """Of the root; empty if the verifier is expected to hold it."""


def depth(size: int) -> int:
    """ceil(log2 size)."""
    return (size - 1).bit_length()


def leaf_hash(tree_id: bytes, index: int, r: bytes, message: bytes) -> bytes:
    return tagged_hash(BATCH_LEAF, tree_id, _LEAF_INDEX.pack(0, index), r, message)


def node_hash(tree_id: bytes, level: int, index: int, left: bytes, right: bytes) -> bytes:
    return tagged_hash(BATCH_NODE, tree_id, _NODE_INDEX.pack(1, level, index), left, right)


def pad_hash(tree_id: bytes, index: int) -> bytes:
    return tagged_hash(BATCH_PAD, tree_id, _LEAF_INDEX.pack(2, index))


def root_statement(tree_id: bytes, root: bytes, size: int) -> bytes:
    """The bytes that the signature of a tree covers."""
    return BATCH_ROOT + tree_id + root + _U16.pack(size)


def parse_proof(proof: bytes) -> Proof:
    """Take a proof apart. Raises DecodeError on a wrong size, index or path length."""
    if len(proof) < HEADER_SIZE:
        raise DecodeError(f"batch proof is cut short at {len(proof)} bytes")
    tree_id, size, index, r = _HEADER.unpack_from(proof)
    if not 1 <= size <= MAX_BATCH or index >= size:
        raise DecodeError(f"batch proof claims leaf {index} of {size}")
    end = HEADER_SIZE + HASH_SIZE * depth(size)
    if len(proof) < end:
        raise DecodeError(f"batch proof for {size} messages lacks a part of its path")
    return Proof(tree_id, size, index, r, proof[HEADER_SIZE:end], proof[end:])


def strip_root(proof: bytes) -> bytes:
    """The proof without its root signature, for a peer that holds it. Raises DecodeError."""
    signature = parse_proof(proof).signature
    return proof[: len(proof) - len(signature)]


def attach_root(proof: bytes, root_signature: bytes) -> bytes:
    """The proof with `root_signature` in place of what it carried. Raises DecodeError."""
    return strip_root(proof) + root_signature


def _levels(tree_id: bytes, leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The tree as levels, leaves (with padding) first and [root] last."""
    size = len(leaves)
    row = [*leaves, *(pad_hash(tree_id, i) for i in range(size, 1 << depth(size)))]
    levels = [row]
    while len(row) > 1:
        level = len(levels)
        row = [node_hash(tree_id, level, j, row[2 * j], row[2 * j + 1]) for j in range(len(row) // 2)]
        levels.append(row)
    return levels


def _root(p: Proof, message: bytes) -> bytes:
    """The root that the path leads to."""
    node = leaf_hash(p.tree_id, p.leaf, p.r, message)
    index = p.leaf
    for level in range(1, depth(p.size) + 1):
        sibling = p.path[HASH_SIZE * (level - 1) : HASH_SIZE * level]
        left, right = (sibling, node) if index & 1 else (node, sibling)
        index >>= 1
        node = node_hash(p.tree_id, level, index, left, right)
    return node


class Job(NamedTuple):
    """One batch with all its randomness drawn: signing it depends on nothing else."""

    tree_id: bytes
    tickets: tuple[int, ...]
    messages: tuple[bytes, ...]
    rs: tuple[bytes, ...]

    def sign(self, key: SigningKey, ctx: bytes) -> list[tuple[int, bytes]]:
        """(ticket, proof with root signature) for each message. Pure; may run in a thread."""
        t, size = self.tree_id, len(self.messages)
        leaves = [leaf_hash(t, i, r, m) for i, (r, m) in enumerate(zip(self.rs, self.messages, strict=True))]
        if size == 1:
            signature = key.sign(root_statement(t, leaves[0], 1), ctx)
            return [(self.tickets[0], _HEADER.pack(t, 1, 0, self.rs[0]) + signature)]
        levels = _levels(t, leaves)
        signature = key.sign(root_statement(t, levels.pop()[0], size), ctx)
        out = []
        for i, (ticket, r) in enumerate(zip(self.tickets, self.rs, strict=True)):
            path = [row[(i >> level) ^ 1] for level, row in enumerate(levels)]
            out.append((ticket, b"".join((_HEADER.pack(t, size, i, r), *path, signature))))
        return out


class BatchSigner:
    """The queue of what waits to be signed. No thread, no key inside.

    ticket = signer.submit(message)
    job = signer.take()                 # all that waits, up to a limit
    for ticket, proof in job.sign(key, ctx): ...
    """

    __slots__ = ("_next", "_queue", "_random_bytes")

    def __init__(self, random_bytes: Callable[[int], bytes]) -> None:
        self._random_bytes = random_bytes
        self._queue: list[bytes] = []
        self._next = 0  # ticket of the first message in the queue

    def __len__(self) -> int:
        """Messages waiting."""
        return len(self._queue)

    def submit(self, message: bytes) -> int:
        """Queue a message; the ticket says which proof is its own."""
        self._queue.append(message)
        return self._next + len(self._queue) - 1

    def take(self, limit: int = MAX_BATCH) -> Job | None:
        """The oldest messages, at most `limit` (1..1024), as a job; None if nothing waits."""
        if not 1 <= limit <= MAX_BATCH:
            raise ValueError(f"limit must be 1..{MAX_BATCH}, got {limit}")
        if not self._queue:
            return None
        messages = tuple(self._queue[:limit])
        del self._queue[:limit]
        tickets = tuple(range(self._next, self._next + len(messages)))
        self._next += len(messages)
        coins = self._random_bytes(32 * (len(messages) + 1))
        rs = tuple(coins[i : i + 32] for i in range(32, len(coins), 32))
        return Job(coins[:32], tickets, messages, rs)


class BatchVerifier:
    """Checks proofs and remembers the last `capacity` roots with their signatures.

    A root's signature is checked once.  A remembered root admits proofs that leave the signature
    out, and `complete` puts it back before an envelope is kept or forwarded.
    """

    __slots__ = ("_roots", "capacity")

    def __init__(self, capacity: int = 4096) -> None:
        self.capacity = capacity
        """Roots kept; each takes about 3.5 kB with its ML-DSA-65 signature."""
        self._roots: OrderedDict[tuple[bytes, bytes, bytes, int, bytes], bytes] = OrderedDict()

    def __len__(self) -> int:
        """Roots remembered."""
        return len(self._roots)

    def verify(self, proof: bytes, message: bytes, signer: bytes, key: VerifyKey, ctx: bytes) -> None:
        """Check that `signer`, whose key is `key`, signed `message` under `ctx`.

        Raises DecodeError on a malformed proof and BadSignature on a wrong one, also where the root
        signature is left out and the root is not (or no longer) remembered: `reason` is then
        "unknown-root", which accuses nobody.
        """
        p = parse_proof(proof)
        root = _root(p, message)
        entry = (signer, p.tree_id, root, p.size, ctx)
        known = self._roots.get(entry)
        if known is None:
            if not p.signature:
                raise BadSignature("the root signature was left out and is not known", reason="unknown-root")
            key.verify(p.signature, root_statement(p.tree_id, root, p.size), ctx)
            self._roots[entry] = p.signature
            if len(self._roots) > self.capacity:
                self._roots.popitem(last=False)
            return
        # A signature that came along must hold even where the root is known: the next reader of
        # this envelope may know nothing, and must not blame whoever passed it on.
        if p.signature and p.signature != known:
            key.verify(p.signature, root_statement(p.tree_id, root, p.size), ctx)
        self._roots.move_to_end(entry)

    def complete(self, proof: bytes, message: bytes, signer: bytes, ctx: bytes) -> bytes:
        """The proof with its root signature, taken from memory if it was left out.

        For proofs that `verify` accepted. Raises DecodeError, and BadSignature ("unknown-root").
        """
        p = parse_proof(proof)
        if p.signature:
            return proof
        known = self._roots.get((signer, p.tree_id, _root(p, message), p.size, ctx))
        if known is None:
            raise BadSignature("the root signature was left out and is not known", reason="unknown-root")
        return proof + known
