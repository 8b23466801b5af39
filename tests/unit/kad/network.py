"""A static network of tables, for tests of the pure routing core: no clocks, no bytes on a wire.

Nodes have uniform ids and, unless told otherwise, an address group each.  A node's table is filled when it
is first asked, from a random order of the nodes it could know, so networks of 10,000 cost little.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence

from pqdht.ids import ID_BITS, distance
from pqdht.kad.lookup import Candidate, Lookup
from pqdht.kad.table import Table

Contact = int
Table_ = Table[Contact]
Answer = Callable[[bytes, bytes], list[bytes] | None]
"""(node asked, target) -> node ids, None for silence."""


def random_id(dice: random.Random) -> bytes:
    """32 uniform bytes."""
    return dice.randbytes(ID_BITS // 8)


def near(target: bytes, bits: int, dice: random.Random) -> bytes:
    """An id that shares at least `bits` leading bits with `target`."""
    low = dice.getrandbits(ID_BITS - bits)
    high = int.from_bytes(target, "big") >> (ID_BITS - bits) << (ID_BITS - bits)
    return (high | low).to_bytes(ID_BITS // 8, "big")


def true_closest(nodes: Sequence[bytes], target: bytes, n: int) -> list[bytes]:
    """The plain reference: sort everything by XOR distance."""
    return sorted(nodes, key=lambda node: distance(node, target))[:n]


class StaticNetwork:
    """`nodes` who know each other as well as k-buckets allow, and answer from their tables."""

    def __init__(
        self, nodes: Sequence[bytes], k: int, seed: int, per_bucket_known: int | None = None
    ) -> None:
        self.nodes = sorted(nodes)
        self.k = k
        self._seed = seed
        self._known = per_bucket_known or k
        self._tables: dict[bytes, Table_] = {}

    def _range(self, prefix: int, bits: int) -> tuple[int, int]:
        """Indices of the nodes whose first `bits` bits are `prefix`."""
        low = (prefix << (ID_BITS - bits)).to_bytes(ID_BITS // 8 + 1, "big")[1:]
        above = (prefix + 1) << (ID_BITS - bits)
        first = bisect_left(self.nodes, low)
        if above >= 1 << ID_BITS:
            return first, len(self.nodes)
        return first, bisect_left(self.nodes, above.to_bytes(ID_BITS // 8, "big"))

    def table(self, own: bytes) -> Table_:
        """The table of a node, made when first asked for."""
        if own not in self._tables:
            self._tables[own] = self._fill(own)
        return self._tables[own]

    def _fill(self, own: bytes) -> Table_:
        dice = random.Random(self._seed ^ int.from_bytes(own[:8], "big"))
        table: Table_ = Table(
            own, self.k, per_bucket=2, per_table=10, per_wide=20, group_limits=False, dice=dice
        )
        number = int.from_bytes(own, "big")
        for cpl in range(ID_BITS):
            sibling = number >> (ID_BITS - 1 - cpl) ^ 1
            first, end = self._range(sibling, cpl + 1)
            low, high = self._range(sibling ^ 1, cpl + 1)
            deeper = max(0, high - low - 1)
            # the buckets that own neighbours lie in are met whole, by looking up oneself
            known = end - first if deeper < 2 * self.k else min(self._known, end - first)
            for i in dice.sample(range(first, end), known):
                table.add(self.nodes[i], 0, "", "", 0.0)
            if deeper == 0:
                break
        return table

    def honest(self, node: bytes, target: bytes) -> list[bytes]:
        """What an honest node answers."""
        return [e.node_id for e in self.table(node).closest(target, self.k)]


def candidates(nodes: Sequence[bytes]) -> list[Candidate[Contact]]:
    """Nodes as lookup candidates, a group each."""
    return [Candidate(node, 0, node.hex()) for node in nodes]


def run(lookup: Lookup[Contact], answer: Answer, dice: random.Random | None = None) -> None:
    """Drive a lookup to its end; answers come in random order where `dice` are given."""
    waiting: list[bytes] = []
    while True:
        waiting += [query.node_id for query in lookup.next(0.0)]
        if lookup.done or not waiting:
            break
        node = waiting.pop(dice.randrange(len(waiting)) if dice else 0)
        found = answer(node, lookup.target)
        if found is None:
            lookup.on_failure(node, 0.0)
        else:
            lookup.on_reply(node, candidates(found), 0.0)
    assert lookup.done
