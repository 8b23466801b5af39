"""The identities a node starts with: loaded from its data directory, or made.

Solving the puzzle uses every core, shows progress, can be cancelled, and goes on where it stopped.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

from ..config import Config
from ..crypto import puzzle
from ..crypto.api import Suite
from ..errors import BadPuzzle
from ..identity.contact import ContactVerifier
from ..identity.keys import NodeIdentity, OwnerIdentity, UnsolvedIdentity, born_day, new_commit
from ..storage import keyfiles
from ..storage.directories import make_directory
from .environment import data_file

CHUNK = 256
"""Nonces per worker and step, about 40 ms: how fast a cancellation takes hold."""
SAVE_EVERY = 8192
"""Nonces between two saves of the position, about a second of one core."""
NODE_FILE = "node.key"
OWNER_FILE = "owner.key"
PROGRESS_FILE = "node.puzzle"
ROTATE_AFTER_DAYS = 30
"""A node id is used so long (section 2); it is valid a week longer, for whoever runs on."""

Progress = Callable[[int, int], None]
"""(tried, expected): expected is the mean, luck may take longer."""


async def solve(
    unsolved: UnsolvedIdentity,
    bits: int,
    *,
    start: int = 0,
    progress: Progress | None = None,
    save: Callable[[int], None] | None = None,
) -> NodeIdentity:
    """Search nonces from `start` on with one thread per core (Argon2id runs without the GIL).

    `save(position)` is called now and then: every nonce before it was tried.
    """
    loop = asyncio.get_running_loop()
    provider = unsolved.suite.provider
    salt = puzzle.salt(unsolved.network_tag)
    position = saved = start
    workers = os.cpu_count() or 1
    try:
        while True:
            starts = [position + i * CHUNK for i in range(workers)]
            found = await asyncio.gather(
                *(
                    loop.run_in_executor(
                        None, puzzle.search_range, provider, salt, unsolved.commit, bits, s, CHUNK
                    )
                    for s in starts
                )
            )
            position += workers * CHUNK
            for nonce in found:
                if nonce is not None:
                    return unsolved.solved(nonce)
            if progress is not None:
                progress(position - start, 1 << bits)
            if save is not None and position - saved >= SAVE_EVERY:
                save(position)
                saved = position
    except asyncio.CancelledError:
        if save is not None:
            save(position)
        raise


async def load_or_make_node(
    config: Config, suite: Suite, network_tag: bytes, now: int, progress: Progress | None = None
) -> NodeIdentity:
    """The node identity of the data directory; a new one where there is none or it is out of date.

    Raises KeyFileError. An expired identity's file is kept beside the new one, never overwritten.
    """
    params = config.params
    path = data_file(config, NODE_FILE)
    born = born_day(now)
    bits = params.puzzle_bits(born)
    if path is None:
        return await solve(new_commit(suite, network_tag, born), bits, progress=progress)
    if path.exists():
        identity = keyfiles.load_node(path, suite, network_tag)
        try:
            ContactVerifier(suite, params, network_tag).check_cheap(identity.contact(), now)
        except BadPuzzle:
            pass
        else:
            if born - identity.born < ROTATE_AFTER_DAYS:
                return identity
        keyfiles.set_aside(path)
    make_directory(path.parent)
    progress_path = path.with_name(PROGRESS_FILE)
    unsolved, start = keyfiles.load_puzzle(progress_path, suite, network_tag, born)
    if unsolved is None:
        unsolved = new_commit(suite, network_tag, born)
        keyfiles.save_puzzle(progress_path, unsolved, 0)
    work = unsolved
    identity = await solve(
        work,
        bits,
        start=start,
        progress=progress,
        save=lambda position: keyfiles.save_puzzle(progress_path, work, position),
    )
    keyfiles.save_node(path, identity)
    progress_path.unlink(missing_ok=True)
    return identity


def load_or_make_owner(config: Config, suite: Suite) -> OwnerIdentity:
    """The owner identity of the data directory, made at first need. Raises KeyFileError."""
    path = data_file(config, OWNER_FILE)
    if path is None:
        return OwnerIdentity.generate(suite)
    if path.exists():
        return keyfiles.load_owner(path, suite)
    make_directory(path.parent)
    owner = OwnerIdentity.generate(suite)
    keyfiles.save_owner(path, owner)
    return owner
