"""The fast provider: ML-KEM and ML-DSA from the liboqs shared library.

Bound with cffi to the per-algorithm C functions, not through liboqs-python: importing that may
clone, build and exit, it logs to standard output, and it has no ML-KEM key from a seed.  These
functions read fixed lengths from bare pointers, so every length is checked here first.  X25519 and
Argon2id come from pyca, as in the OpenSSL provider.

liboqs cannot expand an ML-DSA seed; dilithium-py does it (FIPS 204, algorithm 6) when a key is
loaded, about 10 ms, and the public key must then equal pyca's.  liboqs's randombytes hook is never
touched: it is process-wide.
"""

from __future__ import annotations

import ctypes.util
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cffi
from cryptography.hazmat.primitives.asymmetric import mldsa
from dilithium_py.ml_dsa import ML_DSA_65, ML_DSA_87

from ..errors import BadSignature, DecodeError, ProviderUnavailable
from . import mldsa_probe
from .openssl import MAX_CTX, puzzle_digest
from .xwing import XWing

if TYPE_CHECKING:
    from .api import Kem, Signer

LIBRARY_VARIABLE = "PQDHT_LIBOQS"
"""Environment variable with the path of the shared library; overrides the search."""

_Q = 3329  # the ML-KEM modulus

_KEM_CDEF = """
int OQS_KEM_{0}_keypair_derand(uint8_t *ek, uint8_t *dk, const uint8_t *seed);
int OQS_KEM_{0}_encaps(uint8_t *ct, uint8_t *ss, const uint8_t *ek);
int OQS_KEM_{0}_decaps(uint8_t *ss, const uint8_t *ct, const uint8_t *dk);
"""
_SIG_CDEF = """
int OQS_SIG_{0}_sign_with_ctx_str(uint8_t *sig, size_t *sig_len, const uint8_t *m, size_t m_len,
                                  const uint8_t *ctx, size_t ctx_len, const uint8_t *sk);
int OQS_SIG_{0}_verify_with_ctx_str(const uint8_t *m, size_t m_len, const uint8_t *sig, size_t sig_len,
                                    const uint8_t *ctx, size_t ctx_len, const uint8_t *pk);
"""
_CDEF = "void OQS_init(void);" + "".join(
    [_KEM_CDEF.format(a) for a in ("ml_kem_768", "ml_kem_1024")]
    + [_SIG_CDEF.format(a) for a in ("ml_dsa_65", "ml_dsa_87")]
)


def find_library() -> str | None:
    """Path (or soname) of liboqs: $PQDHT_LIBOQS, else <sys.prefix>/lib (where scripts/install-liboqs
    puts it), else wherever the system's loader looks."""
    chosen = os.environ.get(LIBRARY_VARIABLE)
    if chosen:
        return chosen
    for folder in ("lib", "lib64"):
        for name in ("liboqs.so", "liboqs.dylib"):
            path = Path(sys.prefix, folder, name)
            if path.exists():
                return str(path)
    return ctypes.util.find_library("oqs")


# One handle per path: it holds C functions and nothing that two nodes could share.
@cache
def _open(path: str) -> tuple[Any, Any]:
    """(ffi, lib). Raises ProviderUnavailable."""
    ffi = cffi.FFI()
    ffi.cdef(_CDEF)
    try:
        lib: Any = ffi.dlopen(path)
        for function in dir(lib):  # resolves each symbol
            getattr(lib, function)
    except (OSError, AttributeError) as e:
        raise ProviderUnavailable(
            f"cannot use liboqs at {path} ({e}); it must be 0.13 or newer with ML-KEM and ML-DSA. "
            "Run scripts/install-liboqs, or set provider = openssl",
            provider="liboqs",
        ) from e
    lib.OQS_init()
    for name, verify in (
        ("ML-DSA-65", lib.OQS_SIG_ml_dsa_65_verify_with_ctx_str),
        ("ML-DSA-87", lib.OQS_SIG_ml_dsa_87_verify_with_ctx_str),
    ):
        wrong = mldsa_probe.fault(name, verify)
        if wrong:
            raise ProviderUnavailable(
                f"liboqs at {path} is unsafe: {wrong}. Run scripts/install-liboqs, or set provider = openssl",
                provider="liboqs",
            )
    return ffi, lib


def _failed(what: str) -> ProviderUnavailable:
    """For a failure inside liboqs on inputs it must accept: no memory or no randomness."""
    return ProviderUnavailable(f"liboqs failed to {what}; set provider = openssl", provider="liboqs")


