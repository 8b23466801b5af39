"""Turns go round the groups, and known callers come before strangers without shutting them out."""

from __future__ import annotations

import pytest

from pqdht.trust.turns import KNOWN_TURNS, FairQueue


def test_a_group_with_much_waiting_has_no_more_turns_than_one_with_little() -> None:
    queue: FairQueue[str] = FairQueue()
    for i in range(5):
        queue.put(f"a{i}", "a", known=False)
    queue.put("b0", "b", known=False)
    queue.put("c0", "c", known=False)
    assert [queue.take() for _ in range(4)] == ["a0", "b0", "c0", "a1"]
    queue.put("d0", "d", known=False)
    assert [queue.take() for _ in range(4)] == ["a2", "d0", "a3", "a4"]
    assert len(queue) == 0
    with pytest.raises(IndexError):
        queue.take()


def test_known_callers_first_and_strangers_are_not_starved() -> None:
    queue: FairQueue[str] = FairQueue()
    for i in range(8):
        queue.put(f"s{i}", "s", known=False)
        queue.put(f"k{i}", "k", known=True)
    taken = [queue.take()[0] for _ in range(16)]
    assert taken[:8] == ["k"] * KNOWN_TURNS + ["s"] + ["k"] * KNOWN_TURNS + ["s"]
    assert sorted(taken) == ["k"] * 8 + ["s"] * 8


def test_who_gives_up_is_taken_out() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.put("a0", "a", known=False)
    queue.put("a1", "a", known=True)
    queue.put("b0", "b", known=False)
    queue.remove("a1", "a")
    queue.remove("a0", "a")
    queue.remove("a0", "a")
    queue.remove("b0", "a")
    assert (len(queue), queue.take()) == (1, "b0")
