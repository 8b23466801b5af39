"""The `pqdht` command as a user meets it: real processes, real sockets, real exit codes."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pqdht.cli.wireguard import parse_wireguard
from pqdht.errors import (
    KeyFileError,
    ListenError,
    NotBootstrapped,
    NotFound,
    PeerUnreachable,
    PuzzleCancelled,
)

COMMAND = [sys.executable, "-m", "pqdht"]
PRIVATE = base64.b64encode(bytes(range(32))).decode()
TIMEOUT_S = 60


def pqdht(*arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], input=stdin, capture_output=True, timeout=TIMEOUT_S, check=False
    )


def as_json(*arguments: object) -> dict[str, Any]:
    done = pqdht(*arguments, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"\n") == 1
    return dict(json.loads(done.stdout))


class Daemon:
    """`pqdht run --json` in a process, with the events it reported."""

    def __init__(self, data_dir: Path, *arguments: object) -> None:
        self.at = ("--data-dir", data_dir, "--network", "demo")
        self.process = subprocess.Popen(
            [*COMMAND, "run", "--json", *map(str, (*self.at, *arguments))],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def event(self, name: str) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event.get("event") == name:
                return dict(event)
        raise AssertionError(f"no {name!r}: {self.process.communicate()}")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=TIMEOUT_S)
        assert errors == b""
        return self.process.returncode


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Daemon]]:
    """Four daemons; the last announces what its WireGuard file says."""
    directory = tmp_path_factory.mktemp("net")
    config = directory / "wg0.conf"
    config.write_text(f"[Interface]\nPrivateKey = {PRIVATE}\nAddress = 10.0.0.3/24\nListenPort = 51820\n")
    first = Daemon(directory / "0", "--listen", "tcp/127.9.0.1:0")
    daemons = [first]
    try:
        entry = first.event("ready")["bootstrap_entries"][0]
        for i in (1, 2, 3):
            more = ("--announce-wireguard", config) if i == 3 else ()
            listen = f"tcp/127.9.{i}.1:0"
            daemons.append(Daemon(directory / str(i), "--listen", listen, "--bootstrap", entry, *more))
        daemons[3].event("announced")
        daemons[1].event("ready")
        daemons[2].event("ready")
        yield daemons
    finally:
        codes = [d.stop() for d in daemons]
    assert codes == [0] * 4


def test_the_daemon_is_asked_through_its_data_directory(network: list[Daemon]) -> None:
    status = as_json("status", *network[1].at)
    assert status["network"] == "demo"
    assert status["table"] >= 1
    assert as_json("id", *network[1].at)["bootstrap_entries"] == status["bootstrap_entries"]
    text = pqdht("status", *network[1].at).stdout.decode()
    assert ["node", "id", status["node_id"]] in [line.split() for line in text.splitlines()]
    rows = pqdht("table", *network[1].at).stdout.decode().splitlines()
    assert rows[0].split() == ["NODE", "ID", "GROUP", "RTT", "ADDRESSES"]
    assert len(rows) == 1 + len(as_json("table", *network[1].at)["peers"])


def test_values_go_in_and_come_out_byte_for_byte(network: list[Daemon], tmp_path: Path) -> None:
    owner = as_json("id", *network[1].at)["owner_id"]
    value = bytes(range(256))
    assert pqdht("put", "binary", "-", *network[1].at, stdin=value).returncode == 0
    got = pqdht("get", "binary", "--owner", owner, "--ignore-local", *network[2].at)
    assert (got.returncode, got.stdout) == (0, value)
    assert b"confirmed: " in got.stderr
    (tmp_path / "value").write_bytes(b"from a file")
    stored = as_json("put", "binary", "--file", tmp_path / "value", *network[1].at)
    assert stored["confirmed"] >= stored["need"]
    found = as_json("get", "binary", "--owner", owner, *network[2].at)
    assert bytes.fromhex(found["value"]) == b"from a file"
    assert stored["record_id"] in [r["record_id"] for r in as_json("records", *network[1].at)["records"]]
    assert pqdht("delete", "binary", *network[1].at).returncode == 0
    assert pqdht("get", "binary", "--owner", owner, *network[2].at).returncode == NotFound.exit_code


def test_topics_and_content(network: list[Daemon]) -> None:
    key = as_json("put", "--content", "hello", *network[1].at)["key"]
    assert pqdht("get", "--content", key, *network[2].at).stdout == b"hello"
    for daemon in network[:2]:
        assert pqdht("put", "--topic", "lobby", "here", *daemon.at).returncode == 0
    found = as_json("get", "--topic", "lobby", *network[2].at)["results"]
    assert {r["owner"] for r in found} == {as_json("id", *d.at)["owner_id"] for d in network[:2]}


def test_a_peer_is_found_with_its_wireguard_key(network: list[Daemon]) -> None:
    owner = as_json("id", *network[3].at)["owner_id"]
    public = base64.b64encode(parse_wireguard(f"[Interface]\nPrivateKey = {PRIVATE}").public_key).decode()
    found = as_json("find-peer", owner, "--ignore-local", *network[0].at)
    assert found["endpoints"] == ["127.9.3.1:51820"]
    assert found["wireguard_public_key"] == public
    section = pqdht("find-peer", owner, "--wireguard", *network[0].at).stdout.decode()
    assert section == (
        f"[Peer]\n# as claimed by the peer: check it\nPublicKey = {public}\n"
        "Endpoint = 127.9.3.1:51820\nAllowedIPs = 10.0.0.3/32\n"
    )
    text = pqdht("find-peer", owner, *network[0].at).stdout.decode()
    assert f"wireguard  {public}\n" in text
    assert PRIVATE not in text + json.dumps(found)


def test_a_peer_cannot_smuggle_anything_into_a_wireguard_file(network: list[Daemon]) -> None:
    owner = as_json("id", *network[2].at)["owner_id"]
    for evil in ("0.0.0.0/0", "10.0.0.1/32\nPostUp = sh"):
        said = pqdht(
            "announce", "--endpoint", "192.0.2.1:1", "--wireguard-key", "07" * 32,
            "--attribute", f"allowed_ips={evil}", *network[2].at,
        )  # fmt: skip
        assert said.returncode == 0
        shown = pqdht("find-peer", owner, "--wireguard", *network[0].at)
        assert shown.stdout.startswith(b"[Peer]\n# as claimed by the peer: check it\nPublicKey = ")
        assert b"AllowedIPs" not in shown.stdout
        assert b"PostUp" not in shown.stdout
        assert b"AllowedIPs is left for you to write" in shown.stderr
    text = pqdht("find-peer", owner, *network[0].at).stdout
    assert b"attribute  allowed_ips = 10.0.0.1/32\\nPostUp = sh\n" in text


def test_who_asks_for_another_network_than_the_daemons_is_told(network: list[Daemon]) -> None:
    at = network[1].at[:2]
    assert as_json("status", *at)["network"] == "demo"
    for more, what in ((("--network", "testnet"), b"network demo"), (("--suite", 2), b"suite 1")):
        for command in ("status", "id"):
            done = pqdht(command, *at, *more)
            assert done.returncode == 2
            assert b"runs with " + what in done.stderr


def test_the_status_says_what_is_announced(network: list[Daemon]) -> None:
    status = as_json("status", *network[3].at)
    assert status["announced"] == ["127.9.3.1:51820"]
    assert (status["k"], status["uptime_s"] >= 0, status["join_errors"]) == (4, True, {})
    assert as_json("status", *network[0].at)["announced"] == []


def test_a_topic_nobody_wrote_under_is_not_found(network: list[Daemon]) -> None:
    done = pqdht("get", "--topic", "nobody's", *network[0].at)
    assert done.returncode == NotFound.exit_code
    assert b"nobody has a value under the topic" in done.stderr


def test_several_values_of_a_topic_stand_behind_their_owners(network: list[Daemon]) -> None:
    owners = [as_json("id", *d.at)["owner_id"] for d in network[:2]]
    for daemon in network[:2]:
        assert pqdht("put", "--topic", "several", "two\nlines", *daemon.at).returncode == 0
    shown = pqdht("get", "--topic", "several", *network[2].at).stdout.decode()
    assert sorted(shown.splitlines()) == sorted(f"{owner} two\\nlines" for owner in owners)


def test_whose_value_was_asked_for_is_said(network: list[Daemon]) -> None:
    assert b"give --owner for somebody else's" in pqdht("get", "never written", *network[0].at).stderr


def test_a_node_nobody_can_dial_says_so(network: list[Daemon], tmp_path: Path) -> None:
    entry = as_json("id", *network[0].at)["bootstrap_entries"][0]
    client = Daemon(tmp_path, "--listen", "tcp/0.0.0.0:0", "--bootstrap", entry)
    assert client.event("ready")["bootstrap_entries"] == []
    for command in ("id", "status"):
        assert b"client only: no address others can dial" in pqdht(command, *client.at).stdout
    assert client.stop() == 0


def test_why_an_entry_lets_nobody_in_is_said(tmp_path: Path) -> None:
    entry = f"{'ab' * 32}@tcp/127.9.9.9:1"
    at = ("--data-dir", tmp_path, "--network", "demo")
    with subprocess.Popen(
        [*COMMAND, "run", *map(str, at), "--listen", "tcp/127.9.4.1:0", "--bootstrap", entry],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline().endswith(b", joining through 1 entry\n")
        assert f"cannot join through {entry}: ".encode() in process.stderr.readline()
        assert "Connection refused" in as_json("status", *at)["join_errors"][entry]
        process.send_signal(signal.SIGTERM)


def test_an_error_is_no_orderly_end(network: list[Daemon], tmp_path: Path) -> None:
    taken = as_json("status", *network[0].at)["addresses"][0]
    done = pqdht("run", "--data-dir", tmp_path, "--network", "demo", "--listen", taken, "--json")
    assert done.returncode == ListenError.exit_code
    assert [list(json.loads(line)) for line in done.stdout.splitlines()] == [["error"]]


def test_ping(network: list[Daemon]) -> None:
    node = as_json("id", *network[2].at)["node_id"]
    assert as_json("ping", node, *network[0].at)["rtt_s"] > 0
    assert pqdht("ping", node, *network[0].at).stdout.endswith(b" ms\n")


def test_without_a_daemon_a_node_of_its_own_asks(network: list[Daemon], tmp_path: Path) -> None:
    entry = as_json("id", *network[0].at)["bootstrap_entries"][0]
    owner = as_json("id", *network[1].at)["owner_id"]
    at = ("--data-dir", tmp_path / "own", "--network", "demo", "--bootstrap", entry)
    assert pqdht("put", "note", "x", *network[1].at).returncode == 0
    assert pqdht("get", "note", "--owner", owner, *at).stdout == b"x"
    assert not (tmp_path / "own").exists()  # nobody in particular: nothing is left
    assert as_json("ping", entry, *at)["rtt_s"] > 0

    refused = pqdht("put", "mine", "y", *at)
    assert (refused.returncode, b"run `pqdht keygen` first" in refused.stderr) == (2, True)
    mine = as_json("keygen", *at)["owner_id"]
    assert pqdht("put", "mine", "y", *at).returncode == 0
    assert pqdht("get", "mine", "--owner", mine, *network[2].at).stdout == b"y"


@pytest.mark.parametrize("as_text", [False, True])
def test_failures_have_their_exit_codes(network: list[Daemon], as_text: bool) -> None:
    json_ = () if as_text else ("--json",)
    nobody = "ab" * 32
    cases: list[tuple[tuple[object, ...], int, str]] = [
        (("get", "never written", *network[0].at), NotFound.exit_code, "NotFound"),
        (("find-peer", nobody, *network[0].at), NotFound.exit_code, "NotFound"),
        (("find-peer", "short", *network[0].at), 2, "ConfigError"),
        (("ping", f"{nobody}@tcp/127.9.9.9:1", *network[0].at), PeerUnreachable.exit_code, "PeerUnreachable"),
        (("put", "x" * 65, "v", *network[0].at), 2, "ConfigError"),
    ]
    for arguments, code, kind in cases:
        done = pqdht(*arguments, *json_)
        assert done.returncode == code, arguments
        assert done.stderr.startswith(b"pqdht: ")
        assert done.stderr.count(b"\n") == 1
        if as_text:
            assert done.stdout == b""
        else:
            assert json.loads(done.stdout)["error"]["type"] == kind


def test_debug_shows_where(network: list[Daemon]) -> None:
    assert b"Traceback" in pqdht("get", "never written", "--debug", *network[0].at).stderr


def test_a_network_nobody_answers_in_is_reported(tmp_path: Path) -> None:
    entry = f"{'ab' * 32}@tcp/127.9.9.9:1"
    done = pqdht("get", "x", "--data-dir", tmp_path, "--network", "demo", "--bootstrap", entry)
    assert done.returncode == NotBootstrapped.exit_code
    assert done.stderr.splitlines()[-1].startswith(b"pqdht: no peer answered")


def test_two_daemons_cannot_share_a_data_directory_or_a_port(network: list[Daemon], tmp_path: Path) -> None:
    taken = as_json("status", *network[0].at)["addresses"][0]
    second = pqdht("run", *network[0].at, "--listen", "tcp/127.9.8.1:0")
    assert second.returncode == ListenError.exit_code
    assert b"a daemon already answers" in second.stderr
    other = pqdht("run", "--data-dir", tmp_path, "--network", "demo", "--listen", taken)
    assert other.returncode == ListenError.exit_code
    assert b"another program listens there" in other.stderr
    assert as_json("status", *network[0].at)["table"] >= 1


def test_a_damaged_key_file_is_reported_and_kept(tmp_path: Path) -> None:
    at = ("--data-dir", tmp_path, "--network", "demo")
    assert pqdht("keygen", *at).returncode == 0
    (tmp_path / "node.key").write_text("{")
    for command in ("run", "id", "keygen"):
        done = pqdht(command, *at)
        assert done.returncode == KeyFileError.exit_code
        assert b"node.key" in done.stderr
    assert (tmp_path / "node.key").read_text() == "{"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_daemon_ends_in_order(tmp_path: Path, number: signal.Signals) -> None:
    daemon = Daemon(tmp_path, "--listen", "tcp/127.9.7.1:0")
    ready = daemon.event("ready")
    assert Path(ready["control"]).is_socket()
    assert daemon.stop(number) == 0
    assert not Path(ready["control"]).exists()
    again = Daemon(tmp_path, "--listen", "tcp/127.9.7.1:0")
    assert again.event("ready")["node_id"] == ready["node_id"]
    assert again.stop() == 0


def test_the_daemon_tells_people_one_readable_line(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*COMMAND, "run", "--data-dir", tmp_path, "--network", "demo", "--listen", "tcp/127.9.6.1:0"],
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        first, line = (process.stdout.readline().decode() for _ in range(2))
        process.send_signal(signal.SIGINT)
    assert first.startswith("listening on tcp/127.9.6.1:")
    assert first.endswith(", without bootstrap entries\n")
    assert line.startswith("ready on demo: no peers yet; others join through --bootstrap ")
    assert "@tcp/127.9.6.1:" in line


def test_the_daemon_ends_with_its_standard_input(tmp_path: Path) -> None:
    at = ("--data-dir", tmp_path, "--network", "demo", "--listen", "tcp/127.9.5.1:0", "--until-eof")
    done = pqdht("run", *at, stdin=b"ignored")
    assert done.returncode == 0
    with (tmp_path / "node.key").open("rb") as file:
        refused = subprocess.run(
            [*COMMAND, "run", *map(str, at)], stdin=file, capture_output=True, timeout=TIMEOUT_S, check=False
        )
    assert (refused.returncode, refused.stderr) == (2, b"pqdht: --until-eof needs a pipe as standard input\n")


def test_keygen_is_interrupted_and_goes_on(tmp_path: Path) -> None:
    """On main the puzzle takes seconds: stop it, see that nothing is broken, and that it goes on."""
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "keygen", "--data-dir", tmp_path, "--network", "main"], stdout=slave, stderr=slave
    ) as process:
        os.close(slave)
        shown = b""
        until = time.monotonic() + TIMEOUT_S
        while b"tried" not in shown and process.poll() is None and time.monotonic() < until:
            shown += os.read(master, 4096)
        process.send_signal(signal.SIGINT)
    os.close(master)
    assert b"solving the identity puzzle" in shown
    if process.returncode == 0:
        pytest.skip("solved before it could be interrupted: good luck")
    assert process.returncode == PuzzleCancelled.exit_code
    assert not (tmp_path / "node.key").exists()
    assert (tmp_path / "node.puzzle").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "owner.key").exists()
    for path in tmp_path.iterdir():
        assert ".tmp" not in path.name


def test_a_testnet_checks_itself() -> None:
    done = pqdht("testnet", "--nodes", "5", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["nodes"], result["searches"], result["confirmed"]) == (5, 20, 20)
    text = pqdht("testnet", "--nodes", "3", "--processes")
    assert text.returncode == 0, text.stderr
    assert b"6 of 6 searches confirmed" in text.stdout
