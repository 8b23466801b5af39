"""How far nodes are apart: hops of a lookup against theory, and that every lookup completes.

Reduced forms of `make hops`, which has 1,000 whole nodes and says what is counted: routing and lookup code
alone at full size, and whole nodes in a network of 200.
"""

from __future__ import annotations

import random

from benchmarks.crowd import simulated
from pqdht.kad.lookup import Lookup
from tests.sim.hops import Hops, in_own_table, mean, measure, rule_of_thumb
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
    average = mean(hops)
    print(f"intermediates: mean {average:.2f}, most {max(hops)}")
    assert abs(average - (1 - in_own_table(N, K))) <= 0.1, "one answer is enough, if the own table is not"
    assert average <= 1.4
    assert max(hops) <= 3


def test_whole_nodes() -> None:
    nodes, lookups = 200, 40
    hops: Hops = simulated(lambda: measure(nodes, lookups))
    assert (hops.complete, hops.closest_found, hops.failures) == (lookups, lookups, 0)
    assert hops.of_k == [hops.k] * lookups
    assert abs(mean(hops.to_closest) - (1 - in_own_table(nodes, hops.k))) <= 0.15
    assert mean(hops.to_closest) < mean(hops.to_all) <= 1.0
    assert max(hops.to_all) <= 2


def test_the_rule_of_thumb() -> None:
    """What the design expects of 1,000 nodes: 1.0 to 1.4 intermediates."""
    least, most = rule_of_thumb(N, K)
    assert 1.0 < least < most < 1.4
    assert in_own_table(K, K) == 1.0
