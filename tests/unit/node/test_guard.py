"""The guard: how observations lead to rank, quarantine and events, by mode; and what outlives a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from pqdht.config import DEFENCES, THRESHOLDS
from pqdht.constants import DAY_MS, MINUTE_MS
from pqdht.errors import BadPuzzle, DecodeError, DialHeldBack, PeerTimeout, RecordInvalid
from pqdht.identity.contact import VerifiedContact
from pqdht.ids import NodeId
from pqdht.node.environment import Environment
from pqdht.node.exchange import Answer
from pqdht.node.guard import OTHERS_LEAST, QUARANTINE, REPUTATION, ROWS_AT_ONCE, Guard
from pqdht.testing.loop import run
from pqdht.trust.events import EventKind, SecurityEvent
from pqdht.wire.messages import Nodes
from tests.unit.node.parts import Clock, environment

NODES = [NodeId(bytes([i]) * 32) for i in range(100)]
BAD = NODES[1]


class Crowd:
    """A table of one bucket that holds all of NODES."""

    def __len__(self) -> int:
        return len(NODES)

    def bucket_of(self, node: bytes) -> int:
        return 0

    def members(self, bucket: int) -> Collection[bytes]:
        return NODES

    def __contains__(self, node: object) -> bool:
        return node in NODES


class Empty(Crowd):
    """Nobody may be held of so few, though all are members."""

    def __len__(self) -> int:
        return 0


def answer(node: NodeId = BAD, **facts: Any) -> Answer:
    """A node's answer."""
    usual = {"rtt_s": 0.05, "sent_at": 0, "bytes": 0}
    return Answer(node, "192.0.2.0/24", Nodes(bytes(32), ()), b"", b"", **(usual | facts))


async def guarded(**defences: Any) -> tuple[Guard, Clock, Environment]:
    env, clock = await environment(defences=defences)
    guard = Guard(env)
    guard.table = Crowd()
    return guard, clock, env


def kinds(guard: Guard) -> list[EventKind]:
    return [e.kind for e in guard.events.recent()]


def lie(guard: Guard, times: int, node: NodeId = BAD) -> None:
    for _ in range(times):
        guard.invalid(answer(node), RecordInvalid("forged"))


def test_a_liar_is_put_away_and_let_out_by_a_good_probe() -> None:
    async def main() -> None:
        guard, clock, _ = await guarded()
        told: list[SecurityEvent] = []
        end = guard.subscribe(told.append)
        lie(guard, 9)
        assert BAD not in guard.held
        lie(guard, 1)
        assert list(guard.held) == [BAD]
        assert guard.on_probation() == []
        assert told[-1].kind is EventKind.QUARANTINED
        assert (told[-1].node, told[-1].detector, told[-1].mode) == (BAD, "invalid_rate", "enforce")
        clock.now += 11 * MINUTE_MS
        assert guard.on_probation() == [BAD]
        assert list(guard.held) == [BAD]  # until it has shown that it is mended
        guard.probed(BAD, ok=False)
        clock.now += 11 * MINUTE_MS
        assert guard.on_probation() == []  # twice as long
        clock.now += 10 * MINUTE_MS
        end()
        guard.probed(BAD, ok=True)
        assert not guard.held
        assert kinds(guard)[-1] is EventKind.RELEASED
        assert [e.kind for e in told].count(EventKind.RELEASED) == 0

    run(main)


@pytest.mark.parametrize("mode", ["observe", "off"])
@pytest.mark.parametrize("defence", ["invalid_rate", "quarantine"])
def test_a_mode_below_enforce_puts_nobody_away(defence: str, mode: str) -> None:
    async def main() -> None:
        guard, _, _ = await guarded(**{defence: mode})
        lie(guard, 10)
        assert not guard.held
        assert (EventKind.ANOMALY in kinds(guard)) == (mode == "observe")

    run(main)


