"""A node's own stake: found in the background, resumed, renewed each week."""

from __future__ import annotations

import asyncio

import pytest

from pqdht.constants import DAY_MS
from pqdht.crypto import puzzle
from pqdht.errors import StorageError
from pqdht.identity.stake import epoch_ends, epoch_of, parse_stake
from pqdht.node import staking
from pqdht.node.environment import Environment
from pqdht.node.staking import STATE, Staker, _decode, _State
from pqdht.testing.loop import run
from pqdht.wire.codec import encode
from tests.unit.node.parts import NOW, environment

BITS = 6


def bits(env: Environment) -> int:
    return env.contacts.stake_bits(env.identity.node_id, env.stake, env.clock())


def state(env: Environment) -> _State:
    blob = env.store.load_state(STATE)
    assert blob is not None
    return _decode(blob)


def test_it_is_found_shown_remembered_and_renewed() -> None:
    async def main() -> None:
        env, clock = await environment(stake_bits=BITS)
        shown: list[bytes] = []
        await Staker(env, shown.append).renew()
        assert bits(env) >= BITS
        assert shown == [env.stake] == [state(env).stake]
        await Staker(env, shown.append).renew()
        assert len(shown) == env.counters["stakes_found"] == 1
        first, env.stake = env.stake, None  # a restart
        await Staker(env, shown.append).renew()
        assert shown == [first, first]
        assert env.counters["stakes_found"] == 1
        clock.now = epoch_ends(epoch_of(NOW))
        assert bits(env) >= BITS  # the first day of the next week
        await Staker(env, shown.append).renew()
        assert bits(env) >= BITS
        assert env.stake != first
        clock.now += 7 * DAY_MS
        assert bits(env) >= BITS
        clock.now += DAY_MS
        assert bits(env) == 0

    run(main)


def test_more_bits_are_searched_for_where_more_are_asked() -> None:
    async def main() -> None:
        env, _ = await environment(stake_bits=2)
        await Staker(env, lambda _: None).renew()
        harder, _ = await environment(stake_bits=9, store=env.store)
        shown: list[bytes] = []
        await Staker(harder, shown.append).renew()
        assert bits(harder) >= 9
        assert parse_stake(shown[-1]).bits >= 9

    run(main)


def test_a_search_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(staking, "CHUNK", 16)
    starts: list[int] = []
    search, some = puzzle.search_range, asyncio.Event()

    def noted(provider, salt, commit, asked, start, count):  # type: ignore[no-untyped-def]
        starts.append(start)
        if len(starts) % 5 == 0:
            some.set()
        return search(provider, salt, commit, asked, start, count)

    async def search_a_while(env: Environment) -> None:
        some.clear()
        task = asyncio.get_running_loop().create_task(Staker(env, lambda _: None).renew())
        await some.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def main() -> None:
        env, _ = await environment(stake_bits=30)
        monkeypatch.setattr(puzzle, "search_range", noted)
        await search_a_while(env)
        stopped = state(env).position
        assert stopped in (starts[-1], starts[-1] + 16)
        starts.clear()
        await search_a_while(env)
        assert starts[0] == stopped > 0

    run(main)


def test_what_was_saved_by_another_or_damaged_is_not_used() -> None:
    async def main() -> None:
        env, _ = await environment(stake_bits=BITS)
        me, epoch = bytes(env.identity.node_id), epoch_of(NOW)
        for blob in (
            b"damaged",
            encode(_State(2, me, epoch, 1 << 40, None)),
            encode(_State(1, b"x" * 32, epoch, 1 << 40, None)),
            encode(_State(1, me, epoch, 0, b"no stake")),
        ):
            env.stake = None
            await env.store.save_state(STATE, blob)
            await Staker(env, lambda _: None).renew()
            assert bits(env) >= BITS
            assert state(env).position < 1 << 40

    run(main)


def test_a_disk_that_fails_is_reported_and_the_stake_is_shown() -> None:
    async def main() -> None:
        env, _ = await environment(stake_bits=1)

        async def fail(name: str, blob: bytes) -> None:
            raise StorageError("no")

        env.store.save_state = fail  # type: ignore[method-assign]
        with pytest.raises(StorageError):
            await Staker(env, lambda _: None).renew()
        assert bits(env) >= 1

    run(main)
