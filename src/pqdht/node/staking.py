"""Finds this node's stake of the week, in the background, and goes on where it stopped (section 2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ..crypto import puzzle
from ..errors import BadPuzzle, DecodeError
from ..identity.stake import check_epoch, epoch_of, parse_stake, solved, stake_commit
from ..wire.codec import U8, U32, U63, Bytes32, Decoder, Struct, encode
from ..wire.contact import StakeBytes
from .environment import Environment

STATE = "stake"
"""Name of the saved state."""
VERSION = 1
CHUNK = 256
"""Nonces at a time, about 40 ms of one thread; then it rests for as long: half a core at most."""
SAVE_EVERY = 8192


class _State(Struct, frozen=True):
    version: U8
    node_id: Bytes32
    epoch: U32
    position: U63
    """Nonces below were tried."""
    stake: StakeBytes | None
    """The latest found, of this epoch or an earlier one."""


_decode = Decoder(_State, "saved stake")


class Staker:
    """One per node; `show(stake)` is called where the node has another stake to show."""

    def __init__(self, env: Environment, show: Callable[[bytes], None]) -> None:
        self._env = env
        self._show = show

    async def renew(self) -> None:
        """Show a stake of this week, found before or now.  Returns at once where there is nothing to do.

        Raises StorageError.
        """
        env, state = self._env, self._load()
        if state.stake is not None and state.stake != env.stake and self._holds(state.stake):
            self._set(state.stake)
        if state.stake is None or not self._is_enough(state.stake):
            await self._search(state)

    def _load(self) -> _State:
        blob, me = self._env.store.load_state(STATE), bytes(self._env.identity.node_id)
        empty = _State(VERSION, me, epoch_of(self._env.clock()), 0, None)
        try:
            state = _decode(blob) if blob else empty
        except DecodeError:
            return empty
        if state.version != VERSION or state.node_id != me:
            return empty
        if state.epoch != empty.epoch:
            return _State(VERSION, me, empty.epoch, 0, state.stake)
        return state

    def _holds(self, stake: bytes) -> bool:
        """Whether it counts today."""
        try:
            check_epoch(parse_stake(stake), self._env.clock())
        except BadPuzzle:
            return False
        return True

    def _is_enough(self, raw: bytes) -> bool:
        """Whether it is of this week and as hard as we want it."""
        try:
            stake = parse_stake(raw)
        except BadPuzzle:
            return False
        return stake.epoch == epoch_of(self._env.clock()) and stake.bits >= self._env.config.stake_bits

    def _set(self, stake: bytes) -> None:
        self._env.stake = stake
        self._show(stake)

    async def _search(self, state: _State) -> None:
        env = self._env
        loop, provider, me = asyncio.get_running_loop(), env.suite.provider, env.identity.node_id
        salt, commit = puzzle.salt(env.network_tag), stake_commit(me, state.epoch)
        position = saved = state.position
        try:
            while epoch_of(env.clock()) == state.epoch:
                began = loop.time()
                nonce = await loop.run_in_executor(
                    None, puzzle.search_range, provider, salt, commit, env.config.stake_bits, position, CHUNK
                )
                if nonce is not None:
                    stake = solved(provider, env.network_tag, me, state.epoch, nonce).to_wire()
                    self._set(stake)
                    position += CHUNK
                    await self._save(state, position, stake)
                    env.counters["stakes_found"] += 1
                    return
                position += CHUNK
                await asyncio.sleep(loop.time() - began)
                if position - saved >= SAVE_EVERY:
                    await self._save(state, position, state.stake)
                    saved = position
        except asyncio.CancelledError:
            await self._save(state, position, state.stake)
            raise

    async def _save(self, state: _State, position: int, stake: bytes | None) -> None:
        saved = _State(VERSION, state.node_id, state.epoch, position, stake)
        await self._env.store.save_state(STATE, encode(saved))