def test_thresholds_can_be_set() -> None:
    async def main() -> None:
        env, _ = await environment(thresholds={"invalid_rate.enough": 3, "invalid_rate.invalid": 2})
        guard = Guard(env)
        guard.table = Crowd()
        lie(guard, 3)
        assert list(guard.held) == [BAD]
        env, _ = await environment(thresholds={"quarantine.table_share": 0.001})
        guard = Guard(env)
        guard.table = Crowd()
        lie(guard, 10)
        assert not guard.held  # of a hundred nodes not one may be held
        assert EventKind.QUARANTINE_CAPPED in kinds(guard)

    run(main)


def test_an_operator_lets_out() -> None:
    async def main() -> None:
        guard, _, _ = await guarded()
        lie(guard, 10)
        assert [h.node for h in guard.quarantined()] == [BAD]
        assert guard.lift(BAD)
        assert not guard.lift(BAD)
        assert not guard.held

    run(main)


def test_what_clocks_may_differ_about_is_nobodys_fault() -> None:
    async def main() -> None:
        guard, _, _ = await guarded()
        for _ in range(20):
            guard.invalid(answer(), BadPuzzle("expired", age=38))
        assert (guard.score(BAD), guard.held, kinds(guard)) == (0.5, {}, [])

    run(main)


def test_who_gives_good_data_comes_first_and_who_lies_last() -> None:
    async def main() -> None:
        guard, _, _ = await guarded()
        good, new, silent, bad = NODES[:4]
        for _ in range(10):
            guard.valid(answer(good))
            guard.answered(answer(silent))
            guard.silent(silent)
        lie(guard, 4, bad)
        assert guard.rank(good) > guard.rank(new) > guard.rank(bad)
        assert guard.weight(good) > guard.weight(new) > guard.weight(bad)
        assert guard.score(silent) > guard.score(bad)
        careless, _, _ = await guarded(reputation="off")
        lie(careless, 4, bad)
        assert careless.rank(bad) == careless.rank(good)
        assert careless.weight(bad) == careless.weight(good)

    run(main)


def test_a_referrer_answers_for_dead_contacts_in_rank_alone() -> None:
    async def main() -> None:
        guard, _, _ = await guarded(referrals="enforce")
        for _ in range(9):
            guard.referred(BAD, DialHeldBack("we did not dial"))
        assert guard.reputation.referral(BAD, 0.0) == 1.0
        before = guard.rank(BAD)
        for _ in range(10):
            guard.referred(BAD, PeerTimeout("nobody there"))
        assert guard.rank(BAD) < before
        assert guard.score(BAD) == 0.5
        assert kinds(guard) == [EventKind.ANOMALY]

    run(main)


def test_the_worst_are_passed_over_while_enough_others_are_left() -> None:
    async def main() -> None:
        guard, _, _ = await guarded(quarantine="off")
        others = NODES[2 : 2 + OTHERS_LEAST]
        lie(guard, 10)
        assert guard.score(BAD) < THRESHOLDS["distrust"]
        assert list(guard.left_out([BAD, *others])) == [BAD]
        assert not guard.may_enter(BAD)
        assert guard.may_enter(others[0])
        assert not guard.left_out([BAD, *others[1:]])
        blind, _, _ = await guarded(quarantine="off", reputation="observe")
        lie(blind, 10)
        assert not blind.left_out([BAD, *others])

    run(main)


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_who_would_not_be_held_for_the_caps_is_passed_over_only_where_that_is_enforced(mode: str) -> None:
    async def main() -> None:
        for quarantine, left_out in (("enforce", [BAD]), (mode, [])):
            guard, _, _ = await guarded(quarantine=quarantine, reputation="off")
            guard.table = Empty()
            lie(guard, 10)
            assert list(guard.left_out([BAD, *NODES[2:20]])) == left_out

    run(main)


def test_a_crowd_of_liars_keeps_no_later_one_from_being_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr("pqdht.node.guard.SUSPECTS_MOST", 8)
        guard, _, _ = await guarded(quarantine="off")
        for node in NODES[10:20]:
            lie(guard, 9, node)
        lie(guard, 9)
        assert list(guard.left_out([BAD, *NODES[50:60]])) == [BAD]
        lie(guard, 1, NODES[10])  # it was forgotten, until it lied again
        assert list(guard.left_out([NODES[10], *NODES[50:60]])) == [NODES[10]]

    run(main)


