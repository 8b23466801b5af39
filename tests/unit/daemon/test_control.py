"""daemon.control: any line is a request or a typed refusal (the rest is in tests/live/test_control.py)."""

from __future__ import annotations

from pathlib import Path

import pytest

from pqdht.daemon.control import ControlClient, parse_line
from pqdht.daemon.requests import FindNode
from pqdht.errors import ConfigError, ControlError

BAD = [
    b"",
    b"{",
    b"[]",
    b'{"method": 1}',
    b'{"method": "status", "more": 1}',
    b'{"method": "st\xffatus"}',
    b'{"method": "status", "params": ' + b"[" * 20_000,
    b'{"method": "status", "params": ' + b'{"a":' * 20_000,
    b'{"method": "status", "params": "\\ud800"}',
    b'{"method": "put", "params": {"value": "", "ttl": ' + b"9" * 5000 + b"}}",
]


@pytest.mark.parametrize("line", BAD)
def test_what_is_no_request_is_a_config_error(line: bytes) -> None:
    """And no failure inside the daemon, which would go into its log with a traceback each time."""
    with pytest.raises(ConfigError):
        parse_line(line)


def test_a_line_is_a_request() -> None:
    assert parse_line(b'{"method": "find_node", "params": {"target": "ab"}}\n') == FindNode(target="ab")


@pytest.mark.parametrize("line", [*BAD, b'{"result": 1}', b"{}"])
def test_what_is_no_answer_means_that_the_daemon_left(line: bytes) -> None:
    with pytest.raises(ControlError, match="ended before it answered"):
        ControlClient(Path("control.sock"))._open(line)
