"""Quarantine: how long, how many, and that neither caps nor doubling can be got round."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pqdht.errors import DecodeError
from pqdht.trust.modes import Mode
from pqdht.trust.quarantine import (
    BUCKET_LIVE,
    BUCKET_SHARE,
    FIRST_S,
    FORGET_S,
    LONGEST_S,
    PROBATION_S,
    TABLE_SHARE,
    Held,
    Outcome,
    Quarantine,
    length_s,
)
from pqdht.trust.remembered import decode_quarantine, encode_quarantine

NOW = 1.8e9


def node(bucket: int, number: int = 0) -> bytes:
    return bytes([bucket]) + number.to_bytes(31, "big")


class FakeTable:
    """Nodes whose first byte is their bucket."""

    def __init__(self, nodes: Iterable[bytes] = ()) -> None:
        self.nodes = set(nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def bucket_of(self, node: bytes) -> int:
        return node[0]

    def members(self, bucket: int) -> Collection[bytes]:
        return [n for n in self.nodes if n[0] == bucket]

    def __contains__(self, node: object) -> bool:
        return node in self.nodes


def full(buckets: int = 10, each: int = 20) -> FakeTable:
    return FakeTable(node(b, i) for b in range(buckets) for i in range(each))


NOBODY = FakeTable()
X = node(200)


def test_ten_minutes_doubling_to_a_day() -> None:
    assert [length_s(n) for n in range(1, 12)] == [
        600, 1200, 2400, 4800, 9600, 19200, 38400, 76800, 86400, 86400, 86400
    ]  # fmt: skip
    quarantine, now = Quarantine(), NOW
    for times in range(1, 12):
        assert quarantine.hold(X, "proof", now, NOBODY) is Outcome.HELD
        assert quarantine.hold(X, "again", now, NOBODY) is Outcome.ALREADY
        assert quarantine.held(now) == [Held(X, "proof", now, now + length_s(times), times, False)]
        now += length_s(times)
        assert quarantine.on_probation(now - 1) == []
        assert quarantine.on_probation(now) == [X]
        assert quarantine.is_held(X, now)
        quarantine.probed(X, now, ok=True)
        assert not quarantine.is_held(X, now)
        assert (quarantine.held(now), quarantine.on_probation(now)) == ([], [])


def test_a_failed_probe_holds_again_for_twice_as_long() -> None:
    quarantine = Quarantine()
    quarantine.hold(X, "proof", NOW, NOBODY)
    quarantine.probed(X, NOW + 1, ok=True)
    assert quarantine.is_held(X, NOW + 1), "its time is not over"
    now = NOW + FIRST_S + 5
    quarantine.probed(X, now, ok=False)
    assert quarantine.held(now) == [Held(X, "proof", now, now + 2 * FIRST_S, 2, False)]
    now += 2 * FIRST_S
    assert quarantine.hold(X, "rate", now, NOBODY) is Outcome.HELD, "an offence on probation"
    assert quarantine.held(now) == [Held(X, "rate", now, now + 4 * FIRST_S, 3, False)]
    quarantine.probed(node(1), now, ok=False)
    assert len(quarantine) == 1


def test_nobody_is_held_for_ever_for_want_of_a_probe() -> None:
    quarantine = Quarantine()
    quarantine.hold(X, "proof", NOW, NOBODY)
    over = NOW + FIRST_S + PROBATION_S
    assert quarantine.is_held(X, over - 1)
    assert not quarantine.is_held(X, over)
    quarantine.hold(X, "proof", over, NOBODY)
    assert quarantine.held(over)[0].times == 2


def test_repeats_are_forgotten_in_freedom_only() -> None:
    quarantine, now = Quarantine(), NOW
    for _ in range(4):
        quarantine.hold(X, "proof", now, NOBODY)
        now = quarantine.held(now)[0].until
        quarantine.probed(X, now, ok=True)
    later = now + 2 * FORGET_S
    assert quarantine.dump(later)
    quarantine.hold(X, "proof", later, NOBODY)
    assert quarantine.held(later)[0].times == 3, "4 less 2, and 1"
    now = quarantine.held(later)[0].until
    quarantine.probed(X, now, ok=True)
    assert quarantine.dump(now + 3 * FORGET_S) == []
    quarantine.hold(X, "proof", now + 100 * FORGET_S, NOBODY)
    assert quarantine.held(now + 100 * FORGET_S)[0].times == 1


def test_lifting_frees_and_keeps_the_repeats() -> None:
    quarantine = Quarantine()
    assert not quarantine.lift(X)
    quarantine.hold(X, "proof", NOW, NOBODY)
    assert quarantine.lift(X)
    assert not quarantine.lift(X)
    assert not quarantine.is_held(X, NOW)
    quarantine.hold(X, "proof", NOW, NOBODY)
    assert quarantine.held(NOW)[0].times == 2


def test_a_tenth_of_the_table() -> None:
    quarantine, table = Quarantine(), full(10, 20)
    outcomes = [quarantine.hold(node(i % 10, i // 10), "x", NOW, table) for i in range(40)]
    assert outcomes == [Outcome.HELD] * 20 + [Outcome.CAPPED] * 20
    assert quarantine.outcomes == {Outcome.HELD: 20, Outcome.CAPPED: 20}
    assert quarantine.hold(X, "x", NOW, table) is Outcome.HELD, "outside the table no cap counts"
    table.nodes.add(X)
    quarantine.lift(node(0, 0))
    assert quarantine.hold(node(0, 1), "x", NOW, table) is Outcome.ALREADY
    assert quarantine.hold(node(0, 5), "x", NOW, table) is Outcome.CAPPED, "X takes a place now"


def test_a_quarter_of_a_bucket_and_eight_are_left() -> None:
    table = full(10, 20)
    quarantine = Quarantine()
    assert [quarantine.hold(node(3, i), "x", NOW, table) for i in range(7)].count(Outcome.HELD) == 5
    for size, allowed in ((8, 0), (9, 1), (10, 2), (11, 2), (12, 3), (16, 4)):
        table = FakeTable([*full(10, 20).nodes, *(node(50, i) for i in range(size))])
        quarantine = Quarantine()
        got = [quarantine.hold(node(50, i), "x", NOW, table) for i in range(size)]
        assert got.count(Outcome.HELD) == allowed, size
        assert got.count(Outcome.CAPPED) == size - allowed


def test_small_networks_quarantine_nobody() -> None:
    quarantine, table = Quarantine(), full(2, 4)
    assert {quarantine.hold(n, "x", NOW, table) for n in table.nodes} == {Outcome.CAPPED}


def test_observe_and_off_change_nothing() -> None:
    watching, table = Quarantine(Mode.OBSERVE), full()
    assert {watching.hold(n, "x", NOW, table) for n in table.nodes} == {Outcome.OBSERVED}
    assert watching.hold(X, "x", NOW, table) is Outcome.OBSERVED
    assert (watching.held(NOW), watching.dump(NOW)) == ([], [])
    assert not watching.is_held(X, NOW)
    assert watching.hold(node(0), "x", NOW, full(1, 4)) is Outcome.CAPPED
    off = Quarantine(Mode.OFF)
    assert off.hold(X, "x", NOW, table) is Outcome.OFF
    assert len(off) == 0


@pytest.mark.parametrize("mode", [Mode.OBSERVE, Mode.OFF])
def test_what_was_held_is_free_in_other_modes_and_not_forgotten(mode: Mode) -> None:
    strict = Quarantine()
    strict.hold(X, "x", NOW, NOBODY)
    loose = Quarantine(mode)
    loose.load(strict.dump(NOW), NOW)
    assert not loose.is_held(X, NOW)
    assert loose.held(NOW) == []
    assert not loose.lift(X)
    assert loose.dump(NOW) == strict.dump(NOW)


def test_a_table_that_shrank_is_settled() -> None:
    quarantine, table = Quarantine(), full(10, 20)
    for times in (1, 2):
        quarantine.hold(node(0, 0), "x", NOW, table)
        if times == 1:
            quarantine.lift(node(0, 0))
    for i in range(1, 20):
        assert quarantine.hold(node(i % 10, i // 10), "x", NOW, table) is Outcome.HELD
    assert quarantine.settle(NOW, table) == []
    table.nodes = {n for n in table.nodes if n[0] < 5}
    freed = quarantine.settle(NOW, table)
    assert freed == []
    table.nodes = {n for n in table.nodes if n[0] < 2}
    freed = quarantine.settle(NOW, table)
    assert len(freed) == 0
    assert [h.node for h in quarantine.held(NOW) if h.node in table] == [
        node(0, 0), node(0, 1), node(1, 0), node(1, 1)
    ]  # fmt: skip
    table.nodes = {n for n in table.nodes if n[0] == 0 or n[1:] in (node(1)[1:], node(1, 1)[1:])}
    assert quarantine.settle(NOW, table) == [node(1, 0), node(1, 1)], "its bucket has but two"
    table.nodes = {node(0, i) for i in range(10)}
    assert quarantine.settle(NOW, table) == [node(0, 1)], "fewest repeats first"
    assert quarantine.is_held(node(0, 0), NOW)
    assert quarantine.settle(NOW, table) == []


def caps_hold(quarantine: Quarantine, table: FakeTable, now: float) -> None:
    held = {h.node for h in quarantine.held(now)} & table.nodes
    assert len(held) <= TABLE_SHARE * len(table)
    for bucket in {n[0] for n in held}:
        members = set(table.members(bucket))
        assert len(held & members) <= BUCKET_SHARE * len(members)
        assert len(members - held) >= BUCKET_LIVE


actions = st.lists(
    st.tuples(
        st.sampled_from(["hold", "hold", "hold", "ok", "bad", "lift", "leave", "enter"]),
        st.integers(0, 5),
        st.integers(0, 24),
        st.sampled_from([0.0, 1.0, 600.0, 3600.0, 86_400.0, -7200.0]),
    ),
    max_size=80,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, 22), min_size=6, max_size=6), actions)
def test_whatever_is_done_the_caps_hold(sizes: list[int], todo: list[tuple[str, int, int, float]]) -> None:
    table = FakeTable(node(b, i) for b, size in enumerate(sizes) for i in range(size))
    quarantine, now = Quarantine(), NOW
    for action, bucket, number, later in todo:
        now += later
        who = node(bucket, number)
        if action == "hold":
            quarantine.hold(who, "x", now, table)
        elif action in ("ok", "bad"):
            quarantine.probed(who, now, ok=action == "ok")
        elif action == "lift":
            quarantine.lift(who)
        else:
            (table.nodes.discard if action == "leave" else table.nodes.add)(who)
            quarantine.settle(now, table)
        caps_hold(quarantine, table, now)


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from(["hold", "ok", "bad", "lift"]), st.floats(0, 3600)), max_size=60))
def test_each_hold_is_twice_as_long_as_the_last(todo: list[tuple[str, float]]) -> None:
    quarantine, now = Quarantine(), NOW
    seen: list[Held] = []
    for action, later in todo:
        now += later
        if action == "hold":
            quarantine.hold(X, "x", now, NOBODY)
        elif action == "lift":
            quarantine.lift(X)
        else:
            quarantine.probed(X, now, ok=action == "ok")
        if (held := quarantine.held(now)) and (not seen or held[0].times != seen[-1].times):
            seen += held
    assert [h.times for h in seen] == list(range(1, len(seen) + 1))
    for h in seen:
        assert h.until - h.since == pytest.approx(min(FIRST_S * 2 ** (h.times - 1), LONGEST_S), abs=1e-3)


def test_a_clock_that_goes_back_holds_nobody_for_longer_than_once_more() -> None:
    quarantine = Quarantine()
    quarantine.hold(X, "x", NOW + 1e8, NOBODY)
    assert quarantine.is_held(X, NOW)
    assert quarantine.on_probation(NOW + FIRST_S) == [X]
    quarantine.probed(X, NOW + FIRST_S, ok=True)
    quarantine.hold(X, "x", NOW - 1e8, NOBODY)
    assert quarantine.held(NOW - 1e8)[0].until == NOW - 1e8 + 2 * FIRST_S


def test_crowding_frees_no_old_offender_and_none_of_the_table() -> None:
    quarantine, table = Quarantine(capacity=64), full()
    for _ in range(5):
        quarantine.hold(X, "x", NOW, table)
        quarantine.lift(X)
    quarantine.hold(X, "x", NOW, table)
    quarantine.hold(node(1, 1), "x", NOW, table)
    for i in range(3000):
        assert quarantine.hold(node(100, i), "x", NOW + 1, table) is Outcome.HELD
        assert len(quarantine) <= 64
    assert quarantine.is_held(X, NOW + 1)
    assert quarantine.is_held(node(1, 1), NOW + 1)


def test_dump_and_load_keep_everything() -> None:
    quarantine = Quarantine()
    quarantine.hold(X, "proof: ü", NOW, NOBODY)
    quarantine.hold(node(1), "y" * 1000, NOW + 5, NOBODY)
    quarantine.lift(node(1))
    again = Quarantine()
    again.load(decode_quarantine(encode_quarantine(quarantine.dump(NOW + 9))), NOW + 9)
    assert again.held(NOW + 9) == quarantine.held(NOW + 9)
    again.hold(node(1), "z", NOW + 9, NOBODY)
    assert [h.times for h in again.held(NOW + 9)] == [2, 1]


def test_loaded_holds_are_bounded() -> None:
    quarantine = Quarantine(capacity=8)
    quarantine.load([(X, "x", NOW, NOW + 1e12, 1, True)], NOW)
    assert quarantine.held(NOW)[0].until == NOW + FIRST_S
    quarantine.load([(X, "x", NOW + 1e9, NOW + 1e12, 0, True)], NOW)
    assert quarantine.held(NOW)[0].until == NOW + FIRST_S
    quarantine.load([(node(1, i), "x", NOW, NOW, 10**6, False) for i in range(100)], NOW)
    assert len(quarantine) <= 8


def test_damage_is_a_typed_error() -> None:
    data = encode_quarantine([(X, "x", NOW, NOW + 600, 1, True)])
    for damaged in (
        b"",
        data[:-1],
        data + b"x",
        b"\x92\x02\x90",
        encode_quarantine([(X[1:], "x", NOW, NOW, 1, True)]),
    ):
        with pytest.raises(DecodeError):
            decode_quarantine(damaged)
    with pytest.raises(DecodeError):
        decode_quarantine(encode_quarantine([(X, "x", math.nan, NOW, 1, True)]))
    with pytest.raises(DecodeError):
        decode_quarantine(encode_quarantine([(X, "x" * 300, NOW, NOW, 1, True)]))