def _in_range(ek: bytes) -> bool:
    """The modulus check of FIPS 203, 7.2: every 12-bit coefficient of `ek` (without rho) is < q.

    liboqs leaves it out; 768 or 1,024 coefficients are checked at once in two wide integers.
    """
    packed = int.from_bytes(ek[:-32], "little")
    slots = (len(ek) - 32) // 3  # pairs of coefficients, 24 bits each
    ones = int.from_bytes(b"\1\0\0" * slots, "little")
    low, carry = ones * 0xFFF, ones << 12
    lift = ones * (4096 - _Q)  # carries into bit 12 iff the coefficient is >= q
    return not ((packed & low) + lift | (packed >> 12 & low) + lift) & carry


class LiboqsKemPrivateKey:
    """An ML-KEM decapsulation key."""

    __slots__ = ("_dk", "_kem", "public", "seed")

    def __init__(self, kem: LiboqsKem, seed: bytes) -> None:
        new, view = kem.ffi.new, kem.ffi.buffer
        ek, dk = new(kem.ek_type), new(kem.dk_type)
        if kem.keypair_derand(ek, dk, seed):
            raise _failed(f"make an {kem.name} key")
        self._kem = kem
        self._dk: bytes = view(dk)[:]
        self.seed = seed
        self.public: bytes = view(ek)[:]

    def decapsulate(self, ciphertext: bytes) -> bytes:
        """The 32-byte shared secret. Raises DecodeError on a wrong length."""
        kem = self._kem
        if len(ciphertext) != kem.ciphertext_size:
            raise DecodeError(f"Invalid {kem.name} ciphertext: {len(ciphertext)} bytes")
        ss = kem.ffi.new(kem.ss_type)
        if kem.decaps(ss, ciphertext, self._dk):
            raise _failed(f"decapsulate {kem.name}")
        secret: bytes = kem.ffi.buffer(ss)[:]
        return secret


class LiboqsKemPublicKey:
    """An ML-KEM encapsulation key."""

    __slots__ = ("_ek", "_kem")

    def __init__(self, kem: LiboqsKem, ek: bytes) -> None:
        self._kem = kem
        self._ek = ek

    def encapsulate(self) -> tuple[bytes, bytes]:
        """(ciphertext, 32-byte shared secret), fresh each call."""
        kem = self._kem
        ct, ss = kem.ffi.new(kem.ct_type), kem.ffi.new(kem.ss_type)
        if kem.encaps(ct, ss, self._ek):
            raise _failed(f"encapsulate to {kem.name}")
        return kem.ffi.buffer(ct)[:], kem.ffi.buffer(ss)[:]


class LiboqsKem:
    """ML-KEM (FIPS 203)."""

    seed_size = 64

    def __init__(self, ffi: Any, lib: Any, name: str, function: str, sizes: tuple[int, int, int]) -> None:
        self.name = name
        self.public_size, dk_size, self.ciphertext_size = sizes
        # Types and functions are looked up once: per call that would cost more than the call.
        self.ffi = ffi
        self.ek_type = ffi.typeof(f"uint8_t[{self.public_size}]")
        self.dk_type = ffi.typeof(f"uint8_t[{dk_size}]")
        self.ct_type = ffi.typeof(f"uint8_t[{self.ciphertext_size}]")
        self.ss_type = ffi.typeof("uint8_t[32]")
        self.keypair_derand = getattr(lib, f"OQS_KEM_{function}_keypair_derand")
        self.encaps = getattr(lib, f"OQS_KEM_{function}_encaps")
        self.decaps = getattr(lib, f"OQS_KEM_{function}_decaps")

    def generate(self) -> LiboqsKemPrivateKey:
        return LiboqsKemPrivateKey(self, os.urandom(self.seed_size))

    def private_key(self, seed: bytes) -> LiboqsKemPrivateKey:
        """Raises ValueError on a wrong length."""
        if len(seed) != self.seed_size:
            raise ValueError(f"An {self.name} seed is {self.seed_size} bytes long")
        return LiboqsKemPrivateKey(self, seed)

    def public_key(self, public: bytes) -> LiboqsKemPublicKey:
        """Raises DecodeError on a wrong length or a key outside the range (FIPS 203, 7.2)."""
        if len(public) != self.public_size or not _in_range(public):
            raise DecodeError(f"{self.name} public key has the wrong length or a coefficient out of range")
        return LiboqsKemPublicKey(self, public)


