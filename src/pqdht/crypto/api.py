"""What the rest of pqdht asks of cryptography: KEMs, signers, and the suite that names them.

Key objects are made once and kept: parsing and expanding keys costs more than using them.  Secret
keys live as seeds, so a key made under one provider loads under any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class KemPrivateKey(Protocol):
    """A decapsulation key."""

    @property
    def seed(self) -> bytes: ...
    @property
    def public(self) -> bytes: ...
    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The 32-byte shared secret. Raises DecodeError on a wrong length."""
        ...


class KemPublicKey(Protocol):
    """An encapsulation key."""

    def encapsulate(self) -> tuple[bytes, bytes]:
        """(ciphertext, 32-byte shared secret), fresh each call."""
        ...


class Kem(Protocol):
    """A key encapsulation mechanism (FIPS 203, or X-Wing)."""

    @property
    def name(self) -> str:
        """As in Noise protocol names: `XWing`, `MLKEM768`, `MLKEM1024`."""
        ...

    @property
    def seed_size(self) -> int: ...
    @property
    def public_size(self) -> int: ...
    @property
    def ciphertext_size(self) -> int: ...
    def generate(self) -> KemPrivateKey: ...
    def private_key(self, seed: bytes) -> KemPrivateKey:
        """Raises ValueError on a wrong length."""
        ...

    def public_key(self, public: bytes) -> KemPublicKey:
        """Raises DecodeError on a wrong length or a key outside the range (FIPS 203, 7.2)."""
        ...


class SigningKey(Protocol):
    """A signature key."""

    @property
    def seed(self) -> bytes: ...
    @property
    def public(self) -> bytes: ...
    def sign(self, message: bytes, ctx: bytes) -> bytes: ...


class VerifyKey(Protocol):
    """A signature verification key."""

    def verify(self, signature: bytes, message: bytes, ctx: bytes) -> None:
        """Raises BadSignature. Nothing is returned, so nothing can be ignored."""
        ...


class Signer(Protocol):
    """A signature scheme (FIPS 204)."""

    @property
    def name(self) -> str: ...
    @property
    def seed_size(self) -> int: ...
    @property
    def public_size(self) -> int: ...
    @property
    def signature_size(self) -> int: ...
    def generate(self) -> SigningKey: ...
    def signing_key(self, seed: bytes) -> SigningKey:
        """Raises ValueError on a wrong length."""
        ...

    def verify_key(self, public: bytes) -> VerifyKey:
        """Raises DecodeError on a wrong length."""
        ...


class Provider(Protocol):
    """A source of primitives: OpenSSL through pyca, liboqs, or the fake of `pqdht.testing`."""

    @property
    def name(self) -> str: ...
    @property
    def inline(self) -> bool:
        """True where signing is so fast that an executor hop would cost more."""
        ...

    def kem(self, name: str) -> Kem: ...
    def signer(self, name: str) -> Signer: ...
    def random_bytes(self, n: int) -> bytes:
        """Secret randomness."""
        ...

    def puzzle_digest(self, secret: bytes, salt: bytes) -> bytes:
        """Argon2id(secret, salt[16], m = 256 KiB, t = 1, p = 1, 32 B) (RFC 9106)."""
        ...


@dataclass(frozen=True, slots=True)
class Suite:
    """The algorithms of one network (section 1), from one provider."""

    number: int
    provider: Provider
    node_signer: Signer
    owner_signer: Signer
    kem: Kem

    def random_bytes(self, n: int) -> bytes:
        return self.provider.random_bytes(n)


_ALGORITHMS = {
    1: ("ML-DSA-65", "ML-DSA-87", "XWing"),
    2: ("ML-DSA-87", "ML-DSA-87", "MLKEM1024"),
    3: ("ML-DSA-65", "ML-DSA-65", "MLKEM768"),
}

SUITES = tuple(_ALGORITHMS)


def make_suite(number: int, provider: Provider) -> Suite:
    """The suite `number` (1, 2 or 3) over `provider`. Raises ValueError."""
    if number not in _ALGORITHMS:
        raise ValueError(f"no suite {number}; use one of {sorted(_ALGORITHMS)}")
    node, owner, kem = _ALGORITHMS[number]
    return Suite(number, provider, provider.signer(node), provider.signer(owner), provider.kem(kem))
