"""Keys remembered, and who is sent ours."""

from __future__ import annotations

from pqdht.ids import NodeId
from pqdht.node.keyring import KeyRing, Recent

PEER = NodeId(b"p" * 32)


def test_the_oldest_goes_first() -> None:
    recent: Recent[str, int] = Recent(2)
    recent.set("a", 1)
    recent.set("b", 2)
    recent.set("a", 3)
    recent.set("c", 4)
    assert ("b" in recent, recent.get("a"), recent.get("c"), len(recent)) == (False, 3, 4, 2)
    recent.pop("a")
    recent.pop("a")
    recent.clear()
    assert len(recent) == 0


def test_our_key_is_left_out_after_an_answer_and_sent_once_after_it_was_missed() -> None:
    keys = KeyRing()
    told = [keys.holds_ours(PEER)]
    keys.was_answered(PEER)
    told.append(keys.holds_ours(PEER))
    keys.was_asked_for_ours(PEER)
    keys.was_answered(PEER)
    told.append(keys.holds_ours(PEER))
    keys.was_sent_ours(PEER)
    keys.was_answered(PEER)
    told.append(keys.holds_ours(PEER))
    assert told == [False, True, False, True]
