"""The fake suite: INSECURE cryptography for byte-exact replay.  NEVER use it outside tests.

Everything here is computable from public keys alone: anybody can forge every signature and open
every ciphertext.  What it keeps of the real suites is what a simulation needs: the names, the exact
length of every key, signature and ciphertext (so that byte counts are true), the errors, and that a
change of key, message, context, signature or ciphertext is noticed.  What it adds: all randomness
comes from one seed, so a run can be replayed byte for byte (real ML-KEM takes no coins from its
caller), and an operation costs microseconds.

Keys, signatures and ciphertexts are 32 telling bytes followed by zeros.
"""

from __future__ import annotations

import random
from hashlib import blake2b, sha3_256

from ..crypto.api import Kem, Signer, Suite, make_suite
from ..errors import BadSignature, DecodeError

_CORE = 32
_MAX_CONTEXT = 255  # FIPS 204, section 5.2

# name: (seed, public key, signature) bytes, FIPS 204, section 4, table 2
_SIGNERS = {"ML-DSA-65": (32, 1952, 3309), "ML-DSA-87": (32, 2592, 4627)}
# name: (seed, public key, ciphertext) bytes, FIPS 203, section 8, table 3; draft-connolly-cfrg-xwing-kem
_KEMS = {"MLKEM768": (64, 1184, 1088), "MLKEM1024": (64, 1568, 1568), "XWing": (32, 1216, 1120)}


def _digest(data: bytes, key: bytes, algorithm: str) -> bytes:
    return blake2b(data, digest_size=_CORE, key=key, person=algorithm.encode()).digest()


class _VerifyKey:
    __slots__ = ("_algorithm", "_key", "_padding")

    def __init__(self, scheme: FakeSigner, public: bytes) -> None:
        self._algorithm = scheme.name
        self._key = _digest(public, b"", scheme.name)  # of the whole key: a changed zero counts too
        self._padding = bytes(scheme.signature_size - _CORE)

    def expected(self, message: bytes, ctx: bytes) -> bytes:
        if len(ctx) > _MAX_CONTEXT:
            raise ValueError(f"context of {len(ctx)} bytes, at most {_MAX_CONTEXT}")
        return _digest(bytes((len(ctx),)) + ctx + message, self._key, self._algorithm) + self._padding

    def verify(self, signature: bytes, message: bytes, ctx: bytes) -> None:
        if signature != self.expected(message, ctx):
            raise BadSignature("the signature does not verify")


class _SigningKey:
    __slots__ = ("_key", "public", "seed")

    def __init__(self, scheme: FakeSigner, seed: bytes) -> None:
        self.seed = seed
        self.public = _digest(seed, b"", scheme.name) + bytes(scheme.public_size - _CORE)
        self._key = _VerifyKey(scheme, self.public)

    def sign(self, message: bytes, ctx: bytes) -> bytes:
        return self._key.expected(message, ctx)


