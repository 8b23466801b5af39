"""The sleeper: months of good answers buy it fewer than twenty bad ones."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import pytest

from pqdht.constants import DAY_MS, MINUTE_MS
from pqdht.errors import RecordInvalid
from pqdht.ids import NodeId
from pqdht.node.guard import Guard
from pqdht.testing.adversaries.sleeper import Sleeper
from pqdht.testing.loop import run as run_loop
from pqdht.trust.events import EventKind
from tests.sim.arena import Arena, run, small
from tests.unit.node.parts import environment
from tests.unit.node.test_guard import answer

NODES, SLEEPERS, VALUES, ROUNDS = 24, 8, 4, 14
MOST_BAD = 20
DEFENCES = ("invalid_rate", "reports", "quarantine", "reputation")
SEED = 1


@dataclass
class Outcome:
    """What the reader went through."""

    bad: dict[bytes, int] = field(default_factory=dict)
    """sleeper -> bad answers that it gave the reader"""
    bad_when_out: dict[bytes, int] = field(default_factory=dict)
    """sleeper -> the same when it was first left out"""
    promises: int = 0
    """Receipts of sleepers among those of the k closest, in a PUT at the end."""
    values: list[bytes | None] = field(default_factory=list)
    events: int = 0


async def scenario(arena: Arena) -> Outcome:
    """The nodes closest to a key behave for weeks, then turn; a stranger reads on and writes at the end."""
    names = [f"v{i}" for i in range(VALUES)]
    reader = arena.closest(arena.key(0, names[0]))[-1]
    by_closeness = [i for i in arena.closest(arena.key(reader, "last")) if i not in (0, reader)]
    gang = arena.enlist("sleeper", *by_closeness[:SLEEPERS])
    for name in names:
        await arena.put(0, name, b"true")
    node, outcome = arena.net.nodes[reader], Outcome()
    guard = node._guard

    def count(event: object) -> None:
        outcome.events += 1

    guard.subscribe(count)
    for name in names * 3:
        assert (await arena.get(reader, 0, name)).value == b"true"
    for member in gang.members.values():
        assert isinstance(member, Sleeper)
        member.wake()
    invalid = guard.invalid

    def noted(bad: object, *more: object) -> None:
        sleeper = bad.node_id  # type: ignore[attr-defined]
        outcome.bad[sleeper] = outcome.bad.get(sleeper, 0) + 1
        invalid(bad, *more)  # type: ignore[arg-type]
        if sleeper in guard.left_out([c.node_id for c in node._routing.table]):
            outcome.bad_when_out.setdefault(sleeper, outcome.bad[sleeper])

    guard.invalid = noted  # type: ignore[method-assign, assignment]
    for _ in range(ROUNDS):
        for name in names:
            outcome.values.append((await arena.get(reader, 0, name)).value)
    assert set(outcome.bad) <= set(gang.members)  # no honest node is ever taken for one
    result = await node.put("last", b"late")
    outcome.promises = sum(r.node in gang.members and r.code == "OK" for r in result.receipts)
    return outcome


def play(mode: str) -> tuple[Outcome, str]:
    return run(scenario, NODES, seed=SEED, params=small(), defences=dict.fromkeys(DEFENCES, mode))


def test_sleepers_leave_the_replica_sets_of_who_sees_them_within_twenty_bad_answers() -> None:
    off, off_trace = play("off")
    assert max(off.bad.values()) > MOST_BAD  # they go on for as long as they are asked
    assert not off.bad_when_out
    assert off.promises >= SLEEPERS // 2  # and most of what a PUT is promised is worth nothing

    observed, trace = play("observe")
    assert trace == off_trace
    assert observed.events > off.events
    assert (observed.promises, observed.bad_when_out) == (off.promises, {})

    enforced, _ = play("enforce")
    assert set(enforced.bad_when_out) == set(enforced.bad) != set()
    assert max(enforced.bad_when_out.values()) <= MOST_BAD
    assert enforced.promises < off.promises
    for outcome in (off, observed, enforced):
        assert set(outcome.values) <= {b"true", None}


# --- where the caps of quarantine leave it in the table --------------------------------------------

OTHERS = [NodeId(bytes([i]) * 32) for i in range(2, 12)]
BAD = NodeId(bytes([1]) * 32)


class Small:
    """A table too small for quarantine to hold anybody."""

    def __len__(self) -> int:
        return 9

    def bucket_of(self, node: bytes) -> int:
        return 0

    def members(self, bucket: int) -> Collection[bytes]:
        return [BAD, *OTHERS[:7]]

    def __contains__(self, node: object) -> bool:
        return node in self.members(0)


@pytest.mark.parametrize("good_between", [0, 1, 2], ids=["only bad", "every other", "every third"])
@pytest.mark.parametrize("days", [0, 1, 90])
def test_also_where_quarantine_may_not_hold_it(days: int, good_between: int) -> None:
    async def main() -> None:
        env, clock = await environment(defences={"reports": "off"})
        guard = Guard(env)
        guard.table = Small()
        for _ in range(days * 48):  # every half hour
            guard.answered(answer(BAD))
            guard.valid(answer(BAD))
            clock.now += DAY_MS // 48
        assert guard.score(BAD) >= (0.9 if days else 0.5)
        bad = 0
        while BAD not in guard.left_out([BAD, *OTHERS]):
            for _ in range(good_between):
                guard.valid(answer(BAD))
            guard.invalid(answer(BAD), RecordInvalid("forged"))
            clock.now += MINUTE_MS
            bad += 1
            assert bad <= MOST_BAD
        assert not guard.held
        if bad >= 10:
            assert EventKind.QUARANTINE_CAPPED in {e.kind for e in guard.events.recent()}

    run_loop(main)
