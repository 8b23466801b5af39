"""Identities made, found again, renewed; the puzzle cancelled and gone on with."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from pqdht.config import Config
from pqdht.constants import DAY_MS, TESTNET
from pqdht.errors import KeyFileError
from pqdht.identity.keys import new_commit
from pqdht.node import identities
from pqdht.node.identities import (
    NODE_FILE,
    PROGRESS_FILE,
    ROTATE_AFTER_DAYS,
    load_or_make_node,
    load_or_make_owner,
    solve,
)
from pqdht.storage import keyfiles
from pqdht.testing.loop import run
from tests.unit.node.parts import NOW, environment


def test_a_node_identity_is_made_once_and_found_again(tmp_path: Path) -> None:
    async def main() -> None:
        env, _ = await environment()
        config = Config(network=TESTNET, data_dir=tmp_path / "new")
        made = await load_or_make_node(config, env.suite, env.network_tag, NOW)
        again = await load_or_make_node(
            config, env.suite, env.network_tag, NOW + (ROTATE_AFTER_DAYS - 1) * DAY_MS
        )
        assert again.node_id == made.node_id
        assert made.bits >= TESTNET.puzzle_bits(made.born)
        assert not (tmp_path / "new" / PROGRESS_FILE).exists()
        assert (
            load_or_make_owner(config, env.suite).owner_id == load_or_make_owner(config, env.suite).owner_id
        )
        assert (tmp_path / "new" / NODE_FILE).stat().st_mode & 0o777 == 0o600

    run(main)


@pytest.mark.parametrize("days", [ROTATE_AFTER_DAYS, 38])
def test_an_old_identity_is_set_aside_and_replaced(tmp_path: Path, days: int) -> None:
    async def main() -> None:
        env, _ = await environment()
        config = Config(network=TESTNET, data_dir=tmp_path)
        made = await load_or_make_node(config, env.suite, env.network_tag, NOW)
        later = await load_or_make_node(config, env.suite, env.network_tag, NOW + days * DAY_MS)
        assert later.node_id != made.node_id
        assert later.born == made.born + days

    run(main)
    kept = [p for p in tmp_path.iterdir() if p.name.startswith(NODE_FILE) and p.name != NODE_FILE]
    assert len(kept) == 1


def test_a_key_file_that_cannot_be_read_is_never_replaced(tmp_path: Path) -> None:
    async def main() -> None:
        env, _ = await environment()
        (tmp_path / NODE_FILE).write_bytes(b"not a key")
        (tmp_path / NODE_FILE).chmod(0o600)
        with pytest.raises(KeyFileError):
            await load_or_make_node(
                Config(network=TESTNET, data_dir=tmp_path), env.suite, env.network_tag, NOW
            )
        assert (tmp_path / NODE_FILE).read_bytes() == b"not a key"

    run(main)


def test_without_a_directory_every_start_makes_new_ones() -> None:
    async def main() -> None:
        env, _ = await environment()
        config = Config(network=TESTNET)
        a, b = [await load_or_make_node(config, env.suite, env.network_tag, NOW) for _ in range(2)]
        assert a.node_id != b.node_id
        assert (
            load_or_make_owner(config, env.suite).owner_id != load_or_make_owner(config, env.suite).owner_id
        )

    run(main)


def test_a_cancelled_search_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identities, "CHUNK", 2)
    monkeypatch.setattr(identities, "SAVE_EVERY", 2)

    async def main() -> None:
        env, _ = await environment()
        config = Config(network=replace(TESTNET, puzzle_schedule=((0, 12),)), data_dir=tmp_path)
        tried: list[int] = []

        def stop(position: int, expected: int) -> None:
            assert expected == 1 << 12
            tried.append(position)
            if len(tried) == 5:
                task.cancel()

        task = asyncio.create_task(load_or_make_node(config, env.suite, env.network_tag, NOW, stop))
        with pytest.raises(asyncio.CancelledError):
            await task
        born = NOW // DAY_MS
        unsolved, start = keyfiles.load_puzzle(tmp_path / PROGRESS_FILE, env.suite, env.network_tag, born)
        assert unsolved is not None
        assert 0 < start <= tried[-1]
        made = await load_or_make_node(config, env.suite, env.network_tag, NOW)
        assert made.signing_key_hash == unsolved.solved(bytes(8)).signing_key_hash
        assert int.from_bytes(made.nonce, "big") >= start or int.from_bytes(made.nonce, "little") >= start

    run(main)


def test_progress_and_positions_never_run_ahead_of_what_was_tried() -> None:
    async def main() -> None:
        env, _ = await environment()
        work = new_commit(env.suite, env.network_tag, NOW // DAY_MS)
        saved: list[int] = []
        found = await solve(work, 13, save=saved.append)
        assert found.bits >= 13
        nonce = int.from_bytes(found.nonce, "big")
        assert all(s <= nonce for s in saved)
        assert saved == sorted(saved)

    run(main)
