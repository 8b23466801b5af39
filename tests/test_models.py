"""The models of the handshake in models/: every query has the verdict that cases.toml expects."""

from __future__ import annotations

import os
import re

import pytest

from models.check import HERE, Case, Failed, find_verifpal, read_cases, verdicts

CASES = read_cases()


@pytest.fixture(scope="module")
def verifpal() -> str:
    """The program; skipped without it, unless PQDHT_REQUIRE_MODEL is set, as in CI."""
    program = find_verifpal()
    if program is None:
        if os.environ.get("PQDHT_REQUIRE_MODEL"):
            pytest.fail("verifpal is missing; run: make install-verifpal")
        pytest.skip("verifpal is missing; run: make install-verifpal")
    return program


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.model}: {c.name}")
def test_verdicts(verifpal: str, case: Case) -> None:
    assert verdicts(verifpal, case) == case.ask, case.why


def test_cases_are_told_apart_and_expect_attacks_too() -> None:
    assert len({(c.model, c.name) for c in CASES}) == len(CASES)
    assert {v for c in CASES for v in c.ask.values()} == {"holds", "attack"}
    assert {c.model for c in CASES} == {"pqik", "pqxx"}


@pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.model}: {c.name}")
def test_every_case_can_be_put_together(case: Case) -> None:
    text = case.text()
    assert "//@" not in text
    assert bool(case.scenarios) == bool(re.search(r"\bto_(gs|id)\b", text))


def test_a_change_that_no_longer_fits_the_model_is_an_error() -> None:
    with pytest.raises(Failed, match="0 times"):
        Case(name="n", model="pqik", ask={}, why="", without=["_ = NOSUCH("]).text()


def test_the_readme_counts_the_cases() -> None:
    asked = sum(len(c.ask) for c in CASES)
    assert f"{len(CASES)} cases, {asked} queries" in (HERE / "README.md").read_text()
