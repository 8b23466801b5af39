"""The event file: rotation, torn lines, full disks, and that the node never hears of them."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path

import pytest

from pqdht.errors import StorageError
from pqdht.storage.eventfile import MAX_LINE, EventFile, old_files, read_events
from pqdht.trust.events import EventKind, EventLog, SecurityEvent

AT = 1_800_000_000_000


def event(number: int, text: str = "") -> SecurityEvent:
    return SecurityEvent(
        EventKind.ANOMALY,
        AT + number,
        b"n" * 32,
        "203.0.113.0/24",
        "rtt",
        "observe",
        {"text": text, "z": 4.5},
    )


def test_one_line_per_event_and_nobody_else_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file, log = EventFile(path), EventLog()
    log.subscribe(file.write)
    events = [event(1), event(2, "two\nlines"), SecurityEvent(EventKind.ROLLBACK, AT)]
    for e in events:
        log.emit(e)
    file.close()
    lines = path.read_text().splitlines()
    assert [json.loads(line)["v"] for line in lines] == [1, 1, 1]
    assert json.loads(lines[0]) == {"v": 1, **events[0].as_dict()}
    assert path.stat().st_mode & 0o777 == 0o600
    read = read_events(path, 100)
    assert (read.events, read.damaged) == (events, 0)
    assert read_events(path, 2).events == events[1:]
    assert read_events(path, 0).events == []
    assert (file.written, file.dropped, log.failures) == (3, 0, 0)


def test_a_file_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"")
    path.chmod(0o644)
    EventFile(path).write(event(1))
    assert path.stat().st_mode & 0o777 == 0o600


def test_rotation_keeps_the_latest_files(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    size = len(json.dumps({"v": 1, **event(10).as_dict()}, separators=(",", ":"))) + 1
    file = EventFile(path, max_bytes=3 * size, keep=2)
    for number in range(10, 30):
        file.write(event(number))
    file.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["events.jsonl", "events.jsonl.1", "events.jsonl.2"]
    assert [p.stat().st_size for p in (path, *old_files(path, 2))] == [2 * size, 3 * size, 3 * size]
    assert [e.at_ms - AT for e in read_events(path, 100, keep=2).events] == list(range(22, 30))
    assert [e.at_ms - AT for e in read_events(path, 5, keep=2).events] == list(range(25, 30))
    again = EventFile(path, max_bytes=3 * size, keep=2)
    again.write(event(30))
    again.write(event(31))
    assert [e.at_ms - AT for e in read_events(path, 100, keep=2).events] == list(range(25, 32))


def test_nothing_may_be_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(path, max_bytes=1, keep=0)
    for number in range(3):
        file.write(event(number))
    assert [p.name for p in tmp_path.iterdir()] == ["events.jsonl"]
    assert read_events(path, 9).events == [event(2)]


def test_a_number_missing_after_a_kill_between_renames_is_harmless(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(path, max_bytes=1, keep=3)
    for number in range(4):
        file.write(event(number))
    (tmp_path / "events.jsonl.1").replace(tmp_path / "aside")
    assert read_events(path, 9).events == [event(0), event(1), event(3)]
    file.write(event(4))
    assert read_events(path, 9).events == [event(0), event(1), event(3), event(4)]


@pytest.mark.parametrize("cut", [1, 2, 60])
def test_a_half_written_line_is_mended(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "events.jsonl"
    file = EventFile(path)
    for number in range(3):
        file.write(event(number))
    file.close()
    path.write_bytes(path.read_bytes()[:-cut])
    again = EventFile(path)
    again.write(event(3))
    again.write(event(4))
    read = read_events(path, 9)
    whole = [event(2)] if cut == 1 else []  # only its end of line was missing
    assert read.events == [event(0), event(1), *whole, event(3), event(4)]
    assert read.damaged == 1 - len(whole)


def test_damaged_lines_are_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    EventFile(path).write(event(1))
    good = path.read_bytes()
    newer = json.dumps({**event(2).as_dict(), "v": 2}).encode() + b"\n"
    path.write_bytes(
        b"\x00\xff\n" + good + b"\n[]\n{}\n" + newer + b"x" * 3 * MAX_LINE + b"\n" + b"[" * 5000 + b"\n"
        + good + b'{"v":1,"kind":'
    )  # fmt: skip
    read = read_events(path, 9)
    assert read.events == [event(1), event(1)]
    assert read.damaged == 8


def test_a_full_disk_drops_and_counts_and_later_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file, log = EventFile(path), EventLog()
    log.subscribe(file.write)
    log.emit(event(1))
    room = path.stat().st_size + 40
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        log.emit(event(2))
        log.emit(event(3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (file.written, file.dropped, log.failures) == (1, 2, 0)
    assert file.error
    assert path.stat().st_size == room, "half a line is there"
    log.emit(event(4))
    read = read_events(path, 9)
    assert (read.events, read.damaged) == ([event(1), event(4)], 1)


def test_what_cannot_be_opened_drops_and_counts(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "directory").mkdir()
    for name in ("fifo", "link", "directory", "missing/events.jsonl"):
        file = EventFile(tmp_path / name)
        file.write(event(1))
        assert (file.written, file.dropped) == (0, 1), name
        assert file.error, name
    assert not (tmp_path / "target").exists()
    file = EventFile(tmp_path / "later" / "events.jsonl")
    file.write(event(1))
    (tmp_path / "later").mkdir()
    file.write(event(2))
    assert (file.written, file.dropped) == (1, 1), "it tries again"


def test_what_cannot_be_encoded_is_dropped(tmp_path: Path) -> None:
    file = EventFile(tmp_path / "events.jsonl")
    file.write(event(1, "\ud800"))
    file.write(SecurityEvent(EventKind.ANOMALY, AT, b"n" * MAX_LINE))
    assert (file.written, file.dropped) == (0, 2)
    file.write(event(2, "\x01" * 10**6))
    assert file.written == 1


def test_no_file_holds_no_events(tmp_path: Path) -> None:
    assert read_events(tmp_path / "none", 5).events == []
    with pytest.raises(StorageError):
        read_events(tmp_path, 5)
