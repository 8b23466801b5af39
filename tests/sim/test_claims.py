"""`signing = "claims"`: requests go unsigned, but never ahead of what introduces their sender."""

from __future__ import annotations

import asyncio

from pqdht.testing.loop import run
from pqdht.testing.testnet import Testnet


def test_an_unsigned_request_never_overtakes_the_first_signed_message() -> None:
    """Asked at once by the node it joins through, which still has its first answer to sign."""

    async def main() -> None:
        async with Testnet.simulated(4, seed=5, signing="claims") as net:
            for node in net.nodes:
                counters = node.status()["counters"]
                assert counters.get("failed.SessionFailed", 0) == 0
                assert counters.get("inbound_checks_failed", 0) == 0
                assert node.status()["table"] == 3
            before = net.nodes[1].env.counters["messages_signed"]
            await asyncio.gather(*(net.nodes[1].ping(net.nodes[0].node_id) for _ in range(5)))
            assert net.nodes[1].env.counters["messages_signed"] == before

    run(main())
