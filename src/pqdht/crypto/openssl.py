"""The provider on any machine: OpenSSL through pyca cryptography.

pyca's `encapsulate` returns (secret, ciphertext); here, as everywhere in pqdht, it is the other
way round.  pyca answers wrong lengths and out-of-range keys with ValueError.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import mldsa, mlkem
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from ..errors import BadSignature, DecodeError
from .xwing import XWing

if TYPE_CHECKING:
    from .api import Kem, Signer

    MlkemPrivate = mlkem.MLKEM768PrivateKey | mlkem.MLKEM1024PrivateKey
    MlkemPublic = mlkem.MLKEM768PublicKey | mlkem.MLKEM1024PublicKey
    MldsaPrivate = mldsa.MLDSA65PrivateKey | mldsa.MLDSA87PrivateKey
    MldsaPublic = mldsa.MLDSA65PublicKey | mldsa.MLDSA87PublicKey

MAX_CTX = 255
"""FIPS 204, 5.2: the length of `ctx` is one byte."""


def puzzle_digest(secret: bytes, salt: bytes) -> bytes:
    """Argon2id(secret, salt[16], m = 256 KiB, t = 1, p = 1, 32 B) (RFC 9106), about 150 us.

    pyca releases the GIL: two threads on two cores measured 1.9 times one, so solving needs
    threads, not processes.
    """
    return Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=256).derive(secret)


class OpenSSLKemPrivateKey:
    """An ML-KEM decapsulation key."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, key: MlkemPrivate) -> None:
        self._key = key
        self.seed = key.private_bytes_raw()
        self.public = key.public_key().public_bytes_raw()

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The 32-byte shared secret. Raises DecodeError on a wrong length."""
        try:
            return self._key.decapsulate(ciphertext)
        except ValueError as e:
            raise DecodeError(f"{e}: {len(ciphertext)} bytes") from None


class OpenSSLKemPublicKey:
    """An ML-KEM encapsulation key."""

    __slots__ = ("_key",)

    def __init__(self, key: MlkemPublic) -> None:
        self._key = key

    def encapsulate(self) -> tuple[bytes, bytes]:
        """(ciphertext, 32-byte shared secret), fresh each call."""
        secret, ciphertext = self._key.encapsulate()
        return ciphertext, secret


@dataclass(frozen=True, slots=True)
class OpenSSLKem:
    """ML-KEM (FIPS 203)."""

    name: str
    public_size: int
    ciphertext_size: int
    _private: type[MlkemPrivate]
    _public: type[MlkemPublic]
    seed_size: int = 64

    def generate(self) -> OpenSSLKemPrivateKey:
        return OpenSSLKemPrivateKey(self._private.generate())

    def private_key(self, seed: bytes) -> OpenSSLKemPrivateKey:
        """Raises ValueError on a wrong length."""
        return OpenSSLKemPrivateKey(self._private.from_seed_bytes(seed))

    def public_key(self, public: bytes) -> OpenSSLKemPublicKey:
        """Raises DecodeError on a wrong length or a key outside the range (FIPS 203, 7.2)."""
        try:
            return OpenSSLKemPublicKey(self._public.from_public_bytes(public))
        except ValueError:
            # pyca reports a coefficient >= q with the text for a wrong length: say both.
            raise DecodeError(
                f"{self.name} public key has the wrong length or a coefficient out of range"
            ) from None


class OpenSSLSigningKey:
    """An ML-DSA signing key."""

    __slots__ = ("_key", "public", "seed")

    def __init__(self, key: MldsaPrivate) -> None:
        self._key = key
        self.seed = key.private_bytes_raw()
        self.public = key.public_key().public_bytes_raw()

    def sign(self, message: bytes, ctx: bytes) -> bytes:
        """A hedged signature (FIPS 204, algorithm 2). Raises ValueError if `ctx` exceeds 255 bytes."""
        return self._key.sign(message, ctx)


class OpenSSLVerifyKey:
    """An ML-DSA verification key."""

    __slots__ = ("_key",)

    def __init__(self, key: MldsaPublic) -> None:
        self._key = key

    def verify(self, signature: bytes, message: bytes, ctx: bytes) -> None:
        """Raises BadSignature; ValueError if `ctx` exceeds 255 bytes."""
        try:
            self._key.verify(signature, message, ctx)
        except InvalidSignature:
            raise BadSignature("ML-DSA signature does not verify") from None


@dataclass(frozen=True, slots=True)
class OpenSSLSigner:
    """ML-DSA (FIPS 204), hedged, pure (not pre-hashed)."""

    name: str
    public_size: int
    signature_size: int
    _private: type[MldsaPrivate]
    _public: type[MldsaPublic]
    seed_size: int = 32

    def generate(self) -> OpenSSLSigningKey:
        return OpenSSLSigningKey(self._private.generate())

    def signing_key(self, seed: bytes) -> OpenSSLSigningKey:
        """Raises ValueError on a wrong length."""
        return OpenSSLSigningKey(self._private.from_seed_bytes(seed))

    def verify_key(self, public: bytes) -> OpenSSLVerifyKey:
        """Raises DecodeError on a wrong length."""
        try:
            return OpenSSLVerifyKey(self._public.from_public_bytes(public))
        except ValueError:
            raise DecodeError(
                f"{self.name} public key is {self.public_size} bytes, got {len(public)}"
            ) from None


class OpenSSLProvider:
    """Primitives from pyca cryptography."""

    name = "openssl"
    inline = False  # signing takes about 1 ms

    def __init__(self) -> None:
        mlkem768 = OpenSSLKem("MLKEM768", 1184, 1088, mlkem.MLKEM768PrivateKey, mlkem.MLKEM768PublicKey)
        mlkem1024 = OpenSSLKem("MLKEM1024", 1568, 1568, mlkem.MLKEM1024PrivateKey, mlkem.MLKEM1024PublicKey)
        xwing = XWing(mlkem768, self.random_bytes)
        self._kems: dict[str, Kem] = {k.name: k for k in (mlkem768, mlkem1024, xwing)}
        mldsa65 = OpenSSLSigner("ML-DSA-65", 1952, 3309, mldsa.MLDSA65PrivateKey, mldsa.MLDSA65PublicKey)
        mldsa87 = OpenSSLSigner("ML-DSA-87", 2592, 4627, mldsa.MLDSA87PrivateKey, mldsa.MLDSA87PublicKey)
        self._signers: dict[str, Signer] = {s.name: s for s in (mldsa65, mldsa87)}

    def kem(self, name: str) -> Kem:
        """`MLKEM768`, `MLKEM1024` or `XWing`. Raises KeyError."""
        return self._kems[name]

    def signer(self, name: str) -> Signer:
        """`ML-DSA-65` or `ML-DSA-87`. Raises KeyError."""
        return self._signers[name]

    def random_bytes(self, n: int) -> bytes:
        """From the operating system."""
        return os.urandom(n)

    def puzzle_digest(self, secret: bytes, salt: bytes) -> bytes:
        return puzzle_digest(secret, salt)
