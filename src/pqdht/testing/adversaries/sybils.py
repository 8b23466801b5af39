"""Sybils at one key: many ids, ground for the place, who lie together about that key alone.

identity = ground(suite, network_tag, params, now_ms, key, cpl=12)  # of each node, before it starts
gang = enlist("sybil_cluster", nodes, Gang(key=key))
"""

from __future__ import annotations

from ...constants import ParameterSet
from ...crypto import puzzle
from ...crypto.api import Suite
from ...errors import ConfigError, RecordInvalid
from ...identity.keys import NodeIdentity, born_day, new_commit
from ...ids import common_prefix_length
from ...wire.contact import Contact
from ...wire.messages import FindNode, FindValue, Nodes, Store, Stored, Values
from .base import Adversary

CHUNK = 1 << 16
"""Nonces tried at a time."""
NAMED = 20
"""Members in one answer."""
NEAR_CPL = 2
"""Bits that a lookup's target shares with the key where members name each other only."""


def ground(
    suite: Suite, network_tag: bytes, params: ParameterSet, now_ms: int, key: bytes, cpl: int
) -> NodeIdentity:
    """A fresh identity, born at `now_ms`, whose id shares at least `cpl` bits with a key.

    Tries 2^cpl solved puzzles on average, each 2^bits of the network's Argon2id: minutes for a few bits of
    place on a real network, nothing with the fake suite.  Blocks until it is found.
    """
    unsolved = new_commit(suite, network_tag, born_day(now_ms))
    bits, salt, start = params.puzzle_bits(unsolved.born), puzzle.salt(network_tag), 0
    while True:
        nonce = puzzle.search_range(suite.provider, salt, unsolved.commit, bits, start, CHUNK)
        if nonce is None:
            start += CHUNK
            continue
        digest = puzzle.digest(suite.provider, network_tag, unsolved.commit, nonce)
        if common_prefix_length(puzzle.node_id(unsolved.commit, digest), key) >= cpl:
            return unsolved.solved(nonce)
        start = int.from_bytes(nonce, "big") + 1


class SybilCluster(Adversary):
    """One of many nearer to a key (`Gang.key`) than any honest node, by ids ground for it (`ground`).  Signs
    receipts for what is stored there and keeps none of it, says that nothing is there, and names nobody but
    other members.  Where the key is not concerned it is an honest node.

    Raises ConfigError where the gang has no key.
    """

    name = "sybil_cluster"
    summary = "many ids ground for one key deny what is there (not a share of a testnet: ids come first)"
    defences = ("sybil_test", "region")
    needs_place = True

    def turn(self) -> None:
        if not self.gang.key:
            raise ConfigError(f"{self.name} is at one key: Gang(key=...)", name="attack")
        super().turn()

    def on_store(self, body: Store) -> Stored | None:
        parse = self.node.env.records.parse
        try:
            is_here = any(parse(r).key == self.gang.key for r in body.records)
        except RecordInvalid:
            return None
        return self.all_is_well(body) if is_here else None

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        if asked.key != self.gang.key:
            return honest
        return Values(asked.key, (), (), self.others(), None)

    def on_nodes(self, asked: FindNode, honest: Nodes) -> Nodes:
        if common_prefix_length(asked.target, self.gang.key) < NEAR_CPL:
            return honest
        return Nodes(honest.target, self.others())

    def others(self) -> tuple[Contact, ...]:
        """Some members, others by each, so that a few answers name them all."""
        members = list(self.gang.members.values())
        at = members.index(self)
        return tuple(m.contact() for m in [*members[at + 1 :], *members[:at]][:NAMED])


class ActiveSybilCluster(SybilCluster):
    """The same, who all answer with the oldest version that is in force (`Gang.history`): rightly signed, so
    that it looks confirmed."""

    name = "sybil_cluster_active"
    summary = "many ids ground for one key agree on an old version (not a share of a testnet either)"

    def on_value(self, asked: FindValue, honest: Values) -> Values:
        said = super().on_value(asked, honest)
        if asked.key != self.gang.key:
            return said
        ids = {bytes(self.node.env.records.parse(w).record_id): w for w in self.history(asked.key)[:1]}
        new = tuple(w for i, w in ids.items() if not asked.brief and i not in asked.have)
        same = tuple(i for i, w in ids.items() if w not in new)
        return Values(asked.key, new, same, said.contacts, None)
