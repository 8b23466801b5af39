"""testing.rollcall: which answers count, and who asks whom."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pqdht.daemon.requests import FindPeer, Request
from pqdht.errors import NotFound
from pqdht.testing.rollcall import Expected, Sighting, fault_of, median, roll_call

PEERS = {i: Expected(f"{i:064x}", (f"192.0.2.{i}:1",), "aa" * 32) for i in range(4)}


def found(peer: int, **changes: Any) -> dict[str, Any]:
    result = {"verdict": "confirmed", "responders": 3, "time_s": 0.5}
    answer = {
        "owner": PEERS[peer].owner,
        "endpoints": list(PEERS[peer].endpoints),
        "wireguard_key": "aa" * 32,
        "result": result,
    }
    for name, value in changes.items():
        (result if name in result else answer)[name] = value
    return answer


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, ""),
        ({"verdict": "contested"}, "verdict contested"),
        ({"responders": 2}, "only 2 other nodes answered"),
        ({"endpoints": ["192.0.2.9:1"]}, "found ['192.0.2.9:1'], announced ['192.0.2.1:1']"),
        ({"endpoints": []}, "found [], announced ['192.0.2.1:1']"),
        ({"owner": PEERS[2].owner}, "found ['192.0.2.1:1'], announced ['192.0.2.1:1']"),
        ({"wireguard_key": "bb" * 32}, "another WireGuard key"),
        ({"wireguard_key": None}, "another WireGuard key"),
    ],
)
def test_an_answer_counts_only_with_evidence(changes: dict[str, Any], fault: str) -> None:
    assert fault_of(found(1, **changes), PEERS[1]) == fault


class _Caller:
    """Records whom it was asked to find; knows everybody but `missing`."""

    def __init__(self, missing: int = -1) -> None:
        self.asked: list[int] = []
        self.missing = missing

    async def call(self, request: Request) -> dict[str, Any]:
        assert isinstance(request, FindPeer)
        assert request.ignore_local
        peer = int(request.owner, 16)
        self.asked.append(peer)
        await asyncio.sleep(0)
        if peer == self.missing:
            raise NotFound("nowhere")
        return found(peer)


def test_everybody_looks_for_everybody_else_once() -> None:
    callers = {i: _Caller() for i in PEERS}
    seen: list[Sighting] = []
    sightings = asyncio.run(roll_call(callers, PEERS, on_sighting=seen.append))
    assert {i: sorted(c.asked) for i, c in callers.items()} == {
        i: [p for p in PEERS if p != i] for i in PEERS
    }
    assert sightings == seen
    assert len(sightings) == 12
    assert all((s.fault, s.time_s) == ("", 0.5) for s in sightings)


def test_fewer_readers_than_peers_may_look_for_themselves_too() -> None:
    callers = {i: _Caller(missing=3) for i in (0, 2)}
    sightings = asyncio.run(roll_call(callers, PEERS, include_self=True, in_flight=1))
    assert {i: sorted(c.asked) for i, c in callers.items()} == {0: [0, 1, 2, 3], 2: [0, 1, 2, 3]}
    assert [(s.reader, s.fault) for s in sightings if s.peer == 3] == [
        (2, "NotFound: nowhere"),
        (0, "NotFound: nowhere"),
    ]


def test_the_median() -> None:
    assert [median(t) for t in ([], [3.0], [3.0, 1.0], [5.0, 1.0, 3.0])] == [None, 3.0, 3.0, 3.0]
