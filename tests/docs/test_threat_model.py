"""docs/threat-model.md: every bound it names has the test that it names."""

from __future__ import annotations

import re

from tests.docs.markdown import DOCS, ROOT

CELL = re.compile(r"`(tests/[\w/]+\.py)` `(test_\w+)`")


def test_each_bound_has_its_test() -> None:
    text = (DOCS / "threat-model.md").read_text()
    table = text.partition("<!-- check: bounds -->")[2].partition("\n\n")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 15
    for row in rows:
        (named,) = CELL.findall(row)
        path, test = named
        assert f"def {test}(" in (ROOT / path).read_text(), row