def test_a_clock_that_goes_back_leaves_nobody_out_for_longer() -> None:
    async def main() -> None:
        guard, clock, _ = await guarded(reputation="off")
        guard.table = Empty()
        lie(guard, 10)
        assert BAD in guard.left_out([BAD, *NODES[2:20]])
        clock.now -= 30 * DAY_MS
        assert BAD not in guard.left_out([BAD, *NODES[2:20]])

    run(main)


def test_what_is_off_remembers_nothing() -> None:
    async def main() -> None:
        guard, _, _ = await guarded(**dict.fromkeys(DEFENCES, "off"))
        for i in range(200):
            guard.answered(answer(NODES[i % 50], rtt_s=0.1 + i, sent_at=i * DAY_MS))
            guard.valid(answer(NODES[i % 50]))
            guard.silent(NODES[i % 50])
            guard.referred(NODES[i % 50], PeerTimeout("silent"))
            guard.proven(NODES[i % 50], "WRONG_KEY", None)
        lie(guard, 20)
        assert (len(guard.reputation), len(guard.quarantine), len(guard._rates)) == (0, 0, 0)
        assert not guard.left_out(NODES)

    run(main)


def test_odd_answers_are_logged_and_enforced_they_lower_the_rank() -> None:
    async def main() -> None:
        for mode, kind in (("off", []), ("observe", [EventKind.ANOMALY]), ("enforce", [EventKind.ANOMALY])):
            guard, clock, _ = await guarded(response_time=mode, clocks="off")
            for i in range(40):
                guard.answered(answer(NODES[2 + i % 50], rtt_s=0.04 + 0.001 * (i % 9)))
            before = guard.rank(BAD)
            guard.answered(answer(rtt_s=4.0, sent_at=clock.now))
            assert kinds(guard) == kind
            assert (guard.rank(BAD) < before) == (mode == "enforce")

    run(main)


def test_answers_that_cannot_be_read_lower_the_rank_where_that_is_enforced() -> None:
    async def main() -> None:
        who = VerifiedContact.__new__(VerifiedContact)
        object.__setattr__(who, "node_id", BAD)
        object.__setattr__(who, "group", "192.0.2.0/24")
        for mode, kind in (("off", []), ("observe", [EventKind.ANOMALY]), ("enforce", [EventKind.ANOMALY])):
            guard, _, _ = await guarded(formats=mode)
            before = guard.rank(BAD)
            guard.malformed(who, DecodeError("short"))
            assert kinds(guard) == kind
            assert (guard.rank(BAD) < before) == (mode == "enforce")

    run(main)


def test_what_is_known_outlives_a_restart() -> None:
    async def main() -> None:
        guard, clock, env = await guarded()
        lie(guard, 10)
        await guard.save()
        again = Guard(env)
        again.table = Crowd()
        again.load()
        assert list(again.held) == [BAD]
        assert again.score(BAD) == guard.score(BAD) < THRESHOLDS["distrust"]
        again.lift(BAD)
        assert list(again.left_out([BAD, *NODES[2:20]])) == [BAD]
        await env.store.save_state(REPUTATION, b"\xff")
        await env.store.save_state(QUARANTINE, b"\x00")
        forgetful = Guard(env)
        forgetful.table = Crowd()
        forgetful.load()
        assert (forgetful.held, forgetful.score(BAD)) == ({}, 0.5)
        assert env.counters["trust_damaged"] == 2
        clock.now += 1

    run(main)


def test_others_get_their_turn_while_much_is_written_down() -> None:
    async def main() -> None:
        guard, _, env = await guarded()
        for i in range(8 * ROWS_AT_ONCE):
            guard.silent(NodeId(i.to_bytes(32, "big")))
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        task = asyncio.create_task(other())
        await guard.save()
        task.cancel()
        assert turns >= 8 - 1
        again = Guard(env)
        again.load()
        assert again.reputation.dump(0.0) == guard.reputation.dump(0.0)
        assert len(again.reputation) == 8 * ROWS_AT_ONCE

    run(main)
