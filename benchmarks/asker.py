"""The attacker of `benchmarks.prefix_flood`: members behind one address prefix that ask too much.

    python -m benchmarks.asker ENTRY IDS PROVIDER      then one line {"per_s": ..., "seconds": ...} per flood

Every question is valid and signed, and none waits for the answer of another.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from time import monotonic
from typing import Any

from pqdht.config import Config
from pqdht.errors import PeerError, PqdhtError
from pqdht.identity.contact import VerifiedContact
from pqdht.node.dht import SecureDHT
from pqdht.wire.messages import FindNode

PREFIX = "127.199.0"
TIMEOUT_S = 5.0


class Askers:
    """The ids, each a node of its own with a session to the victim."""

    def __init__(self, entry: str, provider: str) -> None:
        self._entry, self._provider = entry, provider
        self._victim = bytes.fromhex(entry.partition("@")[0])
        self._nodes: list[SecureDHT] = []
        self._dice = random.Random(1)

    async def start(self, count: int) -> None:
        for i in range(count):
            config = Config(
                network="testnet",
                provider=self._provider,  # type: ignore[arg-type]
                listen=(f"tcp/{PREFIX}.{i + 1}:0",),
                bootstrap=(self._entry,),
            )
            node = SecureDHT(config)
            await node.start()
            self._nodes.append(node)
            await node.bootstrapped(60.0)

    async def flood(self, per_s: float, seconds: float) -> dict[str, Any]:
        """`per_s` questions a second of all ids together; how they were answered."""
        outcomes: Counter[str] = Counter()
        began, asked = monotonic(), 0
        tasks: set[asyncio.Task[None]] = set()
        while (now := monotonic()) - began < seconds:
            while asked < (now - began) * per_s:
                node = self._nodes[asked % len(self._nodes)]
                task = asyncio.create_task(self._ask(node, outcomes))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                asked += 1
            await asyncio.sleep(0.005)
        took = monotonic() - began
        await asyncio.gather(*tasks)
        return {"asked": asked, "seconds": round(took, 2), "per_s": asked / took, "outcomes": dict(outcomes)}

    async def _ask(self, node: SecureDHT, outcomes: Counter[str]) -> None:
        entry = node._routing.table.get(self._victim)
        conn = node._peers.sessions.get(self._victim)  # type: ignore[call-overload]
        try:
            if conn is not None:
                await node._peers.request_over(conn, FindNode(self._dice.randbytes(32)), TIMEOUT_S)
            else:
                assert entry is not None
                contact: VerifiedContact = entry.contact
                await node._peers.request(contact, FindNode(self._dice.randbytes(32)), TIMEOUT_S)
            outcomes["answered"] += 1
        except PeerError as e:
            outcomes[e.code.name] += 1
        except (PqdhtError, AssertionError) as e:
            outcomes[type(e).__name__] += 1

    async def close(self) -> None:
        await asyncio.gather(*(node.close() for node in self._nodes))


async def main(entry: str, count: int, provider: str) -> None:
    askers = Askers(entry, provider)
    try:
        await askers.start(count)
        print(json.dumps({"ready": count}), flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            order = json.loads(line)
            print(json.dumps(await askers.flood(order["per_s"], order["seconds"])), flush=True)
    finally:
        await askers.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
