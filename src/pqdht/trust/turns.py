"""Whose turn it is: one after the other by address group, known callers before strangers (section 3).

Fair queueing by round robin (Nagle, RFC 970): a group that has much waiting gets no more turns than one
that has little, so that with G groups waiting a newcomer's first turn comes after G others at most.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")

KNOWN_TURNS = 3
"""Of this many turns and one more, strangers have at least that one."""


class FairQueue(Generic[T]):
    """Items by group, known ones apart.  Its bound is that of what is queued (`HalfOpen`)."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, deque[T]] = OrderedDict()
        self._strangers: OrderedDict[str, deque[T]] = OrderedDict()
        self._in_a_row = 0
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def put(self, item: T, group: str, *, known: bool) -> None:
        """Queue an item behind those of its group."""
        groups = self._known if known else self._strangers
        groups.setdefault(group, deque()).append(item)
        self._size += 1

    def take(self) -> T:
        """The next one. Raises IndexError where nothing waits."""
        if not self._size:
            raise IndexError("nobody waits")
        is_known = bool(self._known) and (not self._strangers or self._in_a_row < KNOWN_TURNS)
        self._in_a_row = self._in_a_row + 1 if is_known else 0
        groups = self._known if is_known else self._strangers
        group, items = groups.popitem(last=False)
        item = items.popleft()
        if items:
            groups[group] = items  # behind all others
        self._size -= 1
        return item

    def remove(self, item: T, group: str) -> None:
        """Take an item out wherever it is; nothing happens where it is not."""
        for groups in (self._known, self._strangers):
            items = groups.get(group)
            if items is not None and item in items:
                items.remove(item)
                self._size -= 1
                if not items:
                    del groups[group]
