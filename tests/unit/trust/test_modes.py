"""How a defence counts in each mode."""

from __future__ import annotations

import pytest

from pqdht.trust.modes import Mode, Tally


@pytest.mark.parametrize(
    ("mode", "acts", "counted"),
    [
        (Mode.ENFORCE, True, Tally(refused=1)),
        (Mode.OBSERVE, False, Tally(would_refuse=1)),
        (Mode.OFF, False, Tally()),
    ],
)
def test_a_finding_is_counted_and_acted_on_by_mode(mode: Mode, acts: bool, counted: Tally) -> None:
    tally = Tally()
    assert tally.refuse(mode) is acts
    assert tally == counted
    assert Mode(mode.value) is mode
