"""How many nodes lie between a node and a key: lookups by whole nodes, against theory.

python -m tests.sim.hops [NODES] [LOOKUPS]      prints what it found (`make hops`)

Real nodes with full tables on the simulator (`benchmarks.crowd`); nothing is lost and nobody lies or leaves.
An *intermediate* is a node that was asked and told of another.  Of the chain by which a lookup learned a node
(`kad.Lookup` keeps who referred whom) they are counted twice:

- to the closest: on the chain to the closest node, 0 where it was in the asker's own table;
- to all k: the most on the chain to any of the k closest that answered.

Theory, the rule of thumb (`rule_of_thumb`): the last log2(k) bits of the way are neighbourhood, known whole;
the log2(N/k) bits before them take an answer per log2(k) + 1 bits, or per log2(k) if the bit that chooses the
bucket is not counted: 1.06 to 1.31 at N = 1,000, k = 20.  It counts parts of a hop, but not the own table.
Finer (`in_own_table`): the asker's own table has the closest node in 13 % of lookups, and else one of its k
closest nearly always knows it: 0.87 to the closest.  To all k it is a little more, as the further ones of the
k are known to fewer.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import log2
from time import process_time

from benchmarks.crowd import crowd, simulated
from pqdht.node.dht import SecureDHT
from tests.unit.kad.network import random_id, true_closest

SEED = 1000
NODES, LOOKUPS = 1_000, 200


@dataclass
class Hops:
    """What came of the lookups, one item each."""

    k: int
    complete: int = 0
    """Ended by the rule of the lookup, not by its time limit."""
    closest_found: int = 0
    """The truly closest node answered."""
    of_k: list[int] = field(default_factory=list)
    """How many of the true k closest answered."""
    of_k_known: list[int] = field(default_factory=list)
    """How many of them were learned, asked or not."""
    to_closest: list[int] = field(default_factory=list)
    to_all: list[int] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    failures: int = 0


def rule_of_thumb(nodes: int, k: int) -> tuple[float, float]:
    """(least, most) intermediates: log2(N/k) bits at log2(k) + 1 and at log2(k) bits an answer."""
    bits = log2(nodes / k)
    return bits / (log2(k) + 1), bits / log2(k)


def in_own_table(nodes: int, k: int) -> float:
    """How often the closest node to a random key is in the own table.

    Half of the keys lie in bucket 0, a quarter in bucket 1, and so on; of the N / 2^(i + 1) nodes there
    the table has k.
    """
    parts = [0.5 ** (i + 1) for i in range(64)]
    return sum(part * min(1.0, k / (nodes * part)) for part in parts)


async def look_up(node: SecureDHT, target: bytes, true: list[bytes], hops: Hops) -> None:
    """One FIND_NODE lookup as the node itself does it."""
    timed_out = node.env.counters["lookups_timed_out"]
    walk = await node._lookups.find(target, end=node.config.path_end)
    lookup = walk.lookup
    found = lookup.answered()
    ids = {a.node_id for a in found}
    hops.complete += lookup.done and node.env.counters["lookups_timed_out"] == timed_out
    hops.closest_found += true[0] in ids
    hops.of_k.append(len(ids.intersection(true)))
    hops.of_k_known.append(len({c.node_id for c in lookup.closest_known(hops.k)}.intersection(true)))
    hops.to_closest.append(lookup.hops)
    hops.to_all.append(max(a.depth for a in found[: hops.k]))
    hops.asked.append(walk.queries)
    hops.failures += walk.failures


async def measure(nodes: int, count: int) -> Hops:
    """`count` lookups of random targets by random nodes, one after the other."""
    net = await crowd(nodes)
    await asyncio.gather(*(node._maintenance.close() for node in net.nodes))  # nothing but the lookups
    ids = [node.node_id for node in net.nodes]
    dice = random.Random(SEED)
    hops = Hops(net.nodes[0].env.params.k)
    for _ in range(count):
        node, target = dice.choice(net.nodes), random_id(dice)
        true = true_closest([n for n in ids if n != node.node_id], target, hops.k)
        await look_up(node, target, true, hops)
    await net.close()
    return hops


def mean(counts: Iterable[int]) -> float:
    counts = list(counts)
    return sum(counts) / len(counts)


def spread(counts: list[int]) -> str:
    """Mean, most, and how many lookups had each count."""
    shares = ", ".join(f"{n}: {times}" for n, times in sorted(Counter(counts).items()))
    return f"mean {mean(counts):.2f}, most {max(counts)} ({shares})"


def main() -> None:
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else NODES
    count = int(sys.argv[2]) if len(sys.argv) > 2 else LOOKUPS
    hops: Hops = simulated(lambda: measure(nodes, count))
    least, most = rule_of_thumb(nodes, hops.k)
    print(f"{nodes} whole nodes, k = {hops.k}, {count} lookups")
    print(f"complete: {hops.complete}, closest node found: {hops.closest_found}")
    print(f"questions: {mean(hops.asked):.1f} a lookup, {hops.failures} failed in all")
    every = sum(n == hops.k for n in hops.of_k), sum(n == hops.k for n in hops.of_k_known)
    print(f"of the true {hops.k} closest: {mean(hops.of_k):.2f} answered (all in {every[0]} lookups),"
          f" {mean(hops.of_k_known):.2f} known (all in {every[1]})")
    print(f"intermediates to the closest: {spread(hops.to_closest)}")
    print(f"intermediates to all {hops.k}:      {spread(hops.to_all)}")
    print(f"rule of thumb: {least:.2f} to {most:.2f}; to the closest: {1 - in_own_table(nodes, hops.k):.2f}")
    print(f"({process_time():.0f} s of CPU)", file=sys.stderr)


if __name__ == "__main__":
    main()
