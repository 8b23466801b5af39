"""Sessions over real sockets that get new keys many times a second while they are in use."""

from __future__ import annotations

import asyncio
from typing import Any

from pqdht.node.peers import Peers
from tests.live.harness import counter, entry, make, run


def test_renewals_lose_nothing_under_load() -> None:
    async def main() -> None:
        async with make(0, renew_interval_s=0.05) as first:
            there: dict[str, Any] = {"bootstrap": (entry(first),), "renew_interval_s": 0.05}
            async with make(1, **there) as second, make(2, **there) as third:
                nodes = (first, second, third)
                for node in (second, third):
                    await node.bootstrapped(10)
                await second.put("x", b"0")
                sessions = [dict(sessions_of(n._peers)) for n in nodes]
                rounds = 0
                while rounds < 20 or min(counter(n, "sessions_renewed") for n in nodes) < 10:
                    rounds += 1
                    await second.put("x", b"%d" % rounds)
                    readers = nodes * 5
                    results = await asyncio.gather(
                        *(n.get("x", owner=second.owner_id, ignore_local=True) for n in readers)
                    )
                    assert {r.value for r in results} == {b"%d" % rounds}
                for node, before in zip(nodes, sessions, strict=True):
                    after = sessions_of(node._peers)
                    assert [after[peer] for peer in before] == list(before.values())
                    assert not any(name.startswith("failed.") for name in node.status()["counters"])

    run(main())


def sessions_of(peers: Peers) -> dict[bytes, object]:
    """Peer -> its session."""
    return {bytes(node_id): conn for node_id, conn in peers.sessions.items()}
