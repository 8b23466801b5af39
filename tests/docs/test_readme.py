"""README.md: its first screen, its commands, and that no document leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from pqdht.cli.main import app
from tests.docs.markdown import DOCS, ROOT, anchors, blocks, links

README = ROOT / "README.md"
DOCUMENTS = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
FIRST_SCREEN = 40
"""Lines."""


def test_the_first_screen_says_what_it_is_what_to_type_and_what_is_missing() -> None:
    screen = "\n".join(README.read_text().split("\n")[:FIRST_SCREEN])
    for wanted in ("make demo", "make test", "```python", "What is not provided"):
        assert wanted in screen
    (program,) = blocks(README, "python")
    assert len(program.splitlines()) <= 15


def test_the_commands_of_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set()
    for path in DOCUMENTS:
        named |= set(re.findall(r"(?:^ {4}|`)make (?:-s )?([a-z-]+)", path.read_text(), re.MULTILINE))
    assert "demo" in named
    assert named <= targets


def command_lines(path: Path) -> list[str]:
    """`pqdht ...` in indented blocks and in fenced unit files, continued lines joined, remarks cut."""
    text = path.read_text().replace("\\\n", " ")
    return [line.split(" #")[0].strip() for line in re.findall(r"^(?: {4}|\S*/bin/)(pqdht .*)$", text, re.M)]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_every_command_line_shown_has_a_command_and_its_options(path: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for line in command_lines(path):
        words = line.split()[1:]
        if words[0].isupper():
            continue  # a placeholder
        known = {o for p in commands[words[0]].params for o in p.opts}
        used = {w.split("=")[0] for w in words if w.startswith("--")}
        assert used <= known | {"--help"}, line


def test_some_command_lines_were_found() -> None:
    assert len(command_lines(README)) >= 7


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in links(path):
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), f"{path.name} links to {link}"
        if anchor:
            assert anchor in anchors(target), f"{path.name} links to {link}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda p: p.name)
def test_files_named_in_the_text_exist(path: Path) -> None:
    named = re.findall(r"`((?:docs|tests|scripts|examples|benchmarks|src)/[\w./-]+)`", path.read_text())
    missing = [n for n in named if not (ROOT / n).exists()]
    assert missing == []
