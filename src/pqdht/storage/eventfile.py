"""Security events as JSON lines in a file that rotates.

One line per event, written by one call to an append-only descriptor, so that a killed process leaves at
most its last line half written; the next process begins on a new line.  Nothing here raises into the
node: what cannot be written is dropped and counted.  Lines are not synced one by one; after a power cut
the last seconds may be missing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import msgspec

from ..errors import StorageError
from ..trust.events import EventKind, SecurityEvent

VERSION = 1
MAX_BYTES = 4 * 1024 * 1024
"""Of one file, before the next is begun."""
KEEP = 4
"""Old files kept as `<name>.1` (the newest) to `<name>.4`: 20 MiB in all with the present one."""
MAX_LINE = 64 * 1024
"""Bytes: 16 facts with names and texts of 256 characters, each escaped by 6 bytes, are about 49,000."""


class EventFile:
    """Writes events to `path`.  Subscribe its `write` to an `EventLog`; blocks as long as the disk does."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES, keep: int = KEEP) -> None:
        self.path = path
        self.written = 0
        self.dropped = 0
        """Events lost: disk full, no right to write, not a file, not to be encoded."""
        self.error = ""
        """Why the last one was dropped."""
        self._max_bytes = max_bytes
        self._keep = keep
        self._fd: int | None = None
        self._size = 0
        self._is_torn = False
        """The file ends within a line."""

    def write(self, event: SecurityEvent) -> None:
        """Append one event, or count it as dropped."""
        try:
            line = msgspec.json.encode({"v": VERSION, **event.as_dict()}) + b"\n"
            if len(line) > MAX_LINE:
                raise OSError(f"an event of {len(line)} bytes")
            fd = self._open()
            if self._size and self._size + self._is_torn + len(line) > self._max_bytes:
                self._rotate()
                fd = self._open()
            self._append(fd, line)
        except OSError as e:
            self.dropped += 1
            self.error = e.strerror or str(e)
        except (ValueError, OverflowError) as e:  # text that is no Unicode, a number beyond 64 bits
            self.dropped += 1
            self.error = str(e)
        else:
            self.written += 1

    def close(self) -> None:
        """Let go of the file; a later `write` opens it again."""
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def _open(self) -> int:
        if self._fd is not None:
            return self._fd
        # Not blocking and no link: nothing in the file's place may hang us or have us write elsewhere.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
        for name in ("O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"):
            flags |= getattr(os, name, 0)
        fd = os.open(self.path, flags, 0o600)
        try:
            found = os.fstat(fd)
            if not stat.S_ISREG(found.st_mode):
                raise OSError(f"{self.path} is not a file")
            if os.name == "posix" and found.st_mode & 0o077:
                os.fchmod(fd, 0o600)
            self._size = os.lseek(fd, 0, os.SEEK_END)
            if self._size:
                os.lseek(fd, -1, os.SEEK_END)
                self._is_torn = os.read(fd, 1) != b"\n"
            else:
                self._is_torn = False
        except OSError:
            os.close(fd)
            raise
        self._fd = fd
        return fd

    def _append(self, fd: int, line: bytes) -> None:
        data = b"\n" + line if self._is_torn else line
        done = os.write(fd, data)
        self._size += done
        if done < len(data):  # the disk is full, or a signal came
            self._is_torn = True
            raise OSError(f"{done} of {len(data)} bytes were written: the disk may be full")
        self._is_torn = False

    def _rotate(self) -> None:
        """Begin a new file.  Killed in between, one number is missing, and the next rotation fills it."""
        self.close()
        names = [self.path]
        for old in old_files(self.path, self._keep):
            names.append(old)
            if not old.exists():
                break
        if len(names) == 1:
            self.path.unlink()
        for newer, older in reversed(list(pairwise(names))):
            newer.replace(older)


@dataclass(frozen=True, slots=True)
class EventsRead:
    """What an event file holds."""

    events: list[SecurityEvent]
    """Oldest first."""
    damaged: int
    """Lines that are no event of this version, such as a half-written one."""


def old_files(path: Path, keep: int = KEEP) -> list[Path]:
    """Where rotated files are, the newest first."""
    return [path.with_name(f"{path.name}.{number}") for number in range(1, keep + 1)]


def read_events(
    path: Path, limit: int, *, kind: EventKind | None = None, keep: int = KEEP
) -> EventsRead:
    """The latest `limit` events (of one kind) of an event file and of those rotated from it.

    Damaged lines are skipped; a file that is not there holds none.  Memory for `limit` events
    is needed.  Raises StorageError.
    """
    events: deque[SecurityEvent] = deque(maxlen=max(0, limit))
    damaged = 0
    for part in (*reversed(old_files(path, keep)), path):
        try:
            if not stat.S_ISREG(part.stat().st_mode):
                raise OSError(errno.EINVAL, "it is not a file")  # to open a pipe would wait for its writer
            with part.open("rb") as file:
                damaged += _read(file, kind, events)
        except FileNotFoundError:
            continue
        except OSError as e:
            raise StorageError(f"{part} cannot be read: {e.strerror}", path=str(part)) from None
    return EventsRead(list(events), damaged)


def _read(file: BinaryIO, kind: EventKind | None, events: deque[SecurityEvent]) -> int:
    """Append the events (of one kind) of one file; how many lines were damaged."""
    damaged = 0
    while line := file.readline(MAX_LINE):
        is_whole = line.endswith(b"\n")
        while line and not line.endswith(b"\n"):
            line = file.readline(MAX_LINE)  # too long, or the end of the file
        event = _decode(line) if is_whole else None
        if event is None:
            damaged += 1
        elif kind is None or event.kind is kind:
            events.append(event)
    return damaged


def _decode(line: bytes) -> SecurityEvent | None:
    try:
        facts = msgspec.json.decode(line)
        if not isinstance(facts, dict) or facts.get("v") != VERSION:
            return None
        return SecurityEvent.from_dict(facts)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
