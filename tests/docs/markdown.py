"""Reads the documents: tables under a `<!-- check: name -->` remark, fenced blocks under a heading, links."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_REMARK = re.compile(r"<!-- (?P<name>[^>]*?) -->")
_CELL = re.compile(r"(?<!\\)\|")


def tables(path: Path) -> dict[str, list[list[str]]]:
    """Remark -> rows of cells (without the header) of the table right below it; backquotes removed."""
    found: dict[str, list[list[str]]] = {}
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        remark = _REMARK.fullmatch(line.strip())
        if remark is None:
            continue
        name = remark["name"]
        assert name not in found, f"{path.name} has two tables named {name!r}"
        rows = list(_rows(lines[number + 1 :]))
        assert len(rows) > 2, f"{path.name}:{number + 2}: no table below the remark {name!r}"
        header, _, *body = rows
        assert {len(r) for r in rows} == {len(header)}, f"{path.name}: table {name!r} is ragged"
        found[name] = body
    return found


def _rows(lines: list[str]) -> Iterator[list[str]]:
    for line in lines:
        if not line.startswith("|"):
            return
        cells = _CELL.split(line.strip())[1:-1]
        yield [c.strip().replace("\\|", "|").strip("`") for c in cells]


def blocks(path: Path, language: str) -> list[str]:
    """The fenced code blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), re.MULTILINE | re.DOTALL)


def links(path: Path) -> list[str]:
    """The targets of the links that are not addresses on the web."""
    targets = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    return [t for t in targets if not t.startswith(("http://", "https://"))]


def anchors(path: Path) -> list[str]:
    """What GitHub makes of the headings."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings]
