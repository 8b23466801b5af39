"""docs/threat-model.md: every bound and every price it names has the test that it names."""

from __future__ import annotations

import re

import pytest

from pqdht.testing.adversaries import ADVERSARIES
from tests.docs.markdown import DOCS, ROOT

CELL = re.compile(r"`(tests/[\w/]+\.py)` `(test_\w+)`")


def rows(name: str) -> list[str]:
    text = (DOCS / "threat-model.md").read_text()
    table = text.partition(f"<!-- check: {name} -->")[2].partition("\n\n")[0]
    return [line for line in table.splitlines() if line.startswith("| ")][1:]


@pytest.mark.parametrize("name", ["bounds", "attack costs"])
def test_each_row_has_its_test(name: str) -> None:
    assert len(rows(name)) > 15
    for row in rows(name):
        (named,) = CELL.findall(row)
        path, test = named
        assert f"def {test}(" in (ROOT / path).read_text(), row


def test_every_adversary_has_its_price() -> None:
    first = [row.split("|")[1].strip() for row in rows("attack costs")]
    assert set(ADVERSARIES) <= set(first)
    assert len(first) == len(set(first))
