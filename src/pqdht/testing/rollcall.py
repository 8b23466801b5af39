"""Roll call: every node looks for every peer, and an answer counts only with evidence behind it."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..daemon.requests import Caller, FindPeer
from ..errors import PqdhtError
from ..kad.quorum import Verdict

OTHERS = 3
"""How many other nodes must have answered for an answer to count (fewer in smaller networks)."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What an owner published: found means equal to this.  `wireguard_key` in hex."""

    owner: str
    endpoints: tuple[str, ...]
    wireguard_key: str | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """One node's search for one peer.  `fault`: why it does not count, '' if it does."""

    reader: int
    peer: int
    fault: str
    time_s: float = 0.0
    found: dict[str, Any] = field(default_factory=dict, repr=False)


async def roll_call(
    readers: Mapping[int, Caller],
    peers: Mapping[int, Expected],
    *,
    include_self: bool = False,
    in_flight: int = 4,
    on_sighting: Callable[[Sighting], None] = lambda sighting: None,
) -> list[Sighting]:
    """Each reader looks for each peer but itself (or also for itself), leaving its own copy out.

    `in_flight` searches at a time over all readers, whose turns are spread evenly.
    """
    others = min(OTHERS, max(len(readers), 2) - 1)
    turns = _turns(list(readers), list(peers), include_self)
    sightings: list[Sighting] = []

    async def work() -> None:
        for reader, peer in turns:  # one iterator: each worker takes the next turn
            sighting = await _look(readers[reader], reader, peer, peers[peer], others)
            sightings.append(sighting)
            on_sighting(sighting)

    await asyncio.gather(*(work() for _ in range(in_flight)))
    return sightings


def _turns(readers: list[int], peers: list[int], include_self: bool) -> itertools.chain[tuple[int, int]]:
    """Round after round, each reader another peer, so that load and keys are spread."""
    rounds = (
        [(reader, peers[(i + shift) % len(peers)]) for i, reader in enumerate(readers)]
        for shift in range(len(peers))
    )
    return itertools.chain.from_iterable(
        [turn for turn in one if include_self or turn[0] != turn[1]] for one in rounds
    )


async def _look(caller: Caller, reader: int, peer: int, expected: Expected, others: int) -> Sighting:
    try:
        found = await caller.call(FindPeer(owner=expected.owner, ignore_local=True))
    except PqdhtError as e:
        return Sighting(reader, peer, f"{type(e).__name__}: {e}")
    return Sighting(reader, peer, fault_of(found, expected, others), found["result"]["time_s"], found)


def fault_of(found: Mapping[str, Any], expected: Expected, others: int = OTHERS) -> str:
    """Why an answer does not count: unconfirmed, from too few nodes, or wrong; '' if it counts."""
    result = found["result"]
    if result["verdict"] != Verdict.CONFIRMED.value:
        return f"verdict {result['verdict']}"
    if result["responders"] < others:
        return f"only {result['responders']} other nodes answered"
    if found["owner"] != expected.owner or tuple(found["endpoints"]) != expected.endpoints:
        return f"found {found['endpoints']}, announced {list(expected.endpoints)}"
    if found["wireguard_key"] != expected.wireguard_key:
        return "another WireGuard key"
    return ""


def median(times: Sequence[float]) -> float | None:
    """The upper median; None of nothing."""
    return sorted(times)[len(times) // 2] if times else None
