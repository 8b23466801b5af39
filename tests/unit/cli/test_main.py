"""cli.main: every command without a network: help, keys, and what is refused with which exit code."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pqdht.cli.main import app
from pqdht.daemon.requests import valid_until
from pqdht.errors import ControlError, KeyFileError, ListenError, StorageError

COMMANDS = (
    "keygen id run put get delete announce find-peer ping table records status"
    " verify reputation quarantine events testnet"
).split()
ID = "ab" * 32


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PQDHT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))


def invoke(*arguments: object, **options: Any) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [str(a) for a in arguments], **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_commands_are_all_there() -> None:
    code, out, _ = invoke("--help")
    assert code == 0
    assert [line.split()[0] for line in out.partition("Commands:")[2].split("\n") if line.strip()] == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_and_speaks_json(command: str) -> None:
    code, out, _ = invoke(command, "--help")
    assert code == 0
    assert "--json" in out
    assert "--debug" in out


def test_keygen_makes_keys_once(tmp_path: Path) -> None:
    at = ("--data-dir", tmp_path / "node", "--network", "demo", "--json")
    code, out, err = invoke("keygen", *at)
    made = json.loads(out)
    assert (code, err, made["created"]) == (0, "", True)
    assert (tmp_path / "node" / "node.key").stat().st_mode & 0o777 == 0o600
    again = json.loads(invoke("keygen", *at)[1])
    assert again == made | {"created": False}
    shown = json.loads(invoke("id", *at)[1])
    assert shown == {
        "node_id": made["node_id"],
        "owner_id": made["owner_id"],
        "network": "demo",
        "valid_until": shown["valid_until"],
        "bootstrap_entries": [],
        "running": False,
    }
    assert "existing keys kept" in invoke("keygen", *at[:-1])[1]


def test_an_id_is_valid_for_37_days() -> None:
    assert valid_until(0) == "1970-02-07"
    assert valid_until(20_000) == "2024-11-10"


@pytest.mark.parametrize("command", ["keygen", "run"])
def test_a_data_directory_that_cannot_be_made_is_said(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("somebody's")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        code, _, err = invoke(command, "--data-dir", path, "--network", "demo")
        assert code == StorageError.exit_code
        assert err.startswith(f"pqdht: {path} cannot be made (")
        assert err.endswith("choose another --data-dir\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("get", "x"),
        ("put", "x", "y"),
        ("delete", "x"),
        ("ping", ID),
        ("find-peer", ID),
        ("announce", "--endpoint", "192.0.2.1:1"),
    ],
)
def test_without_a_daemon_either_it_or_an_entry_is_asked_for(arguments: tuple[str, ...]) -> None:
    code, _, err = invoke(*arguments)
    assert code == ControlError.exit_code
    assert "start `pqdht run`, or give --bootstrap" in err
    code, _, err = invoke(*arguments, "--control", "/nonexistent/socket")
    assert code == ControlError.exit_code
    assert "no daemon answers at /nonexistent/socket" in err


@pytest.mark.parametrize("command", ["status", "table", "records"])
def test_what_is_asked_of_a_daemon_only_needs_one(command: str) -> None:
    code, _, err = invoke(command, "--bootstrap", f"{ID}@tcp/127.0.0.1:1")
    assert code == ControlError.exit_code
    assert err.endswith("start `pqdht run`\n")


def test_a_file_in_the_sockets_place_is_said(tmp_path: Path) -> None:
    (tmp_path / "control.sock").write_text("")
    for command, code, what in (
        ("status", ControlError.exit_code, "is no control socket"),
        ("run", ListenError.exit_code, "a file that is no socket is there"),
    ):
        found, _, err = invoke(command, "--data-dir", tmp_path, "--network", "demo")
        assert (found, what in err) == (code, True)


def test_a_value_is_measured_in_its_own_bytes() -> None:
    code, _, err = invoke("put", "x", "-", input=b"x" * 32769)
    assert (code, "value of 32769 bytes, at most " in err) == (2, True)


def test_id_says_what_others_bootstrap_from(tmp_path: Path) -> None:
    at = ("--data-dir", tmp_path, "--network", "demo")
    code, out, _ = invoke("keygen", *at)
    node_id = out.split()[2]
    assert code == 0
    assert f"bootstrap    {node_id}@tcp/HOST:4733\n" in invoke("id", *at)[1]


def test_a_missing_key_says_how_to_make_one(tmp_path: Path) -> None:
    code, out, err = invoke("id", "--data-dir", tmp_path, "--json")
    assert code == KeyFileError.exit_code
    assert json.loads(out)["error"]["type"] == "KeyFileError"
    assert "pqdht keygen" in err


def test_keys_of_another_network_are_refused(tmp_path: Path) -> None:
    assert invoke("keygen", "--data-dir", tmp_path, "--network", "demo")[0] == 0
    code, _, err = invoke("id", "--data-dir", tmp_path, "--network", "testnet")
    assert code == KeyFileError.exit_code
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("get", "x", "--topic", "--content"), "not both"),
        (("get", "x", "--consistency", "most"), "first, majority or all"),
        (("get", "x", "--network", "nowhere", "--bootstrap", f"{ID}@tcp/127.0.0.1:1"), "no network named"),
        (("get", "x", "--bootstrap", "127.0.0.1:1"), "must read <node id>@tcp/host:port"),
        (("put",), "give a NAME"),
        (("put", "x"), "give a VALUE"),
        (("put", "x", "y", "--file", "z"), "give a VALUE"),
        (("put", "x", "--file", "/nonexistent"), "/nonexistent cannot be read"),
        (("put", "x", "y", "--content"), "takes a value and no name"),
        (("put", "x", "y", "--bootstrap", f"{ID}@tcp/127.0.0.1:1"), "run `pqdht keygen` first"),
        (("announce",), "nothing to announce"),
        (("announce", "--wireguard-config", "/nonexistent"), "/nonexistent cannot be read"),
        (("run", "--listen", "127.0.0.1:1", "--network", "demo"), "not an address"),
        (("run", "--wireguard-key", "x"), "a WireGuard public key is 32 bytes"),
        (("run", "--suite", "9"), "suite must be "),
        (("keygen", "--provider", "abacus"), "provider must be one of"),
        (("run", "--endpoint", "0.0.0.0:51820", "--network", "demo"), "no address others could use"),
        (("run", "--announce", "192.0.2.1", "--network", "demo"), "not an endpoint"),
        (("run", "--attribute", "a=b", "--network", "demo"), "# Endpoint = host:port"),
        (("testnet", "--network", "main"), "use demo or testnet"),
    ],
)
def test_what_cannot_work_is_said_in_one_line(arguments: tuple[str, ...], what: str) -> None:
    code, out, err = invoke(*arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("pqdht: ")
    assert what in err
    assert err.count("\n") == 1


def test_unknown_options_and_missing_arguments_are_usage_errors() -> None:
    for arguments in (
        ("get",),
        ("get", "x", "--nonsense"),
        ("nonsense",),
        ("ping",),
        ("testnet", "--nodes", "1"),
    ):
        code, _, err = invoke(*arguments)
        assert code == 2
        assert "Usage: " in err


def test_settings_come_from_the_environment_too(tmp_path: Path) -> None:
    environment = {"PQDHT_DATA_DIR": str(tmp_path), "PQDHT_NETWORK": "demo"}
    assert invoke("keygen", env=environment)[0] == 0
    assert json.loads(invoke("id", "--json", env=environment)[1])["network"] == "demo"


def test_the_version_is_that_of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pqdht.cli.main.version", lambda name: f"9.9 of {name}")
    assert invoke("--version") == (0, "pqdht 9.9 of pqdht\n", "")
