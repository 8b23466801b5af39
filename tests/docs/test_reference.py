"""docs/reference.md: every public name, method, setting and command, and none besides."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import msgspec
import typer

import pqdht
import pqdht.testing
from pqdht import Config, PqdhtError, SecureDHT
from pqdht.cli.main import app
from pqdht.daemon.requests import REQUESTS
from tests.docs.markdown import DOCS, tables
from tests.test_architecture import MODULES, RANKS, unit

TABLES = tables(DOCS / "reference.md")


def column(name: str, index: int = 0) -> list[str]:
    return [row[index] for row in TABLES[f"check: {name}"]]


def signature(name: str, member: Any) -> str:
    """`name(parameters)`, or `name` of a property."""
    if isinstance(member, property):
        return name
    assert isinstance(member, Callable)  # type: ignore[arg-type]
    return f"{name}({', '.join(p for p in inspect.signature(member).parameters if p != 'self')})"


def test_methods() -> None:
    listener = "serve is_wanted peer_proven peer_heard peer_failed".split()  # what its parts tell it
    public = {n: m for n, m in vars(SecureDHT).items() if not n.startswith("_") and n not in listener}
    assert sorted(column("methods")) == sorted(signature(n, m) for n, m in public.items())


def test_config() -> None:
    expected = [[f.name, repr(f.default)] for f in fields(Config)]
    assert [row[:2] for row in TABLES["check: config"]] == expected


def test_names() -> None:
    errors = [n for n in pqdht.__all__ if _is_error(getattr(pqdht, n))]
    assert sorted(column("names")) == sorted(set(pqdht.__all__) - set(errors) - {"SecureDHT", "Config"})


def test_names_for_tests() -> None:
    assert sorted(column("testing")) == sorted(pqdht.testing.__all__)


def _is_error(thing: object) -> bool:
    return inspect.isclass(thing) and issubclass(thing, PqdhtError)


def test_commands() -> None:
    assert column("commands") == list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def test_control_methods() -> None:
    expected = [[r.method, ", ".join(f.name for f in msgspec.structs.fields(r))] for r in REQUESTS]
    assert TABLES["check: control"] == expected


def test_the_layers_drawn_are_those_that_are_held() -> None:
    drawn: dict[str, int] = {}
    for rank, units, _ in tables(DOCS / "design.md")["check: layers"]:
        drawn |= dict.fromkeys(re.findall(r"\w+", units), int(rank))
    existing = {unit(m) for m in MODULES} - {"__init__", "__main__"}
    assert drawn == {u: rank for u, rank in RANKS.items() if u in existing}
