"""What one GET has seen."""

from __future__ import annotations

from pqdht.identity.keys import OwnerIdentity
from pqdht.ids import NodeId
from pqdht.kad.quorum import Version
from pqdht.node.hunt import Hunt
from pqdht.records import Content, Named, Topic
from pqdht.testing.loop import run
from tests.unit.node.parts import NOW, environment, identity, sign

A, B = NodeId(b"a" * 32), NodeId(b"b" * 32)


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
