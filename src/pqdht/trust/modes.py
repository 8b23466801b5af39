"""How a defence is rolled out: counted first, enforced later."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Mode(Enum):
    """What a defence does with what it finds."""

    ENFORCE = "enforce"
    """Act (default)."""
    OBSERVE = "observe"
    """Count what would have been refused, let it pass."""
    OFF = "off"
    """Let everything pass, count nothing."""


@dataclass(slots=True)
class Tally:
    """What one defence decided so far."""

    allowed: int = 0
    refused: int = 0
    would_refuse: int = 0
    """Passed only because the mode is `observe`."""

    def refuse(self, mode: Mode) -> bool:
        """Count one finding; whether to act on it."""
        if mode is Mode.ENFORCE:
            self.refused += 1
            return True
        if mode is Mode.OBSERVE:
            self.would_refuse += 1
        return False
