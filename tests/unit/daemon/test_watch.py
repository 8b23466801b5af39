"""daemon.watch: what changed is logged, and a disk that fails is reported once."""

from __future__ import annotations

import logging
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pqdht.daemon.watch import Watch
from pqdht.ids import NodeId
from pqdht.node.dht import SecureDHT
from pqdht.node.results import NodeInfo

NODE = NodeId(bytes([7]) * 32)


class _Node:
    """The two facts that are looked at."""

    def __init__(self) -> None:
        self.table: list[NodeInfo] = []
        self.env = SimpleNamespace(counters=Counter[str]())

    def peers(self) -> list[NodeInfo]:
        return self.table


def test_who_enters_and_leaves_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pqdht.daemon.watch")
    node = _Node()
    watch = Watch(cast(SecureDHT, node), lambda event: None)
    for table in ([], [NodeInfo(NODE, (), "", None)], [NodeInfo(NODE, (), "", None)], []):
        node.table = table
        watch.look()
    assert [m.split()[0] for m in caplog.messages] == [NODE.hex()] * 2
    assert "entered the table" in caplog.messages[0]
    assert "left the table" in caplog.messages[1]


@pytest.mark.parametrize(
    ("code", "what"), [("STORAGE_FULL", "the disk is full"), ("INTERNAL", "look at the disk")]
)
def test_a_failing_disk_is_reported_once(code: str, what: str, caplog: pytest.LogCaptureFixture) -> None:
    node, events = _Node(), list[dict[str, Any]]()
    watch = Watch(cast(SecureDHT, node), events.append)
    watch.look()
    assert events == []
    for _ in range(3):
        node.env.counters[f"commits_failed.{code}"] += 1
        watch.look()
    (event,) = events
    assert (event["event"], event["failed"], what in event["message"]) == ("storage_failing", {code: 1}, True)
    assert [r.levelname for r in caplog.records] == ["WARNING"]