class LiboqsSigningKey:
    """An ML-DSA signing key, expanded from its seed when made."""

    __slots__ = ("_signer", "_sk", "public", "seed")

    def __init__(self, signer: LiboqsSigner, seed: bytes) -> None:
        public, sk = signer.derive(seed)
        reference = signer.reference.from_seed_bytes(seed).public_key().public_bytes_raw()
        if public != reference or len(sk) != signer.secret_size:
            raise ProviderUnavailable(
                f"dilithium-py and OpenSSL disagree on an {signer.name} key; set provider = openssl",
                provider="liboqs",
            )
        self._signer = signer
        self._sk: bytes = sk
        self.seed = seed
        self.public: bytes = reference

    def sign(self, message: bytes, ctx: bytes) -> bytes:
        """A hedged signature (FIPS 204, algorithm 2). Raises ValueError if `ctx` exceeds 255 bytes."""
        if len(ctx) > MAX_CTX:
            raise ValueError(f"Context must be at most {MAX_CTX} bytes")
        s = self._signer
        sig, size = s.ffi.new(s.sig_type), s.ffi.new("size_t *")
        status = s.sign(sig, size, message, len(message), ctx, len(ctx), self._sk)
        if status or size[0] != s.signature_size:
            raise _failed(f"sign with {s.name}")
        signature: bytes = s.ffi.buffer(sig)[:]
        return signature


class LiboqsVerifyKey:
    """An ML-DSA verification key."""

    __slots__ = ("_pk", "_size", "_verify")

    def __init__(self, signer: LiboqsSigner, public: bytes) -> None:
        self._verify = signer.verify
        self._size = signer.signature_size
        self._pk = public

    def verify(self, signature: bytes, message: bytes, ctx: bytes) -> None:
        """Raises BadSignature; ValueError if `ctx` exceeds 255 bytes."""
        if len(ctx) > MAX_CTX:
            raise ValueError(f"Context must be at most {MAX_CTX} bytes")
        if len(signature) != self._size or self._verify(
            message, len(message), signature, self._size, ctx, len(ctx), self._pk
        ):
            raise BadSignature("ML-DSA signature does not verify")


class LiboqsSigner:
    """ML-DSA (FIPS 204), hedged, pure (not pre-hashed)."""

    seed_size = 32

    def __init__(
        self, ffi: Any, lib: Any, name: str, function: str, sizes: tuple[int, int, int], reference: Any
    ) -> None:
        self.name = name
        self.public_size, self.secret_size, self.signature_size = sizes
        self.ffi = ffi
        self.sig_type = ffi.typeof(f"uint8_t[{self.signature_size}]")
        self.sign = getattr(lib, f"OQS_SIG_{function}_sign_with_ctx_str")
        self.verify = getattr(lib, f"OQS_SIG_{function}_verify_with_ctx_str")
        self.derive, self.reference = reference

    def generate(self) -> LiboqsSigningKey:
        return LiboqsSigningKey(self, os.urandom(self.seed_size))

    def signing_key(self, seed: bytes) -> LiboqsSigningKey:
        """Raises ValueError on a wrong length."""
        if len(seed) != self.seed_size:
            raise ValueError(f"An {self.name} seed is {self.seed_size} bytes long")
        return LiboqsSigningKey(self, seed)

    def verify_key(self, public: bytes) -> LiboqsVerifyKey:
        """Raises DecodeError on a wrong length."""
        if len(public) != self.public_size:
            raise DecodeError(f"{self.name} public key is {self.public_size} bytes, got {len(public)}")
        return LiboqsVerifyKey(self, public)


class LiboqsProvider:
    """Primitives from liboqs. Raises ProviderUnavailable where the library is missing or too old."""

    name = "liboqs"
    inline = True  # signing takes about 0.1 ms

    def __init__(self, path: str | None = None) -> None:
        path = path or find_library()
        if path is None:
            raise ProviderUnavailable(
                "liboqs is not on this machine; run scripts/install-liboqs, or set provider = openssl",
                provider="liboqs",
            )
        ffi, lib = _open(path)
        mlkem768 = LiboqsKem(ffi, lib, "MLKEM768", "ml_kem_768", (1184, 2400, 1088))
        mlkem1024 = LiboqsKem(ffi, lib, "MLKEM1024", "ml_kem_1024", (1568, 3168, 1568))
        xwing = XWing(mlkem768, self.random_bytes)
        self._kems: dict[str, Kem] = {k.name: k for k in (mlkem768, mlkem1024, xwing)}
        ref65 = (ML_DSA_65.key_derive, mldsa.MLDSA65PrivateKey)
        ref87 = (ML_DSA_87.key_derive, mldsa.MLDSA87PrivateKey)
        mldsa65 = LiboqsSigner(ffi, lib, "ML-DSA-65", "ml_dsa_65", (1952, 4032, 3309), ref65)
        mldsa87 = LiboqsSigner(ffi, lib, "ML-DSA-87", "ml_dsa_87", (2592, 4896, 4627), ref87)
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
