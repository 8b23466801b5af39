"""Does an ML-DSA verifier make the checks that fast ones have left out?

Until June 2026 the AVX2 code of pq-crystals/dilithium, and with it liboqs up to 0.14, accepted
signatures that FIPS 204 refuses: z was not bounded (algorithm 8, line 13; pq-crystals/dilithium
issue 113), and UseHint (algorithm 40) took r0 = 0 for positive.  Whoever holds a key can make such
a signature, and honest nodes that accept it would be accused by those that do not.  So no library
is used before it has answered this probe; `scripts/install-liboqs` mends what it builds.

The public key is all zeros: then t1 = 0, the challenge drops out, and w' = A z, so that anybody can
sign.  Standard library only, because scripts/install-liboqs runs this file on its own.
"""

from __future__ import annotations

from hashlib import shake_256
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class _Set(NamedTuple):
    k: int
    ell: int
    beta: int
    omega: int
    c_tilde: int  # bytes
    # c~ for z = (bound, 0, 0, ...) with bound = gamma1 - beta - 1, which is in range, and one more,
    # which is not; recomputed with dilithium-py by tests/unit/crypto/test_mldsa_probe.py
    at_bound: str
    over_bound: str


_SETS = {
    "ML-DSA-65": _Set(
        6, 5, 196, 55, 48,
        "ab6c983b4c76d8cd8860fbd1b8141bfdf5d80b6388811a8c07b70ce6b13152db"
        "e9fa2effac2f445e2aa6f3af800487de",
        "4de0e3f0a684a48d5e488006408784f07f80a90ad450e7834dceee16a63f9193"
        "02af6f8fd9e26c57f248668ecb8c6625",
    ),
    "ML-DSA-87": _Set(
        8, 7, 120, 75, 64,
        "f423323402d6f67786056da78d4354a27c818cdad32d4554edf608c96c5cd257"
        "d92d5bed1af0091befe6a2af7bee9cf502fd57ffab155688fff2d903b1d3ff69",
        "ec4c93de741c23e65e66b2d1b208eb9059732ca01872f1646867a87e8625901"
        "913b5763421502538bd152da02bfbcaf531e2a5ddd9f0e4351c5a3b6620c12b17",
    ),
}  # fmt: skip

_GAMMA1 = 1 << 19


class Case(NamedTuple):
    """A signature of the empty message under an empty context and an all-zero public key."""

    what: str
    signature: bytes
    valid: bool


def public_key(name: str) -> bytes:
    return bytes(32 + 320 * _SETS[name].k)


def cases(name: str) -> list[Case]:
    """The signatures of the probe for `ML-DSA-65` or `ML-DSA-87`."""
    s = _SETS[name]
    mu = shake_256(shake_256(public_key(name)).digest(64) + b"\0\0").digest(64)

    def signature(c_tilde: bytes, z0: int, hint: bool = False) -> bytes:
        """With z = (z0, 0, 0, ...) and, if asked, the hint of the very first coefficient."""
        z = sum((_GAMMA1 - (0 if i else z0)) << 20 * i for i in range(256 * s.ell))
        counts = bytes([hint]) * s.k  # the position 0 itself reads as padding
        return c_tilde + z.to_bytes(640 * s.ell, "little") + bytes(s.omega) + counts

    def c_tilde(first: int) -> bytes:
        """For w1 = (first, 0, 0, ...), four bits each."""
        return shake_256(mu + bytes([first]) + bytes(128 * s.k - 1)).digest(s.c_tilde)

    bound = _GAMMA1 - s.beta
    return [
        Case("z = 0", signature(c_tilde(0), 0), True),
        Case("a hint where r0 = 0", signature(c_tilde(15), 0, hint=True), True),
        Case("a hint where r0 = 0, taken for positive", signature(c_tilde(1), 0, hint=True), False),
        Case("z at its bound", signature(bytes.fromhex(s.at_bound), bound - 1), True),
        Case("z over its bound", signature(bytes.fromhex(s.over_bound), bound), False),
    ]


def fault(name: str, verify: Callable[..., Any]) -> str | None:
    """What OQS_SIG_*_verify_with_ctx_str answers wrongly, or None. Takes about 0.3 ms."""
    for case in cases(name):
        status = verify(b"", 0, case.signature, len(case.signature), b"", 0, public_key(name))
        if (status == 0) != case.valid:
            return f"{name} {'refuses' if case.valid else 'accepts'} {case.what}"
    return None
