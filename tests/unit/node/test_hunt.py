"""What one GET has seen."""

from __future__ import annotations

from pqdht.constants import DAY_MS
from pqdht.identity.keys import OwnerIdentity
from pqdht.ids import NodeId, OwnerId
from pqdht.kad.quorum import Version
from pqdht.node.hunt import Hunt
from pqdht.records import Content, Named, Topic, topic_rank
from pqdht.testing.loop import run
from tests.unit.node.parts import NOW, environment, identity, sign

A, B, C = NodeId(b"a" * 32), NodeId(b"b" * 32), NodeId(b"c" * 32)


def test_holdings_are_kept_apart_by_owner() -> None:
    async def main() -> None:
        env, _ = await environment()
        other = OwnerIdentity.generate(env.suite)
        topic, node = Topic("t"), await identity(env)
        mine = sign(env, b"1", at=topic, node=node)
        newer = sign(env, b"2", at=topic, node=node, timestamp=NOW + 1)
        theirs = sign(env, b"3", at=topic, node=node, owner=other)
        hunt = Hunt(topic, None, "majority", 0.0)
        assert hunt.is_topic_of_all
        assert hunt.slot_of(None) == b""
        for who, record in ((A, mine), (A, newer), (A, newer), (B, mine), (B, theirs)):
            hunt.saw(who, record)
        slot = bytes(env.owner.owner_id)
        assert hunt.slots() == sorted([slot, bytes(other.owner_id)])
        assert [(h.node, h.version.timestamp) for h in hunt.holdings(slot)] == [
            (A, NOW),
            (A, NOW + 1),
            (B, NOW),
        ]
        assert hunt.holdings(slot)[0].version == Version(NOW, mine.record_id, mine.value_id)
        assert [h.node for h in hunt.holdings(bytes(other.owner_id))] == [B]
        assert hunt.newest_of(A, slot) is newer
        assert hunt.newest_of(A, bytes(other.owner_id)) is None
        assert hunt.record(theirs.record_id) is theirs

    run(main)


def test_a_topic_lists_one_record_per_node_and_no_more_than_are_kept() -> None:
    """Owners cost nothing, node ids do."""

    async def main() -> None:
        env, _ = await environment()
        topic, day = Topic("t"), NOW // DAY_MS
        nodes = [await identity(env) for _ in range(4)]
        nodes.sort(key=lambda n: topic_rank(topic.key(), n.node_id, day))
        hunt = Hunt(topic, None, "all", 0.0)
        flood = [
            sign(env, at=topic, node=nodes[0], owner=OwnerIdentity.generate(env.suite), timestamp=NOW + i)
            for i in range(6)
        ]
        single = [sign(env, at=topic, node=n, owner=OwnerIdentity.generate(env.suite)) for n in nodes[1:]]
        for record in [*flood[::-1], *single]:
            hunt.saw(A, record)
        assert len(hunt.slots()) == 9
        kept = [flood[-1], *single]
        assert hunt.slots_to_list(day, 64) == sorted(bytes(r.owner_id) for r in kept)
        assert hunt.slots_to_list(day, 2) == sorted(bytes(r.owner_id) for r in kept[:2])

    run(main)


def test_content_of_all_owners_competes() -> None:
    async def main() -> None:
        env, _ = await environment()
        at = Content.of(b"v")
        hunt = Hunt(at, None, "majority", 0.0)
        hunt.saw(A, sign(env, at=at))
        hunt.saw(B, sign(env, at=at, owner=OwnerIdentity.generate(env.suite)))
        assert not hunt.is_topic_of_all
        assert hunt.slots() == [b""]
        assert [h.node for h in hunt.holdings(hunt.slot_of(None))] == [A, B]

    run(main)


def test_an_owner_asked_for_is_the_slot_even_where_nothing_was_seen() -> None:
    async def main() -> None:
        env, _ = await environment()
        hunt = Hunt(Named(env.owner.owner_id, "x"), env.owner.owner_id, "first", 0.0)
        assert hunt.slot_of(env.owner.owner_id) == bytes(env.owner.owner_id)
        assert hunt.holdings(hunt.slot_of(env.owner.owner_id)) == []
        assert hunt.newest_of(A, b"") is None

    run(main)


def test_a_claim_counts_once_the_record_was_seen() -> None:
    async def main() -> None:
        env, _ = await environment()
        record = sign(env, b"1")
        hunt = Hunt(record.locator, env.owner.owner_id, "majority", 0.0)
        nobody = b"\x01" * 32
        hunt.claimed(A, record.record_id)
        hunt.claimed(B, nobody)
        assert hunt.claimers() == {A: None, B: None}
        assert hunt.holdings(bytes(env.owner.owner_id)) == []
        hunt.saw(C, record)
        assert hunt.claimers() == {B: None}
        assert sorted(h.node for h in hunt.holdings(bytes(env.owner.owner_id))) == [A, C]
        hunt.claimed(B, record.record_id)
        assert len(hunt.holdings(bytes(env.owner.owner_id))) == 3

    run(main)


def test_one_claimer_is_asked_first_then_all_others_at_once_and_nobody_twice() -> None:
    hunt = Hunt(Named(OwnerId(bytes(32)), "x"), OwnerId(bytes(32)), "majority", 0.0)
    for who in (A, B, C):
        hunt.claimed(who, b"\x01" * 32)
    hunt.claimed(B, b"\x02" * 32)
    assert hunt.to_chase() == [A, B]
    assert hunt.to_chase() == [C]
    assert hunt.to_chase() == []


def test_a_decision_falls_with_another_record() -> None:
    async def main() -> None:
        env, _ = await environment()
        hunt = Hunt(Named(env.owner.owner_id, "x"), env.owner.owner_id, "majority", 0.0)
        decided = [hunt.is_decided]
        hunt.saw(A, sign(env, b"1"))
        hunt.decided_on = 1
        decided.append(hunt.is_decided)
        hunt.answers_to_skip = 5
        hunt.saw(B, sign(env, b"2", timestamp=NOW + 1))
        assert [*decided, hunt.is_decided] == [False, True, False]
        assert hunt.answers_to_skip == 0

    run(main)
