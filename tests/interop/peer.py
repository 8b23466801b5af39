"""The peer: a small Rust program over the crates clatter, ml-kem and x-wing (`src/main.rs`)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

HERE = Path(__file__).parent
TARGET = HERE.parents[1] / ".venv" / "interop"
"""Where cargo builds: out of the source tree, and kept between runs."""
OLDEST_CARGO = (1, 85)
"""What the crate x-wing asks for (Rust edition 2024)."""


class PeerMissing(Exception):
    """The program cannot be built here, and what is missing; not that it is wrong."""


class PeerRefused(Exception):
    """The peer's answer was an error: its own words."""


def _cargo(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "CARGO_TARGET_DIR": str(TARGET)}
    return subprocess.run(
        ["cargo", *arguments], cwd=HERE, env=environment, capture_output=True, text=True, check=False
    )


def build_peer() -> Path:
    """The program, built if need be (half a minute, then kept).

    Raises PeerMissing where cargo or the crates cannot be had, RuntimeError where it does not compile.
    """
    if not shutil.which("cargo"):
        raise PeerMissing("cargo is missing; install Rust 1.85 or newer")
    said = _cargo("--version").stdout
    found = re.match(r"cargo (\d+)\.(\d+)", said)
    if found is None or (int(found[1]), int(found[2])) < OLDEST_CARGO:
        raise PeerMissing(f"{said.strip() or 'this cargo'} is too old; install Rust 1.85 or newer")
    fetched = _cargo("fetch", "--locked")
    if fetched.returncode:
        raise PeerMissing(f"the crates cannot be fetched; cargo needs a registry: {fetched.stderr[-500:]}")
    built = _cargo("build", "--locked", "--offline")
    if built.returncode:
        raise RuntimeError(f"cargo build failed in {HERE}:\n{built.stderr[-4000:]}")
    return TARGET / "debug" / "pqdht-interop"


class Peer:
    """The running program; `ask` gives it a command and returns the values it answers with."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen(
            [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(timeout=30)

    def ask(self, command: str, *words: str | bytes) -> list[bytes]:
        """Raises PeerRefused; EOFError if the program is gone."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = [w if isinstance(w, str) else w.hex() or "-" for w in words]
        self._process.stdin.write(" ".join([command, *said]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise EOFError(f"the peer ended with {self._process.wait(timeout=30)}")
        verdict, *values = answer.rstrip("\n").split(" ")
        if verdict != "ok":
            raise PeerRefused(" ".join(values))
        return [b"" if v == "-" else bytes.fromhex(v) for v in values]
