"""PQNoise: the Noise handshake with key encapsulation in place of Diffie-Hellman, and nothing else.

Names and rules are those of "Post Quantum Noise" (Angel, Dowling, Huelsing, Schwabe, Weber, CCS 2022)
and of the Noise Protocol Framework, revision 34, on which it builds, so that this file can be read
next to both.  With `MLKEM768` it agrees byte for byte with other implementations.

    pqIK:   <- s                    pqXX:   -> e
            ...                             <- ekem, s
            -> skem, e, s                   -> skem, s
            <- ekem, skem                   <- skem

    e       send the ephemeral public key;               MixHash(it)
    s       send EncryptAndHash(static public key)
    ekem    ct, ss = Encaps(re); send ct;                MixHash(ct); MixKey(ss)
    skem    ct, ss = Encaps(rs); send EncryptAndHash(ct); MixKeyAndHash(ss)

Each message ends with EncryptAndHash(payload).  Writing has two phases, so that a signature over the
handshake hash `h` can be made, in a thread perhaps, before the payload that carries it is sealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from ..crypto.api import Kem, KemPrivateKey, KemPublicKey
from ..crypto.kdf import hkdf, noise_hkdf
from ..errors import HandshakeFailed, SessionFailed

Token = Literal["e", "s", "ekem", "skem"]

HASH_SIZE = 32
TAG_SIZE = 16
MAX_NONCE = 2**64 - 1
"""Kept for `rekey`; no message may have it."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """A handshake pattern. Messages alternate; the first is the initiator's."""

    name: str
    messages: tuple[tuple[Token, ...], ...]
    responder_is_known: bool = False
    """The pre-message `<- s`: the initiator holds the responder's static key."""


PQ_IK = Pattern("pqIK", (("skem", "e", "s"), ("ekem", "skem")), responder_is_known=True)
PQ_XX = Pattern("pqXX", (("e",), ("ekem", "s"), ("skem", "s"), ("skem",)))


def protocol_name(pattern: Pattern, kem: Kem) -> str:
    """As in `Noise_pqIK_XWing_ChaChaPoly_SHA256`."""
    return f"Noise_{pattern.name}_{kem.name}_ChaChaPoly_SHA256"


def message_sizes(pattern: Pattern, kem: Kem) -> tuple[int, ...]:
    """Bytes of each message with an empty payload; a payload adds its own length."""
    sizes, tag = [], 0
    for tokens in pattern.messages:
        size = 0
        for token in tokens:
            sealed = token in ("s", "skem")
            size += (kem.public_size if token in ("e", "s") else kem.ciphertext_size) + sealed * tag
            if token in ("ekem", "skem"):
                tag = TAG_SIZE
        sizes.append(size + tag)
    return tuple(sizes)


class CipherState:
    """A key and the number of the next message (Noise, section 5.1)."""

    __slots__ = ("_aead", "n")

    def __init__(self, k: bytes | None = None) -> None:
        self._aead = ChaCha20Poly1305(k) if k is not None else None
        self.n = 0

    @property
    def has_key(self) -> bool:
        return self._aead is not None

    def encrypt_with_ad(self, ad: bytes, plaintext: bytes) -> bytes:
        """`plaintext` and a tag of 16 bytes, or `plaintext` itself while there is no key."""
        if self._aead is None:
            return plaintext
        ciphertext = self._aead.encrypt(self._nonce(), plaintext, ad)
        self.n += 1
        return ciphertext

    def decrypt_with_ad(self, ad: bytes, ciphertext: bytes) -> bytes:
        """The reverse. Raises InvalidTag, and then `n` stays."""
        if self._aead is None:
            return ciphertext
        plaintext = self._aead.decrypt(self._nonce(), ciphertext, ad)
        self.n += 1
        return plaintext

    def rekey(self) -> None:
        """k = the first 32 bytes of ENCRYPT(k, 2^64 - 1, empty, 32 zeros); `n` goes on."""
        assert self._aead is not None
        self._aead = ChaCha20Poly1305(self._aead.encrypt(_nonce(MAX_NONCE), bytes(32), b"")[:32])

    def _nonce(self) -> bytes:
        if self.n >= MAX_NONCE:
            raise SessionFailed("no nonce is left under this key")
        return _nonce(self.n)


