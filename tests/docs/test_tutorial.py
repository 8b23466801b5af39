"""The programs in README.md and docs/howto/embed.md do what the text says, each in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pqdht.node.identities import NODE_FILE
from tests.docs.markdown import DOCS, ROOT, blocks

README = ROOT / "README.md"
TUTORIAL = DOCS / "howto" / "embed.md"


def run(program: str, directory: Path) -> str:
    """Standard output. The program may write nowhere but there, and warn of nothing."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HOME": str(directory)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert list(directory.iterdir()) == []
    return done.stdout


def test_the_program_of_the_readme(tmp_path: Path) -> None:
    (program,) = blocks(README, "python")
    assert run(program, tmp_path) == "('203.0.113.7:51820',) confirmed\n"


def test_the_program_of_the_tutorial(tmp_path: Path) -> None:
    program = blocks(TUTORIAL, "python")[0]
    assert re.fullmatch(r"hello confirmed [12]\n", run(program, tmp_path))


NETWORK = """
from pqdht.testing import Testnet

async def main():
    async with Testnet.loopback(3, network="testnet") as net:
        await net.nodes[0].announce(["203.0.113.7:51820"])
        friends = [net.nodes[0].owner_id.hex(), net.nodes[1].owner_id.hex()]
        print([await where_is(friend, net.bootstrap[0], Path({directory!r})) for friend in friends])

asyncio.run(main())
"""


def test_the_program_that_finds_a_friend(tmp_path: Path) -> None:
    data, empty = tmp_path / "data", tmp_path / "empty"
    empty.mkdir()
    program = blocks(TUTORIAL, "python")[1] + NETWORK.format(directory=str(data))
    assert run(program, empty) == "[('203.0.113.7:51820',), ()]\n"
    assert (data / NODE_FILE).exists()


def test_the_test_of_the_tutorial(tmp_path: Path) -> None:
    program = blocks(TUTORIAL, "python")[2]
    (name,) = re.findall(r"^def (test_\w+)\(\):$", program, re.MULTILINE)
    assert run(f"{program}\n{name}()\nprint('passed')\n", tmp_path) == "passed\n"


@pytest.mark.parametrize("path", [README, TUTORIAL], ids=lambda p: p.name)
def test_the_smallest_program_is_small(path: Path) -> None:
    assert len(blocks(path, "python")[0].splitlines()) <= 15
