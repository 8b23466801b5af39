"""Every fuzzing target by name."""

from __future__ import annotations

from tests.fuzz import channel, exchange, local, parsers
from tests.fuzz.source import Target

_MODULES = (parsers, local, channel, exchange)
TARGETS: dict[str, Target] = {t.name: t for module in _MODULES for t in module.TARGETS}
