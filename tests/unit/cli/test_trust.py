"""cli.trust: what people see of the defences, from a daemon's answer and from the file it left."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pqdht.cli import trust
from pqdht.cli.main import app
from pqdht.cli.settings import Settings, defences
from pqdht.cli.trust import security_facts
from pqdht.config import DEFENCES
from pqdht.daemon.requests import Request
from pqdht.errors import ConfigError, ControlError, NotConfirmed, NotFound, StorageError
from pqdht.node.guard import EVENTS_FILE
from pqdht.storage.eventfile import EventFile
from pqdht.trust.events import EventKind, SecurityEvent

NODE = "ab" * 32
AT_MS = 1_800_000_000_000


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PQDHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))


def invoke(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def answered(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any]) -> list[Request]:
    """A daemon that gives this answer; what it is asked."""
    asked: list[Request] = []

    def ask(settings: Settings, request: Request, what: str) -> dict[str, Any]:
        asked.append(request)
        return answer

    monkeypatch.setattr(trust, "ask", ask)
    return asked


def event(kind: EventKind, at_ms: int = AT_MS, **detail: str | float) -> SecurityEvent:
    node = bytes.fromhex(NODE)
    return SecurityEvent(kind, at_ms, node, "v4/10.0.0.0/24", "invalid_rate", "enforce", detail)


def left_behind(directory: Path, *events: SecurityEvent) -> Path:
    """The file of a daemon that has ended."""
    file = EventFile(directory / EVENTS_FILE)
    for each in events:
        file.write(each)
    file.close()
    assert file.written == len(events)
    return file.path


def test_events_of_a_daemon_that_ended_are_read_from_its_file(tmp_path: Path) -> None:
    left_behind(tmp_path, event(EventKind.INVALID_DATA, share=0.123456), event(EventKind.QUARANTINED))
    code, out, err = invoke("events", "--data-dir", tmp_path)
    assert (code, err) == (0, "")
    assert [line.split() for line in out.splitlines()] == [
        ["TIME", "KIND", "DEFENCE", "MODE", "NODE", "ID", "GROUP", "DETAIL"],
        ["2027-01-15", "08:00:00Z", "invalid_data", "invalid_rate", "enforce", NODE, "v4/10.0.0.0/24",
         "share=0.1235"],
        ["2027-01-15", "08:00:00Z", "quarantined", "invalid_rate", "enforce", NODE, "v4/10.0.0.0/24"],
    ]  # fmt: skip


def test_a_limit_counts_events_of_the_kind_asked_for(tmp_path: Path) -> None:
    kinds = (EventKind.QUARANTINED, EventKind.RELEASED, EventKind.QUARANTINED, EventKind.ANOMALY)
    left_behind(tmp_path, *(event(kind, AT_MS + i) for i, kind in enumerate(kinds)))
    found = json.loads(
        invoke("events", "--data-dir", tmp_path, "--kind", "quarantined", "--limit", 1, "--json")[1]
    )
    assert [e["at_ms"] for e in found["events"]] == [AT_MS + 2]
    assert found["file"] == str(tmp_path / EVENTS_FILE)


def test_a_damaged_file_gives_what_is_whole(tmp_path: Path) -> None:
    path = left_behind(tmp_path, event(EventKind.QUARANTINED), event(EventKind.RELEASED, at_ms=2**62))
    path.write_bytes(b'{"v": 1, "kind": "half\n\xff\n' + path.read_bytes() + b'{"v":')
    code, out, err = invoke("events", "--data-dir", tmp_path)
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["TIME", "2027-01-15", str(2**62)]
    assert err.startswith("3 damaged lines in ")
    assert json.loads(invoke("events", "--data-dir", tmp_path, "--json")[1])["damaged"] == 3


def test_what_a_peer_wrote_cannot_drive_the_terminal(tmp_path: Path) -> None:
    left_behind(tmp_path, event(EventKind.ANOMALY, error="\x1b[2J\nx"))
    assert "error=\\x1b[2J\\nx\n" in invoke("events", "--data-dir", tmp_path)[1]


def test_no_file_is_no_event(tmp_path: Path) -> None:
    code, out, err = invoke("events", "--data-dir", tmp_path)
    assert (code, out.count("\n"), err) == (0, 1, f"no events in {tmp_path / EVENTS_FILE}\n")


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo])
def test_what_is_no_file_is_not_read(tmp_path: Path, make: Any) -> None:
    """To open a pipe would wait for ever."""
    make(tmp_path / EVENTS_FILE)
    code, _, err = invoke("events", "--data-dir", tmp_path)
    assert code == StorageError.exit_code
    assert "it is not a file" in err


def test_a_daemon_named_must_answer(tmp_path: Path) -> None:
    left_behind(tmp_path, event(EventKind.QUARANTINED))
    at = ("--data-dir", tmp_path, "--control", "/nonexistent/socket")
    assert invoke("events", *at)[0] == ControlError.exit_code
    assert "quarantined" in invoke("events", *at, "--file")[1]


def test_an_unknown_kind_lists_those_there_are() -> None:
    code, _, err = invoke("events", "--kind", "nonsense")
    assert code == ConfigError.exit_code
    assert "there are proven_fault, invalid_data, " in err


def test_the_quarantine_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    held = {"node": NODE, "reason": "invalid_rate", "since": AT_MS, "until": AT_MS + 600_000, "times": 1}
    rows = [held | {"on_probation": False}, held | {"on_probation": True}]
    answered(monkeypatch, {"quarantined": rows})
    _, out, _ = invoke("quarantine")
    assert out.splitlines()[1:] == [
        f"{NODE}  invalid_rate  2027-01-15 08:00:00Z  2027-01-15 08:10:00Z  1",
        f"{NODE}  invalid_rate  2027-01-15 08:00:00Z  a probe is passed     1",
    ]


def test_where_there_is_nothing_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, {"quarantined": []})
    assert invoke("quarantine")[2] == "nobody is in quarantine\n"
    assert invoke("quarantine", "--json")[2] == ""


def test_a_tombstone_is_called_one(monkeypatch: pytest.MonkeyPatch) -> None:
    result: dict[str, Any] = {
        "value": None, "owner": "cd" * 32, "verdict": "confirmed", "confirmations": 3, "holders": 3,
        "responders": 3, "dissent": [], "groups": 3, "paths": 2, "time_s": 0.01, "record_id": "ef" * 32,
        "timestamp": AT_MS, "rollback_from": None,
    }  # fmt: skip
    answered(monkeypatch, result)
    assert "\nvalue     deleted by its owner\n" in invoke("verify", "x")[1]
    answered(monkeypatch, result | {"record_id": None})
    assert "value" not in invoke("verify", "x")[1]


def test_a_node_is_let_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for lifted, said in ((True, "is let out"), (False, "was not in quarantine")):
        answer = {"node": NODE, "lifted": lifted}
        asked = answered(monkeypatch, answer)
        assert invoke("quarantine", "--lift", NODE) == (0, f"{NODE} {said}\n", "")
        assert json.loads(invoke("quarantine", "--lift", NODE, "--json")[1]) == answer
        assert [r.method for r in asked] == ["lift", "lift"]


def test_a_score(monkeypatch: pytest.MonkeyPatch) -> None:
    answered(monkeypatch, {"node": NODE, "score": 0.12345, "quarantined": True})
    assert invoke("reputation", NODE) == (0, "0.123  in quarantine\n", "")


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        ("confirmed", 0),
        ("absent", NotFound.exit_code),
        ("contested", NotConfirmed.exit_code),
        ("alone", NotConfirmed.exit_code),
    ],
)
def test_a_verification_shows_dissent_and_fails_unless_confirmed(
    verdict: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = {
        "value": "00ff", "owner": "cd" * 32, "verdict": verdict, "confirmations": 3, "holders": 4,
        "responders": 5, "dissent": [NODE], "groups": 5, "paths": 2, "time_s": 0.01, "record_id": None,
        "timestamp": AT_MS, "rollback_from": None,
    }  # fmt: skip
    answered(monkeypatch, result)
    found, out, _ = invoke("verify", "x")
    assert found == code
    assert out.startswith(f"verdict   {verdict}: 3 of 4 confirm, 5 answered")
    assert out.endswith(f"signed    2027-01-15 08:00:00Z\ndissent   {NODE}\n")
    found, out, _ = invoke("verify", "x", "--json")
    assert (found, json.loads(out)) == (code, result)


def test_the_security_counts_of_a_status_are_readable() -> None:
    quiet = {"counts": {}, "suppressed": {}, "subscriber_failures": 0, "file": None}
    assert security_facts(quiet) == [("security events", "none")]
    loud = quiet | {
        "counts": {"invalid_data": 12, "quarantined": 3},
        "suppressed": {"invalid_data": 2},
        "file": {"written": 0, "dropped": 13, "error": "No space left on device"},
    }
    assert security_facts(loud) == [
        ("security events", "invalid_data 12, quarantined 3"),
        ("counted only", "invalid_data 2"),
        ("events not written", "13 (No space left on device)"),
    ]


def test_defences_are_chosen_one_by_one_or_all_at_once() -> None:
    assert defences([]) is None
    assert defences(["quarantine=off", "clocks=enforce"]) == {"quarantine": "off", "clocks": "enforce"}
    assert defences(["observe", "region=off"]) == dict.fromkeys(DEFENCES, "observe") | {"region": "off"}


@pytest.mark.parametrize(
    ("given", "what"),
    [
        ("nonsense", "takes NAME=MODE or one of enforce, observe, off"),
        ("nonsense=off", "there are: reputation, quarantine"),
        ("quarantine=soft", "quarantine must be one of enforce, observe, off"),
    ],
)
def test_a_misspelt_defence_is_refused(given: str, what: str) -> None:
    code, _, err = invoke("run", "--defence", given, "--network", "demo")
    assert (code, what in err) == (ConfigError.exit_code, True)


def test_defences_come_from_the_environment_too(tmp_path: Path) -> None:
    result = CliRunner().invoke(
        app,
        ["run", "--network", "demo", "--data-dir", str(tmp_path)],
        env={"PQDHT_DEFENCE": "quarantine=off reports=soft"},
    )
    assert result.exit_code == ConfigError.exit_code
    assert "reports must be one of" in result.stderr


class Daemon:
    """One that was started with these modes."""

    def __init__(self, **unusual: str) -> None:
        self.unusual = unusual

    async def call(self, request: Request) -> dict[str, Any]:
        return {"network": "demo", "suite": 1, "defences": self.unusual}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("quarantine=off", ""),
        ("reports=enforce", ""),
        ("quarantine=enforce", "runs with quarantine=off, not enforce"),
        ("observe", "runs with reputation=enforce, not observe"),
        ("nonsense=off", "none is named 'nonsense'"),
    ],
)
def test_a_running_daemon_is_not_given_other_modes(given: str, says: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, defence=[given])
    check = settings.check_same(Daemon(quarantine="off"))  # type: ignore[arg-type]
    if not says:
        asyncio.run(check)
        return
    with pytest.raises(ConfigError, match=says):
        asyncio.run(check)