class FakeSigner:
    """INSECURE stand-in for ML-DSA: same name and lengths, deterministic, forgeable by anybody."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name = name
        self.seed_size, self.public_size, self.signature_size = _SIGNERS[name]
        self._dice = dice

    def generate(self) -> _SigningKey:
        return _SigningKey(self, self._dice.randbytes(self.seed_size))

    def signing_key(self, seed: bytes) -> _SigningKey:
        """Raises ValueError on a wrong length."""
        if len(seed) != self.seed_size:
            raise ValueError(f"{self.name} seed of {len(seed)} bytes, must be {self.seed_size}")
        return _SigningKey(self, bytes(seed))

    def verify_key(self, public: bytes) -> _VerifyKey:
        """Raises DecodeError on a wrong length."""
        if len(public) != self.public_size:
            raise DecodeError(f"{self.name} public key of {len(public)} bytes, must be {self.public_size}")
        return _VerifyKey(self, public)


class _KemPublicKey:
    __slots__ = ("_dice", "_padding", "_secret")

    def __init__(self, kem: FakeKem, dice: random.Random, public: bytes) -> None:
        self._secret = _KemSecret(kem, public)
        self._padding = bytes(kem.ciphertext_size - _CORE)
        self._dice = dice

    def encapsulate(self) -> tuple[bytes, bytes]:
        ciphertext = self._dice.randbytes(_CORE) + self._padding
        return ciphertext, self._secret.of(ciphertext)


class _KemSecret:
    """The shared secret both ends compute: a hash of the public key and the ciphertext."""

    __slots__ = ("_algorithm", "_key")

    def __init__(self, kem: FakeKem, public: bytes) -> None:
        self._algorithm = kem.name
        self._key = _digest(public, b"", kem.name)

    def of(self, ciphertext: bytes) -> bytes:
        return _digest(ciphertext, self._key, self._algorithm)


class _KemPrivateKey:
    __slots__ = ("_ciphertext_size", "_secret", "public", "seed")

    def __init__(self, kem: FakeKem, seed: bytes) -> None:
        self.seed = seed
        self.public = _digest(seed, b"", kem.name) + bytes(kem.public_size - _CORE)
        self._secret = _KemSecret(kem, self.public)
        self._ciphertext_size = kem.ciphertext_size

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """A changed ciphertext or another key gives another secret (implicit rejection, FIPS 203)."""
        if len(ciphertext) != self._ciphertext_size:
            raise DecodeError(f"ciphertext of {len(ciphertext)} bytes, must be {self._ciphertext_size}")
        return self._secret.of(ciphertext)


class FakeKem:
    """INSECURE stand-in for ML-KEM and X-Wing: same name and lengths, openable by anybody."""

    def __init__(self, name: str, dice: random.Random) -> None:
        self.name = name
        self.seed_size, self.public_size, self.ciphertext_size = _KEMS[name]
        self._dice = dice

    def generate(self) -> _KemPrivateKey:
        return _KemPrivateKey(self, self._dice.randbytes(self.seed_size))

    def private_key(self, seed: bytes) -> _KemPrivateKey:
        """Raises ValueError on a wrong length."""
        if len(seed) != self.seed_size:
            raise ValueError(f"{self.name} seed of {len(seed)} bytes, must be {self.seed_size}")
        return _KemPrivateKey(self, bytes(seed))

    def public_key(self, public: bytes) -> _KemPublicKey:
        """Raises DecodeError on a wrong length, or on bytes after the first 32 that are not zero: the
        stand-in for a key outside the range (FIPS 203, 7.2), which random bytes are as good as always."""
        if len(public) != self.public_size:
            raise DecodeError(f"{self.name} public key of {len(public)} bytes, must be {self.public_size}")
        if public.count(0, _CORE) != self.public_size - _CORE:
            raise DecodeError(f"{self.name} public key outside the range")
        return _KemPublicKey(self, self._dice, public)


class FakeProvider:
    """INSECURE source of primitives, replayable from `seed`.  For simulations only.

    Two providers of one seed give the same bytes in the same order; give each simulated node its
    own, so that what one draws does not depend on when another does.
    """

    name = "fake"
    inline = True

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._signers = {name: FakeSigner(name, self._dice) for name in _SIGNERS}
        self._kems = {name: FakeKem(name, self._dice) for name in _KEMS}

    def kem(self, name: str) -> Kem:
        """`MLKEM768`, `MLKEM1024` or `XWing`. Raises KeyError."""
        return self._kems[name]

    def signer(self, name: str) -> Signer:
        """`ML-DSA-65` or `ML-DSA-87`. Raises KeyError."""
        return self._signers[name]

    def random_bytes(self, n: int) -> bytes:
        """Not random at all: the next `n` bytes of the seed's sequence."""
        return self._dice.randbytes(n)

    def puzzle_digest(self, secret: bytes, salt: bytes) -> bytes:
        """SHA3-256 in place of Argon2id: the same length, none of the cost."""
        return sha3_256(b"pqdht fake puzzle\0" + salt + secret).digest()


def fake_suite(number: int = 1, seed: int = 0) -> Suite:
    """Suite `number` (1, 2 or 3) over `FakeProvider(seed)`.  INSECURE.  Raises ValueError."""
    return make_suite(number, FakeProvider(seed))
