"""docs/operations.md: files, status, counters and exit codes are those of the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import runpy
from pathlib import Path
from typing import Any

from pqdht import Config, SecureDHT, errors
from pqdht.cli.output import INTERNAL_ERROR, INTERRUPTED
from pqdht.config import DEFENCES, THRESHOLDS
from pqdht.daemon.control import SOCKET_NAME
from pqdht.errors import PqdhtError
from pqdht.node.guard import EVENTS_FILE
from pqdht.node.identities import NODE_FILE, OWNER_FILE, PROGRESS_FILE
from tests.docs.markdown import DOCS, ROOT, blocks, tables

TABLES = tables(DOCS / "operations.md")


def rows(name: str) -> list[list[str]]:
    return TABLES[f"check: {name}"]


def test_exit_codes() -> None:
    codes: dict[int, list[str]] = {INTERNAL_ERROR: [], INTERRUPTED: []}
    for kind in vars(errors).values():
        if inspect.isclass(kind) and issubclass(kind, PqdhtError):
            codes.setdefault(kind.exit_code, []).append(kind.__name__)
    expected = [[str(code), ", ".join(sorted(names))] for code, names in sorted(codes.items())]
    assert [row[:2] for row in rows("exit codes")] == expected


async def run_for_a_moment(data_dir: Path) -> dict[str, Any]:
    config = Config(network="testnet", provider="openssl", data_dir=data_dir, listen=())
    async with SecureDHT(config) as dht:
        return dht.status()


def test_status_and_files(tmp_path: Path) -> None:
    status = asyncio.run(run_for_a_moment(tmp_path / "data"))
    assert [row[0] for row in rows("status")] == list(status)
    named = {row[0] for row in rows("files")}
    assert {NODE_FILE, OWNER_FILE, PROGRESS_FILE, SOCKET_NAME, EVENTS_FILE} <= named
    assert {p.name for p in (tmp_path / "data").iterdir()} <= named


def counters_in(source: str) -> set[str]:
    """Names that a module counts under in `counters[...]`; `prefix.*` where the rest is computed."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Subscript) or not ast.unparse(node.value).endswith("counters"):
            continue
        formatted = [n for n in ast.walk(node.slice) if isinstance(n, ast.JoinedStr)]
        if formatted:
            found |= {f"{ast.literal_eval(n.values[0])}*" for n in formatted}
        else:
            constants = (n.value for n in ast.walk(node.slice) if isinstance(n, ast.Constant))
            found |= {c for c in constants if isinstance(c, str)}
    return found


def test_counters() -> None:
    sources = sorted((ROOT / "src" / "pqdht" / "node").glob("*.py"))
    counted = set().union(*(counters_in(p.read_text()) for p in sources))
    assert [row[0] for row in rows("counters")] == sorted(counted)


def test_the_example_of_limits_makes_a_network(tmp_path: Path) -> None:
    (code,) = blocks(DOCS / "operations.md", "python")
    program = tmp_path / "example.py"
    program.write_text(code)
    config = runpy.run_path(str(program))["config"]
    assert (config.params.name, config.params.limits.bytes_total) == ("ours", 4 << 30)


def test_defences() -> None:
    assert [(row[0], row[1]) for row in rows("defences")] == list(DEFENCES.items())


def test_thresholds() -> None:
    assert [(row[0], float(row[1])) for row in rows("thresholds")] == list(THRESHOLDS.items())
