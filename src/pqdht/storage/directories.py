"""Directories whose entries survive a power cut."""

from __future__ import annotations

import os
from pathlib import Path


def make_directory(path: Path) -> None:
    """As `mkdir -p` with mode 0700 (parents as the umask says), each new entry on disk. Raises OSError."""
    missing = []
    at = path
    while not at.is_dir() and at != at.parent:
        missing.append(at)
        at = at.parent
    for directory in reversed(missing):
        try:
            directory.mkdir(mode=0o700 if directory == path else 0o777)
        except FileExistsError:
            if not directory.is_dir():  # else somebody was faster
                raise
        sync_directory(directory.parent)


def sync_directory(path: Path) -> None:
    """Put names made, renamed or removed in a directory on disk. Raises OSError."""
    if os.name != "posix":
        return
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
