"""daemon.requests about the defences: carried out on real nodes, and what a node writes down of them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from pqdht.config import Config
from pqdht.daemon.requests import Events, Lift, Put, Quarantine, Reputation, Status, Verify
from pqdht.errors import ConfigError
from pqdht.ids import NodeId
from pqdht.node.dht import SecureDHT
from pqdht.node.guard import EVENTS_FILE
from pqdht.storage.eventfile import read_events
from pqdht.testing.loop import run
from pqdht.testing.testnet import Testnet
from pqdht.trust.events import EventKind


def test_a_node_is_held_listed_and_let_out() -> None:
    async def main() -> None:
        async with Testnet.simulated(1, seed=1) as net:
            judge, other = net.nodes[0], NodeId(bytes(32))  # in no table, so no cap protects it
            judge._guard.hold(other, "10.0.0.0/24", "invalid_rate")
            (held,) = (await Quarantine().run(judge))["quarantined"]
            now = judge.env.clock()
            assert (held["node"], held["reason"]) == (other.hex(), "invalid_rate")
            assert not held["on_probation"]
            assert now - 1000 < held["since"] <= now
            assert held["until"] == held["since"] + 600_000
            thought = await Reputation(node=other.hex()).run(judge)
            assert 0 < thought["score"] < 1
            assert (thought["node"], thought["quarantined"]) == (other.hex(), True)
            assert (await Status().run(judge))["quarantined"] == 1
            for lifted in (True, False):
                assert await Lift(node=other.hex()).run(judge) == {"node": other.hex(), "lifted": lifted}
            assert await Quarantine().run(judge) == {"quarantined": []}
            assert not (await Reputation(node=other.hex()).run(judge))["quarantined"]
            kinds = [e["kind"] for e in (await Events().run(judge))["events"]]
            assert kinds == ["quarantined", "released"]
            assert [e["kind"] for e in (await Events(limit=1).run(judge))["events"]] == ["released"]
            (event,) = (await Events(kind="quarantined").run(judge))["events"]
            assert (event["node"], event["detector"]) == (other.hex(), "invalid_rate")

    run(main)


def test_the_status_shows_modes_that_are_not_the_usual_ones() -> None:
    async def main() -> None:
        modes = {"clocks": "enforce", "reports": "enforce"}  # the second is as usual
        async with Testnet.simulated(1, seed=1, defences=modes) as net:
            assert (await Status().run(net.nodes[0]))["defences"] == {"clocks": "enforce"}

    run(main)


def test_a_value_is_verified_whatever_comes_out() -> None:
    async def main() -> None:
        async with Testnet.simulated(4, seed=2) as net:
            await Put(name="x", value="00ff").run(net.nodes[1])
            owner = net.nodes[1].owner_id.hex()
            found = await Verify(name="x", owner=owner).run(net.nodes[2])
            assert (found["verdict"], found["value"]) == ("confirmed", "00ff")
            missing = await Verify(name="y", owner=owner).run(net.nodes[2])
            assert (missing["verdict"], missing["value"]) == ("absent", None)

    run(main)


@pytest.mark.parametrize(
    ("request_", "what"),
    [
        (Events(kind="nonsense"), "there are proven_fault"),
        (Events(limit=0), "at least 1"),
        (Lift(node="short"), "node id"),
        (Reputation(node="zz" * 32), "node id"),
        (Verify(), "exactly one of"),
    ],
)
def test_what_cannot_be_asked_is_refused(request_: Any, what: str) -> None:
    async def main() -> None:
        async with Testnet.simulated(1, seed=3) as net:
            with pytest.raises(ConfigError, match=what):
                await request_.run(net.nodes[0])

    run(main)


def test_events_go_to_the_data_directory_until_the_node_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        dht = SecureDHT(Config(network="testnet", provider="openssl", data_dir=tmp_path, listen=()))
        async with dht:
            guard = dht._guard
            guard.report(EventKind.ANOMALY, "clocks", offset=1.5)
            assert dht.status()["security"]["file"] == {"written": 1, "dropped": 0, "error": ""}
        async with dht:
            guard.report(EventKind.ECLIPSE_ALARM, "")  # of the run before: it has no file any more
            dht._guard.report(EventKind.SYBIL_ALARM, "")

    asyncio.run(main())
    found = read_events(tmp_path / EVENTS_FILE, 10)
    assert [e.kind for e in found.events] == [EventKind.ANOMALY, EventKind.SYBIL_ALARM]


def test_what_cannot_be_written_is_counted(tmp_path: Path) -> None:
    (tmp_path / EVENTS_FILE).mkdir()

    async def main() -> None:
        config = Config(network="testnet", provider="openssl", data_dir=tmp_path, listen=())
        async with SecureDHT(config) as dht:
            dht._guard.report(EventKind.ROLLBACK, "")
            lost = dht.status()["security"]["file"]
            assert (lost["written"], lost["dropped"], lost["error"]) == (0, 1, "Is a directory")
            assert len(dht.anomalies()) == 1

    asyncio.run(main())


def test_without_a_data_directory_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    async def main() -> None:
        async with Testnet.simulated(1, seed=4) as net:
            net.nodes[0]._guard.report(EventKind.ANOMALY, "clocks")
            assert net.nodes[0].status()["security"]["file"] is None

    run(main)
    assert not list(tmp_path.iterdir())
