"""Every kept input through its harness, without a fuzzer: what was once found stays mended."""

from __future__ import annotations

from random import Random

import pytest

from tests.fuzz.mutate import mutate_tree
from tests.fuzz.run import CORPUS, KEPT_BYTES, KEPT_FILES
from tests.fuzz.targets import TARGETS

CHANGED = 60
"""Changed seeds tried per target."""


def replay(name: str, data: bytes) -> bool:
    """Whether it is accepted; what a harness raises names the input."""
    try:
        return TARGETS[name].run(data)
    except BaseException as e:
        e.add_note(f"target {name}, input {data!r}")
        raise


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_reach_all_the_way_in(name: str) -> None:
    """Else a fuzzer that begins with them would be looking at the first check only."""
    seeds = TARGETS[name].seeds()
    assert seeds
    assert [replay(name, seed) for seed in seeds] == [True] * len(seeds)
    assert max(map(len, seeds)) <= TARGETS[name].max_len


@pytest.mark.parametrize("name", TARGETS)
def test_kept_inputs(name: str) -> None:
    files = sorted((CORPUS / name).iterdir())
    assert files
    assert len(files) <= KEPT_FILES
    assert sum(f.stat().st_size for f in files) <= KEPT_BYTES
    for file in files:
        assert replay(name, file.read_bytes()) in (True, False)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_changed_a_little(name: str) -> None:
    """The same changes every time: a fuzzer's first steps, for whoever has none."""
    dice, seeds = Random(name), TARGETS[name].seeds()
    outcomes = set()
    for _ in range(CHANGED):
        seed = dice.choice(seeds)
        data = bytearray(seed)
        if TARGETS[name].is_msgpack and dice.random() < 0.7:
            data[1:] = mutate_tree(seed[1:], dice) or b""
        else:
            data[dice.randrange(len(data))] = dice.randrange(256)
        outcomes.add(replay(name, bytes(data)))
    assert outcomes  # most targets accept some and refuse some; none raises


def test_no_corpus_is_left_without_a_target() -> None:
    assert {p.name for p in CORPUS.iterdir()} == set(TARGETS)
