"""Which first messages were seen: a copy is refused before it costs a decapsulation (section 3)."""

from __future__ import annotations

from hashlib import blake2b

from ..errors import HandshakeFailed

KEPT = 32_768


class SeenFlights:
    """Hashes of the first token (KEM ciphertext or ephemeral key) of first messages; bounded.

    Honest callers draw that token afresh each time; whoever changes it makes a message that does not
    open.  Two generations of `kept` hashes: when the younger is full the older is forgotten, so that
    between `kept` and twice as many are known.  What is forgotten still meets the register of early
    questions and opens nothing: this one saves work, and nothing but work depends on it.
    """

    __slots__ = ("_kept", "_older", "_younger")

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._younger: set[bytes] = set()
        self._older: set[bytes] = set()

    def __len__(self) -> int:
        return len(self._younger) + len(self._older)

    def check(self, token: bytes) -> bytes:
        """The name of a token that was not seen, for `add`. Raises HandshakeFailed for a copy."""
        name = blake2b(token, digest_size=16).digest()
        if name in self._younger or name in self._older:
            raise HandshakeFailed("this first message was here before", reason="replay")
        return name

    def add(self, name: bytes) -> None:
        """Remember what `check` returned."""
        if len(self._younger) >= self._kept:
            self._older, self._younger = self._younger, set()
        self._younger.add(name)
