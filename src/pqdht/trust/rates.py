"""The invalid rate of a node: a window over its latest checked answers (section 7).

Reputation weighs years; this looks at the present only, so that no number of good answers buys a bad one.
"""

from __future__ import annotations

from dataclasses import dataclass

from .memory import make_room

WINDOW = 20
"""Latest checked answers of a node that count.  Longer: rarer lies are found, and more chance faults too."""
ENOUGH = 10
"""Checked answers needed.  More: fewer nodes are judged by chance; fewer: a new liar is found sooner."""
INVALID = 5
"""Invalid ones among them that are too many.  An honest node with one damaged answer in a hundred
has them in one window of 700,000."""


@dataclass(slots=True)
class _Window:
    answers: int = 0
    invalid: int = 0
    """One bit each, the latest lowest."""


class InvalidRate:
    """The latest `window` answers of at most `capacity` nodes; `invalid` of `enough` or more are too many.

    Where there are too many nodes those with fewest invalid answers are forgotten: a crowd must lie as
    often as the liar whom it is to hide.
    """

    def __init__(
        self, *, window: int = WINDOW, enough: int = ENOUGH, invalid: int = INVALID, capacity: int = 8192
    ) -> None:
        if not 1 <= invalid <= enough <= window:
            raise ValueError(f"invalid {invalid}, enough {enough}, window {window}: must not decrease")
        self._size, self._enough, self._invalid = window, enough, invalid
        self._capacity = capacity
        self._windows: dict[bytes, _Window] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def observe(self, node: bytes, *, valid: bool) -> bool:
        """Count a checked answer; True when the rate says quarantine.

        After True the node begins anew: the same answers are held against it once, not again when it comes
        out of quarantine.
        """
        window = self._windows.get(node)
        if window is None:
            make_room(self._windows, self._capacity, lambda _, w: w.invalid.bit_count())
            window = self._windows[node] = _Window()
        window.answers = min(window.answers + 1, self._size)
        window.invalid = (window.invalid << 1 | (not valid)) & ((1 << self._size) - 1)
        if window.answers < self._enough or window.invalid.bit_count() < self._invalid:
            return False
        del self._windows[node]
        return True

    def rate(self, node: bytes) -> float:
        """The share of invalid ones among the latest answers; 0.0 where none are known."""
        window = self._windows.get(node)
        return window.invalid.bit_count() / window.answers if window else 0.0
