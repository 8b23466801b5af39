"""Making room in a bounded map whose keys others choose, so that crowding it pays nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

K = TypeVar("K")
V = TypeVar("V")

SPARE = 8
"""One in so many entries is dropped at a time: sorting all then costs each newcomer next to nothing, and a
newcomer is safe until that many others came.  Larger drops less at once and sorts more often."""


def make_room(
    entries: dict[K, V],
    capacity: int,
    worth: Callable[[K, V], Any],
    is_bad: Callable[[V], bool] = lambda _: False,
) -> None:
    """Drop the entries of least worth if a map is full; of equal worth those that came first.

    Who only makes many subjects pushes out subjects of which as little is known as of these.  Good and
    bad entries (`is_bad`) each keep half of the room as long as they fill it, so that a crowd of one kind
    does not make the other kind forgotten.
    """
    if len(entries) < capacity:
        return
    keep = capacity - max(1, capacity // SPARE)
    newest = list(reversed(entries.items()))
    good = sorted((e for e in newest if not is_bad(e[1])), key=lambda e: worth(*e), reverse=True)
    bad = sorted((e for e in newest if is_bad(e[1])), key=lambda e: worth(*e), reverse=True)
    half = keep // 2
    for dropped in (good[max(half, keep - len(bad)) :], bad[max(keep - half, keep - len(good)) :]):
        for key, _ in dropped:
            del entries[key]
