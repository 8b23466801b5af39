"""Unfinished inbound handshakes: so many and so many bytes per address group and in all (section 3).

A newcomer is never refused for want of a place: the oldest of its own group goes if that has all it may
have, else the oldest of the group that has most.  An honest handshake is over within a round trip, so
the oldest is the one that least likely ends well; and who floods from one group, or from many, pushes
out its own.  Handshakes that failed already, and only wait for their silent end, go before all others.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

from .modes import Mode, Tally

T = TypeVar("T", bound=Hashable)


class HalfOpen(Generic[T]):
    """Places and buffered bytes.  What it returns has lost its place and must be ended by the caller.

    Constant work per call, but for the bytes of all groups together: there, one pass over the groups.
    """

    def __init__(
        self,
        *,
        per_group: int,
        total: int,
        bytes_per_group: int,
        bytes_total: int,
        mode: Mode = Mode.ENFORCE,
    ) -> None:
        self._per_group = per_group
        self._total = total
        self._bytes_per_group = bytes_per_group
        self._bytes_total = bytes_total
        self.mode = mode
        self.tally = Tally()
        self._group_of: dict[T, str] = {}
        self._groups: dict[str, OrderedDict[T, int]] = {}
        """Of each group its handshakes and their bytes, those that go first in front."""
        self._bytes: dict[str, int] = {}
        self._by_count: dict[int, OrderedDict[str, None]] = {}
        self._most = 0
        self.bytes = 0
        """Buffered by all together."""

    def __len__(self) -> int:
        return len(self._group_of)

    def __contains__(self, item: T) -> bool:
        return item in self._group_of

    def held(self, group: str) -> int:
        """Places taken by one group."""
        return len(self._groups.get(group, ()))

    def held_bytes(self, group: str) -> int:
        """Bytes buffered for one group."""
        return self._bytes.get(group, 0)

    def enter(self, item: T, group: str) -> list[T]:
        """Give a newcomer a place; who lost theirs for it."""
        out: list[T] = []
        if self.held(group) >= self._per_group:
            self._evict(group, out)
        elif len(self) >= self._total:
            self._evict(self._largest(), out)
        self._group_of[item] = group
        self._groups.setdefault(group, OrderedDict())[item] = 0
        self._count(group, self.held(group) - 1)
        return out

    def hold(self, item: T, size: int) -> list[T]:
        """So many bytes are buffered for a handshake now; who loses their place, perhaps itself."""
        group = self._group_of.get(item)
        if group is None:
            return []
        grown = size - self._groups[group][item]
        self._groups[group][item] = size
        self._bytes[group] = self._bytes.get(group, 0) + grown
        self.bytes += grown
        out: list[T] = []
        while grown > 0 and self._bytes.get(group, 0) > self._bytes_per_group and self._evict(group, out):
            pass
        while grown > 0 and self.bytes > self._bytes_total:
            heaviest = max(self._bytes, key=self._bytes.__getitem__)
            if not self._evict(heaviest, out):
                break
        return out

    def doom(self, item: T) -> None:
        """A handshake failed: its bytes are gone, and it is the first of its group to go."""
        group = self._group_of.get(item)
        if group is not None:
            self.hold(item, 0)
            self._groups[group].move_to_end(item, last=False)

    def leave(self, item: T) -> None:
        """A handshake is over, or its link gone; nothing happens where it had lost its place before."""
        group = self._group_of.pop(item, None)
        if group is None:
            return
        members = self._groups[group]
        size = members.pop(item)
        self.bytes -= size
        left = self._bytes.get(group, 0) - size
        if left > 0:
            self._bytes[group] = left
        else:
            self._bytes.pop(group, None)
        if not members:
            del self._groups[group]
        self._count(group, len(members) + 1)

    def _evict(self, group: str, out: list[T]) -> bool:
        """Take the place of the oldest of a group; False where the mode only observes."""
        if not self.tally.refuse(self.mode):
            return False
        oldest = next(iter(self._groups[group]))
        self.leave(oldest)
        out.append(oldest)
        return True

    def _count(self, group: str, before: int) -> None:
        """Sort a group under the number of its places."""
        after = self.held(group)
        if before:
            del self._by_count[before][group]
        if after:
            self._by_count.setdefault(after, OrderedDict())[group] = None
        self._most = max(self._most, after)
        while self._most and not self._by_count.get(self._most):
            self._by_count.pop(self._most, None)
            self._most -= 1

    def _largest(self) -> str:
        """The group with most places."""
        return next(iter(self._by_count[self._most]))