def _nonce(n: int) -> bytes:
    return b"\0\0\0\0" + n.to_bytes(8, "little")


class SymmetricState:
    """The transcript hash `h`, the chaining key `ck`, and a cipher (Noise, section 5.2)."""

    __slots__ = ("cipher", "ck", "h", "k")

    def __init__(self, name: str) -> None:
        raw = name.encode()
        self.h = raw.ljust(HASH_SIZE, b"\0") if len(raw) <= HASH_SIZE else sha256(raw).digest()
        self.ck = self.h
        self.k: bytes | None = None
        self.cipher = CipherState()

    def mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h + data).digest()

    def mix_key(self, ikm: bytes) -> None:
        self.ck, k = noise_hkdf(self.ck, ikm, 2)
        self._initialize_key(k)

    def mix_key_and_hash(self, ikm: bytes) -> None:
        self.ck, h, k = noise_hkdf(self.ck, ikm, 3)
        self.mix_hash(h)
        self._initialize_key(k)

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        ciphertext = self.cipher.encrypt_with_ad(self.h, plaintext)
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        """Raises InvalidTag."""
        plaintext = self.cipher.decrypt_with_ad(self.h, ciphertext)
        self.mix_hash(ciphertext)
        return plaintext

    def split(self) -> tuple[CipherState, CipherState]:
        """(initiator to responder, responder to initiator)."""
        k1, k2 = noise_hkdf(self.ck, b"", 2)
        return CipherState(k1), CipherState(k2)

    def export(self, label: bytes) -> bytes:
        """32 more secret bytes, independent of those of `split`: HKDF(ck, empty, info = label)."""
        return hkdf(self.ck, b"", label, 32)

    def _initialize_key(self, k: bytes) -> None:
        self.k = k
        self.cipher = CipherState(k)


