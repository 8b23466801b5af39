"""A large network in steady state, on the simulator: what a lookup costs, and where it can be left alone.

`python -m benchmarks.crowd [nodes]` prints the figures of lookups in a network of that size.

Real node code, virtual time, the fake suite (exact lengths, `tests/unit/testing/test_fake.py`).  The
nodes do not join one by one, which takes longer than everything measured here: each table is filled
with what it would hold had its node met all others, in random order, by the table's own rules.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from time import process_time
from typing import Any
from unittest.mock import patch

from benchmarks.figures import Effort, progress
from pqdht.channel.framing import Kind
from pqdht.channel.handshake import Handshake
from pqdht.identity.contact import VerifiedContact
from pqdht.ids import ID_BITS, id_in_bucket
from pqdht.node.dht import SecureDHT
from pqdht.node.maintenance import YOUNG_S
from pqdht.testing.loop import run
from pqdht.testing.testnet import Simulated, Testnet
from pqdht.wire.messages import MessageType, decode_envelope

SEED = 3
SPARE = 20
"""Nodes of a bucket met beyond k: candidates for the next draw."""
DOUBT = 8
"""k' where an answer is in doubt."""
READERS = 5


async def crowd(nodes: int, **settings: Any) -> Simulated:
    """A network of `nodes`, an hour old: tables full, sessions not open yet."""
    net = Testnet.simulated(0, SEED, bootstrap=(), **settings)
    await net.start()
    for index in range(nodes):
        await net.add(index)
    everybody = [known(net.nodes[0], node) for node in net.nodes]
    for node in net.nodes:
        acquaint(node, everybody)
    return net


def known(by: SecureDHT, node: SecureDHT) -> VerifiedContact:
    """A node's contact as one who met it has it."""
    contact = node.env.identity.contact(node.env.addresses, with_key=True)
    return by.env.contacts.verify(contact, by.env.clock())


def acquaint(node: SecureDHT, everybody: list[VerifiedContact]) -> None:
    """Fill a table, as an hour would."""
    dice, table = random.Random(node.node_id), node._routing.table
    now = asyncio.get_running_loop().time()
    own = int.from_bytes(node.node_id, "big")
    met: Counter[int] = Counter()
    for contact in dice.sample(everybody, len(everybody)):
        cpl = ID_BITS - (int.from_bytes(contact.node_id, "big") ^ own).bit_length()
        near = len(everybody) >> cpl < 4 * table.k
        if cpl < ID_BITS and (near or met[cpl] < table.k + SPARE):
            met[cpl] += 1
            table.add(contact.node_id, contact, contact.group, contact.wide_group, now)
    for cpl in range(max(met, default=0) + 2):
        table.looked_up(id_in_bucket(node.node_id, cpl, dice.randbytes(32)), now - 3600 * dice.random())
    node._maintenance._started = now - YOUNG_S


def moved(net: Simulated, index: int) -> int:
    """Payload bytes on the links of one node so far, both directions."""
    traffic = net.network.traffic(net.ip(index))
    return traffic.bytes_sent + traffic.bytes_received


async def look_up(net: Simulated, index: int, target: bytes, end: int) -> tuple[int, int]:
    """(bytes, questions) of one FIND_NODE lookup by a node, from first to last byte."""
    node = net.nodes[index]
    before, asked = moved(net, index), node.env.counters["lookup_queries"]
    await node._lookups.find(target, end=end)
    await asyncio.sleep(1.0)  # what is on its way, the first messages of new sessions too
    return moved(net, index) - before, node.env.counters["lookup_queries"] - asked


async def lookups(nodes: int, count: int) -> dict[str, Any]:
    """Cold, by a node without any session, and then warm: the same again, all sessions open."""
    net = await crowd(nodes)
    await asyncio.gather(*(node._maintenance.close() for node in net.nodes))  # nothing but the lookups
    dice = random.Random(SEED)
    results: dict[str, list[int]] = {}
    questions: dict[str, list[int]] = {}
    usual = net.nodes[0].config.path_end
    for end in (usual, DOUBT):
        for i in range(count):
            index, target = i % min(READERS, nodes), dice.randbytes(32)
            for conn in list(net.nodes[index]._peers.sessions.values()):
                conn.close()
            await asyncio.sleep(1.0)
            for kind in ("cold", "warm"):
                size, asked = await look_up(net, index, target, end)
                results.setdefault(f"{kind} {end}", []).append(size)
                questions.setdefault(f"{kind} {end}", []).append(asked)
    await net.close()
    for name, sizes in results.items():
        middle = median(questions[name])
        progress(f"  {nodes} nodes, k' {name}: {median(sizes) / 1000:.0f} kB, {middle:.0f} questions")
    return {
        "lookup_bytes_warm_p50": round(median(results[f"warm {usual}"])),
        "lookup_bytes_warm_p50_k8": round(median(results[f"warm {DOUBT}"])),
        "lookup_bytes_cold_p50": round(median(results[f"cold {usual}"])),
        "lookup_bytes_cold_p50_k8": round(median(results[f"cold {DOUBT}"])),
    }


@contextmanager
def first_replies() -> Iterator[dict[str, int]]:
    """The longest answer to a first flight by type of early answer, while it runs: whole frames, bytes."""
    longest: dict[str, int] = {}
    finish = Handshake.finish

    def watched(handshake: Handshake, early: bytes | None = None, *rest: Any) -> bytes:
        kind = handshake._next_kind()
        frame = finish(handshake, early, *rest)
        if kind is Kind.IK_2 and early is not None:
            name = MessageType(decode_envelope(early).type).name
            longest[name] = max(longest.get(name, 0), len(frame))
        return frame

    with patch.object(Handshake, "finish", watched):
        yield longest


def simulated(work: Callable[[], Any]) -> Any:
    """Run a coroutine function in virtual time.  The collector finds little in millions of live objects."""
    gc.disable()
    try:
        return run(work)
    finally:
        gc.enable()


def measure(effort: Effort) -> dict[str, Any]:
    """first_reply_bytes and lookup_bytes_*."""
    cpu = process_time()
    with first_replies() as longest:
        figures: dict[str, Any] = simulated(lambda: lookups(effort.crowd, effort.lookups))
    for name, size in longest.items():
        progress(f"  longest reply to a first flight, {name}: {size} bytes")
    progress(f"  ({process_time() - cpu:.0f} s of CPU)")
    return {"first_reply_bytes": max(longest.values())} | figures


def main() -> None:
    from dataclasses import replace

    from benchmarks.figures import FULL

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", nargs="?", type=int, default=FULL.crowd)
    parser.add_argument("--lookups", type=int, default=FULL.lookups)
    arguments = parser.parse_args()
    print(measure(replace(FULL, crowd=arguments.nodes, lookups=arguments.lookups)))


if __name__ == "__main__":
    main()
