"""How far a thousand nodes are apart: hops of a lookup against theory, and that every lookup completes.

An intermediate is a node that told of another: a chain of n of them lies between a node and the closest
to its target.  With buckets of k, one answer brings a lookup about log2(k) + 1 bits closer than the table it
came from, so that a network of N takes about log2(N) / (log2(k) + 1) - 1 further ones beyond the own table:
1.0 to 1.4 at N = 1,000 and k = 20, where the own neighbourhood is known whole.
"""

from __future__ import annotations

import random

from pqdht.kad.lookup import Lookup
from tests.unit.kad.network import StaticNetwork, candidates, random_id, run, true_closest

N, K = 1_000, 20
LOOKUPS = 200


def intermediates(network: StaticNetwork, me: bytes, target: bytes) -> tuple[int, list[bytes], int]:
    """(intermediates before the closest node was known, the k closest that answered, questions)."""
    known = network.honest(me, target)
    depth = dict.fromkeys(known, 0)

    def answer(node: bytes, sought: bytes) -> list[bytes]:
        found = [n for n in network.honest(node, sought) if n != me]
        for n in found:
            depth[n] = min(depth.get(n, depth[node] + 1), depth[node] + 1)
        return found

    lookup: Lookup[int] = Lookup(target, k=K, seeds=candidates(known), end=6)
    run(lookup, answer)
    closest = [c.node_id for c in lookup.closest(K)]
    return depth[closest[0]], closest, lookup.counters["asked"]


def test_a_thousand_nodes() -> None:
    dice = random.Random(1000)
    nodes = [random_id(dice) for _ in range(N)]
    network = StaticNetwork(nodes, K, 1)
    hops: list[int] = []
    for _ in range(LOOKUPS):
        me, target = dice.choice(nodes), random_id(dice)
        n, found, _ = intermediates(network, me, target)
        hops.append(n)
        true = true_closest([n for n in nodes if n != me], target, K)
        assert found[0] == true[0], "every lookup finds the closest node"
        assert len(set(found) & set(true)) >= K - 2, "and nearly all of the k closest"
    mean = sum(hops) / len(hops)
    print(f"intermediates: mean {mean:.2f}, most {max(hops)}")
    assert mean <= 1.4
    assert max(hops) <= 3
