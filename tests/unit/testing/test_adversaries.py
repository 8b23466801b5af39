"""The list of adversaries says what each is and what stops it."""

from __future__ import annotations

import pytest

from pqdht.config import DEFENCES
from pqdht.errors import ConfigError
from pqdht.testing.adversaries import ADVERSARIES, STRUCTURAL, Adversary, enlist


@pytest.mark.parametrize("name", ADVERSARIES)
def test_each_names_its_defences(name: str) -> None:
    kind = ADVERSARIES[name]
    assert issubclass(kind, Adversary)
    assert kind.name == name
    assert kind.summary
    assert kind.__doc__
    assert "\n" not in kind.summary
    assert kind.defences
    assert not set(kind.defences) - set(DEFENCES) - set(STRUCTURAL)


def test_an_unknown_one_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match="forger"):
        enlist("nobody", [])


def test_a_name_is_in_one_list_of_defences_only() -> None:
    assert not set(DEFENCES) & set(STRUCTURAL)
