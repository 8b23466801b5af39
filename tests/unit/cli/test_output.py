"""cli.output: alignment, escaping, and how failures become one line and an exit code."""

from __future__ import annotations

import json

import pytest
import typer

from pqdht.cli.output import (
    INTERNAL_ERROR,
    INTERRUPTED,
    milliseconds,
    print_columns,
    print_facts,
    printable,
    puzzle_progress,
    reporting,
)
from pqdht.errors import NotFound, PqdhtError


def test_facts_are_aligned_and_empty_ones_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    print_facts([("a", 1), ("long", "x"), ("none", None), ("empty", ""), ("zero", 0)])
    assert capsys.readouterr().out == "a     1\nlong  x\nzero  0\n"
    print_facts([])
    assert capsys.readouterr().out == ""


def test_columns_are_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    print_columns(("ID", "N"), [("abc", 1), ("d", 22)])
    assert capsys.readouterr().out == "ID   N\nabc  1\nd    22\n"


def test_what_others_wrote_cannot_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert printable("a\x1b[2J\nb\u202eü") == "a\\x1b[2J\\nb\\u202eü"
    print_facts([("k\n", "v\r")])
    print_columns(("H",), [["\x07"]])
    assert capsys.readouterr().out == "k\\n  v\\r\nH\n\\x07\n"


def test_milliseconds() -> None:
    assert [milliseconds(s) for s in (0.0123, 1.0, None)] == ["12.3 ms", "1000.0 ms", "-"]


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (NotFound("nobody\nhas it"), 12, "pqdht: nobody has it\n"),
        (NotFound("more is in `result` of this error"), 12, "pqdht: more is shown by --json\n"),
        (NotFound("ask again with thorough=True"), 12, "pqdht: ask again with --thorough\n"),
        (PqdhtError("x"), 1, "pqdht: x\n"),
        (ZeroDivisionError("y"), INTERNAL_ERROR, "(ZeroDivisionError: y); please report it\n"),
    ],
)
def test_a_failure_is_one_line_and_an_exit_code(
    error: Exception, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, reporting(json=False, debug=False):
        raise error
    assert caught.value.exit_code == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith(line)
    assert err.count("\n") == 1


def test_a_failure_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting(json=True, debug=False):
        raise NotFound("nobody has it", key="00")
    out, err = capsys.readouterr()
    assert json.loads(out) == {
        "error": {"type": "NotFound", "message": "nobody has it", "exit_code": 12, "fields": {"key": "00"}}
    }
    assert err == "pqdht: nobody has it\n"


def test_a_traceback_is_shown_only_to_who_asks(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit), reporting(json=False, debug=True):
        raise NotFound("nobody has it")
    assert "Traceback" in capsys.readouterr().err


def test_an_interruption_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as caught, reporting(json=False, debug=False):
        raise KeyboardInterrupt
    assert caught.value.exit_code == INTERRUPTED
    assert capsys.readouterr().err == ""


def test_a_wanted_exit_passes() -> None:
    with pytest.raises(typer.Exit) as caught, reporting(json=False, debug=False):
        raise typer.Exit(5)
    assert caught.value.exit_code == 5


def test_a_long_puzzle_is_announced_and_its_end_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pqdht.cli.output.PATIENCE_S", 0.0)
    events: list[dict[str, object]] = []
    with puzzle_progress(events.append) as show:
        show(1, 10)
        show(2, 10)
    assert [(e["event"], e["state"]) for e in events] == [("puzzle", "solving"), ("puzzle", "solved")]
    with puzzle_progress() as show:
        show(1, 10)
    first, last = capsys.readouterr().err.splitlines()
    assert first == "solving the identity puzzle: usually 10-60 s on one or two cores, luck decides"
    assert last.startswith("identity puzzle solved in ")


def test_a_short_puzzle_is_not_worth_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with puzzle_progress() as show:
        show(1, 10)
    assert capsys.readouterr().err == ""