class HandshakeState:
    """One side of one handshake (Noise, section 5.3).

    The owner alternates `begin_write` and `finish_write` with `read`, until `is_done`; then it calls
    `split`.  Anything wrong with what came in raises HandshakeFailed, or DecodeError for a public key
    that is none; after an error the state must be dropped.
    """

    def __init__(
        self,
        pattern: Pattern,
        kem: Kem,
        *,
        initiator: bool,
        prologue: bytes,
        s: KemPrivateKey,
        rs: bytes | None = None,
        ephemeral: KemPrivateKey | None = None,
    ) -> None:
        """`rs` is the responder's static key, given to the initiator of pqIK and to nobody else.

        `ephemeral` is for known answers only: a handshake draws its own.
        """
        if (rs is not None) != (initiator and pattern.responder_is_known):
            raise ValueError(f"the static key of the responder does not fit {pattern.name}")
        self.pattern = pattern
        self.initiator = initiator
        self.rs = rs
        """The peer's static public key, once known."""
        self.symmetric = SymmetricState(protocol_name(pattern, kem))
        self._kem = kem
        self._s = s
        self._e = ephemeral
        self._peer_s: KemPublicKey | None = kem.public_key(rs) if rs is not None else None
        self._peer_e: KemPublicKey | None = None
        self._re: bytes | None = None
        self.index = 0
        """The number of the next message, from 0."""
        self._written: bytearray | None = None
        self.symmetric.mix_hash(prologue)
        if pattern.responder_is_known:
            self.symmetric.mix_hash(rs if rs is not None else s.public)

    @property
    def is_done(self) -> bool:
        return self.index == len(self.pattern.messages)

    @property
    def is_our_turn(self) -> bool:
        return not self.is_done and (self.index % 2 == 0) == self.initiator

    @property
    def h(self) -> bytes:
        """The transcript hash so far; after the last message, the channel binding."""
        return self.symmetric.h

    # --- messages ------------------------------------------------------------------------------

    def begin_write(self) -> bytes:
        """Run the tokens of our next message; returns `h` just before its payload."""
        if not self.is_our_turn or self._written is not None:
            raise ValueError("it is not our turn to write")
        self._written = bytearray()
        for token in self.pattern.messages[self.index]:
            self._written += self.write_token(token)
        return self.h

    def finish_write(self, payload: bytes) -> bytes:
        """Seal the payload; returns the whole message."""
        if self._written is None:
            raise ValueError("finish_write follows begin_write")
        message = bytes(self._written) + self.symmetric.encrypt_and_hash(payload)
        self._written = None
        self.index += 1
        return message

    def read(self, message: bytes) -> tuple[bytes, bytes]:
        """(`h` just before the payload, payload) of the peer's next message."""
        if self.is_done or self.is_our_turn:
            raise ValueError("it is not our turn to read")
        at = 0
        try:
            for token in self.pattern.messages[self.index]:
                size = self.token_size(token)
                if len(message) < at + size:
                    raise HandshakeFailed("handshake message is too short", reason="truncated")
                self.read_token(token, message[at : at + size])
                at += size
            binding = self.h
            payload = self.symmetric.decrypt_and_hash(message[at:])
        except InvalidTag:
            raise HandshakeFailed("handshake message is not authentic", reason="authentication") from None
        self.index += 1
        return binding, payload

    def split(self) -> tuple[CipherState, CipherState]:
        """(to send with, to receive with), after the last message."""
        if not self.is_done:
            raise ValueError("the handshake is not done")
        first, second = self.symmetric.split()
        return (first, second) if self.initiator else (second, first)

    # --- tokens --------------------------------------------------------------------------------

    def token_size(self, token: Token) -> int:
        """Bytes the token takes in the next message."""
        size = self._kem.public_size if token in ("e", "s") else self._kem.ciphertext_size
        return size + TAG_SIZE if token in ("s", "skem") and self.symmetric.cipher.has_key else size

    def write_token(self, token: Token) -> bytes:
        """What one token sends, and its effect on the state."""
        state = self.symmetric
        if token == "e":
            self._e = self._e or self._kem.generate()
            state.mix_hash(self._e.public)
            return self._e.public
        if token == "s":
            return state.encrypt_and_hash(self._s.public)
        self._expand()
        peer = self._peer_e if token == "ekem" else self._peer_s
        assert peer is not None
        ciphertext, secret = peer.encapsulate()
        if token == "ekem":
            state.mix_hash(ciphertext)
            state.mix_key(secret)
            return ciphertext
        sealed = state.encrypt_and_hash(ciphertext)
        state.mix_key_and_hash(secret)
        return sealed

    def read_token(self, token: Token, data: bytes) -> None:
        """The same effect from what the peer sent. Raises InvalidTag or DecodeError.

        A public key that is none is noticed when it is used.
        """
        state = self.symmetric
        if token == "e":
            state.mix_hash(data)
            self._re = data
        elif token == "s":
            self.rs = state.decrypt_and_hash(data)
        elif token == "ekem":
            assert self._e is not None
            state.mix_hash(data)
            state.mix_key(self._e.decapsulate(data))
        else:
            state.mix_key_and_hash(self._s.decapsulate(state.decrypt_and_hash(data)))

    def _expand(self) -> None:
        """Make the peer's keys ready: not before they are used, when all that came with them was checked."""
        if self._peer_e is None and self._re is not None:
            self._peer_e = self._kem.public_key(self._re)
        if self._peer_s is None and self.rs is not None:
            self._peer_s = self._kem.public_key(self.rs)
