"""PQNoise written a second time, from the paper and RFC 2104/5869/8439 alone: what the engine must equal.

It knows all secrets (ciphertexts and shared secrets are given), so it has no sides and no messages:
tokens go in, h, ck, k and the bytes on the wire come out.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305


class Reference:
    def __init__(self, name: str, prologue: bytes, pre_message: bytes | None) -> None:
        self.h = name.encode() + bytes(32 - len(name)) if len(name) <= 32 else sha256(name.encode()).digest()
        self.ck = self.h
        self.k: bytes | None = None
        self.n = 0
        self._mix_hash(prologue)
        if pre_message is not None:
            self._mix_hash(pre_message)

    def e(self, public: bytes) -> bytes:
        self._mix_hash(public)
        return public

    def s(self, public: bytes) -> bytes:
        return self.payload(public)

    def ekem(self, ciphertext: bytes, secret: bytes) -> bytes:
        self._mix_hash(ciphertext)
        self.ck, self.k = self._hkdf(secret, 2)
        self.n = 0
        return ciphertext

    def skem(self, ciphertext: bytes, secret: bytes) -> bytes:
        sent = self.payload(ciphertext)
        self.ck, temp_h, self.k = self._hkdf(secret, 3)
        self._mix_hash(temp_h)
        self.n = 0
        return sent

    def payload(self, plaintext: bytes) -> bytes:
        sent = plaintext
        if self.k is not None:
            nonce = bytes(4) + self.n.to_bytes(8, "little")
            sent = ChaCha20Poly1305(self.k).encrypt(nonce, plaintext, self.h)
            self.n += 1
        self._mix_hash(sent)
        return sent

    def split(self) -> tuple[bytes, bytes]:
        k1, k2 = self._hkdf(b"", 2)
        return k1, k2

    def _mix_hash(self, data: bytes) -> None:
        self.h = sha256(self.h + data).digest()

    def _hkdf(self, ikm: bytes, n: int) -> list[bytes]:
        temp = hmac.digest(self.ck, ikm, "sha256")
        outputs: list[bytes] = []
        for i in range(1, n + 1):
            outputs.append(hmac.digest(temp, (outputs[-1] if outputs else b"") + bytes([i]), "sha256"))
        return outputs
