"""Where the crypto tests find their known answers. Absent shared vectors skip by name."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cryptography_vectors
import pytest

_TESTS = Path(__file__).parents[2]
SHARED = _TESTS.parent.parent / "shared" / "vectors"
OWN = _TESTS / "vectors"


def own(name: str) -> Any:
    """Our own fixed vectors, tests/vectors/<name>."""
    return json.loads((OWN / name).read_text())


def shared(name: str) -> Any:
    """A file of ../shared/vectors, or skip."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"shared vectors are not here: {path}")
    raw = path.read_bytes()
    return json.loads(gzip.decompress(raw) if name.endswith(".gz") else raw)


def wycheproof(name: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """(group, test) pairs of one Wycheproof file."""
    for group in shared(f"wycheproof_{name}_test.json.gz")["testGroups"]:
        for test in group["tests"]:
            yield group, test


def nist(path: str, limit: int) -> Iterator[dict[str, bytes]]:
    """The first `limit` cases of a NIST-style .rsp file of cryptography_vectors."""
    case: dict[str, bytes] = {}
    with cryptography_vectors.open_vector_file(f"asymmetric/{path}", "r") as lines:
        for line in lines:
            name, _, value = (part.strip() for part in line.partition("="))
            if name == "count":
                if case:
                    yield case
                    limit -= 1
                if not limit:
                    return
                case = {}
            elif name and name not in ("mlen", "smlen"):
                case[name] = bytes.fromhex(value)
    if case:
        yield case
