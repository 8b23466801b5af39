"""Turns a fuzzer's bytes into choices, and what every target is made of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")


class Source:
    """Choices taken from the front of an input; zeros and nothing once it is used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __len__(self) -> int:
        """Bytes left."""
        return len(self._data) - self._at

    def u8(self) -> int:
        """0..255."""
        return next(iter(self.take(1)), 0)

    def u16(self) -> int:
        """0..65535."""
        return int.from_bytes(self.take(2), "big")

    def flag(self) -> bool:
        """One byte, its lowest bit."""
        return bool(self.u8() & 1)

    def pick(self, choices: Sequence[T]) -> T:
        """One of them."""
        return choices[self.u8() % len(choices)]

    def take(self, n: int) -> bytes:
        """The next `n` bytes, or as many as are left."""
        taken = self._data[self._at : self._at + n]
        self._at += len(taken)
        return taken

    def blob(self) -> bytes:
        """Up to 255 bytes, with their length before them."""
        return self.take(self.u8())

    def exactly(self, n: int) -> bytes:
        """`n` bytes, filled up with zeros."""
        return self.take(n).ljust(n, b"\0")

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(len(self))

    def cut(self, data: bytes) -> list[bytes]:
        """`data` in up to four pieces."""
        places = sorted({0, len(data), *(self.u16() % (len(data) + 1) for _ in range(self.u8() % 4))})
        return [data[a:b] for a, b in pairwise(places)]

    def spoil(self, data: bytes) -> bytes:
        """`data` as it is (most often), or changed in one place, cut short, or with bytes to spare."""
        how = self.u8() % 8
        if how < 4 or not data:
            return data
        at = self.u16() % len(data)
        if how == 4:
            return data[:at] + bytes([data[at] ^ (self.u8() or 1)]) + data[at + 1 :]
        if how == 5:
            return data[:at]
        return data + self.blob() if how == 6 else data[:at] + self.blob() + data[at:]


@dataclass(frozen=True, slots=True)
class Target:
    """Something that meets hostile bytes."""

    name: str
    run: Callable[[bytes], bool]
    """True where the input was accepted, False where it was refused as documented; all else raises."""
    seeds: Callable[[], list[bytes]]
    """Inputs that are accepted: they follow the code, so they never grow stale."""
    is_msgpack: bool = False
    """The input, after its first byte, is MessagePack: the fuzzer may change it as a tree."""
    max_len: int = 4096
