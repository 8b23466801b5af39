"""Batch signatures written a second time, straight from section 4, with nothing of `pqdht`.

Recursive where the code is a loop; `python tests/unit/crypto/batch_reference.py` prints what
tests/vectors/batch.json holds (but for its one ML-DSA signature, which is random).
"""

from __future__ import annotations

import json
from hashlib import sha3_256
from typing import Any

SIZES = (1, 2, 3, 5, 1024)
TREE_ID = bytes(range(32))


def h(label: str, *parts: bytes) -> bytes:
    return sha3_256(b"pqdht/1/" + label.encode() + b"\0" + b"".join(parts)).digest()


def u16(n: int) -> bytes:
    return n.to_bytes(2, "big")


def coin(i: int) -> bytes:
    return sha3_256(b"r" + u16(i)).digest()


def message(i: int) -> bytes:
    return b"message %d" % i


def node(level: int, j: int, n: int) -> bytes:
    """The tree of messages 0..n-1, at height `level` above the leaves, the j-th from the left."""
    if level:
        left, right = node(level - 1, 2 * j, n), node(level - 1, 2 * j + 1, n)
        return h("batch-node", TREE_ID, b"\1", bytes([level]), u16(j), left, right)
    if j < n:
        return h("batch-leaf", TREE_ID, b"\0", u16(j), coin(j), message(j))
    return h("batch-pad", TREE_ID, b"\2", u16(j))


def height(n: int) -> int:
    return next(d for d in range(11) if 2**d >= n)


def statement(n: int) -> bytes:
    return b"pqdht/1/batch-root\0" + TREE_ID + node(height(n), 0, n) + u16(n)


def proof(n: int, i: int) -> bytes:
    """Without the root signature."""
    path = b"".join(node(level, (i >> level) ^ 1, n) for level in range(height(n)))
    return TREE_ID + u16(n) + u16(i) + coin(i) + path


def vectors() -> list[dict[str, Any]]:
    return [
        {
            "n": n,
            "root": node(height(n), 0, n).hex(),
            "proofs": {str(i): proof(n, i).hex() for i in sorted({0, n // 2, n - 1})},
        }
        for n in SIZES
    ]


if __name__ == "__main__":
    print(json.dumps(vectors(), indent=1))
