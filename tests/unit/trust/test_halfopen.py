"""Unfinished handshakes: the newcomer gets in, whoever has most loses its oldest."""

from __future__ import annotations

import random

from pqdht.trust.halfopen import HalfOpen
from pqdht.trust.modes import Mode, Tally

GROUPS = [f"203.0.{i}.0/24" for i in range(40)]


def bounds(
    *,
    per_group: int = 3,
    total: int = 6,
    bytes_per_group: int = 100,
    bytes_total: int = 150,
    mode: Mode = Mode.ENFORCE,
) -> HalfOpen[int]:
    return HalfOpen(
        per_group=per_group,
        total=total,
        bytes_per_group=bytes_per_group,
        bytes_total=bytes_total,
        mode=mode,
    )


def test_the_oldest_of_its_own_group_makes_room() -> None:
    half = bounds()
    assert [half.enter(i, "a") for i in range(5)] == [[], [], [], [0], [1]]
    assert half.enter(9, "b") == []
    assert (len(half), half.held("a"), half.held("b"), half.tally) == (4, 3, 1, Tally(refused=2))


def test_where_all_places_are_taken_the_largest_group_pays() -> None:
    half = bounds()
    for i, group in enumerate("abbbcc"):
        half.enter(i, group)
    assert half.enter(6, "d") == [1]
    assert half.enter(7, "e") in ([2], [4]), "b and c have two each now"
    half = bounds()
    for i, group in enumerate("aabbcc"):
        half.enter(i, group)
    assert half.enter(6, "d") == [0]
    assert 0 not in half
    assert 6 in half


def test_what_failed_already_goes_first_and_holds_no_bytes() -> None:
    half = bounds()
    for i in range(3):
        half.enter(i, "a")
        half.hold(i, 30)
    half.doom(2)
    half.doom(77)
    assert half.held_bytes("a") == 60
    assert half.enter(3, "a") == [2]


def test_bytes_of_a_group_are_bounded_the_oldest_first() -> None:
    half = bounds()
    half.enter(0, "a")
    half.enter(1, "a")
    assert half.hold(0, 60) == half.hold(1, 40) == []
    assert half.hold(1, 41) == [0]
    assert half.hold(1, 101) == [1], "itself, if it alone is too much"
    assert (len(half), half.bytes, half.held_bytes("a")) == (0, 0, 0)
    assert half.hold(1, 50) == [], "who has no place holds nothing"


def test_bytes_in_all_are_bounded_the_heaviest_group_first() -> None:
    half = bounds()
    for i, (group, size) in enumerate((("a", 40), ("b", 70), ("c", 40))):
        half.enter(i, group)
        assert half.hold(i, size) == []
    assert half.hold(2, 41) == [1]
    assert half.bytes == 81


def test_who_left_is_forgotten() -> None:
    half = bounds()
    half.enter(0, "a")
    half.hold(0, 10)
    half.leave(0)
    half.leave(0)
    assert (len(half), half.bytes, half.held("a"), half.held_bytes("a")) == (0, 0, 0, 0)
    assert [len(m) for m in (half._groups, half._bytes, half._group_of, half._by_count)] == [0] * 4


def test_observing_evicts_nobody_and_counts() -> None:
    half = bounds(mode=Mode.OBSERVE)
    assert [half.enter(i, "a") for i in range(5)] == [[]] * 5
    assert half.hold(0, 1000) == []
    assert half.tally.would_refuse == 4, "two places, and the bytes of the group and of all"


def test_any_sequence_keeps_every_bound_and_every_book() -> None:
    for seed in range(40):
        dice, half, group_of = random.Random(seed), bounds(per_group=4, total=20), dict[int, str]()
        for i in range(600):
            what, out = dice.random(), list[int]()
            if what < 0.5:
                group_of[i] = dice.choice(GROUPS[: dice.choice((1, 3, 40))])
                out = half.enter(i, group_of[i])
                assert i in half
            elif group_of:
                item = dice.choice(list(group_of))
                if what < 0.8:
                    out = half.hold(item, dice.randrange(60))
                elif what < 0.9:
                    half.doom(item)
                else:
                    half.leave(item)
                    del group_of[item]
            for evicted in out:
                del group_of[evicted]
            assert len(half) == len(group_of) <= 20
            assert set(group_of) == set(half._group_of)
            assert half.bytes == sum(half._bytes.values()) <= 150
            for group in GROUPS:
                assert half.held(group) == list(group_of.values()).count(group) <= 4
                assert half.held_bytes(group) <= 100
            assert half._most == max((half.held(g) for g in GROUPS), default=0)
