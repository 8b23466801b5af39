"""config: what a node may choose for itself, and what it may not."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pqdht.config import DEFENCES, THRESHOLDS, Config
from pqdht.constants import TESTNET
from pqdht.errors import ConfigError

ADDRESS = "tcp/127.0.0.1:4733"


def test_the_defaults_stand() -> None:
    config = Config()
    assert (config.params.name, config.data_dir, config.consistency) == ("main", None, "majority")
    assert Config(network=TESTNET).params is TESTNET


def test_a_data_directory_may_be_given_as_text() -> None:
    assert Config(data_dir="some/where").data_dir == Path("some/where")  # type: ignore[arg-type]
    assert Config(data_dir=Path("x")) == Config(data_dir="x")  # type: ignore[arg-type]


def test_defences_stand_unless_told_otherwise() -> None:
    assert Config().defences == DEFENCES
    assert Config(defences={"redraw": "off"}).defences == {**DEFENCES, "redraw": "off"}
    assert Config(defences="observe").defences == dict.fromkeys(DEFENCES, "observe")
    config = Config(defences={"redraw": "off"})
    assert replace(config) == config != Config()
    with pytest.raises(TypeError):
        config.defences["redraw"] = "enforce"  # type: ignore[index]


def test_thresholds_stand_unless_told_otherwise() -> None:
    assert Config().thresholds == THRESHOLDS
    config = Config(thresholds={"distrust": 0.1, "sybil_test.divergence": 2.0})
    assert config.thresholds == {**THRESHOLDS, "distrust": 0.1, "sybil_test.divergence": 2.0}
    assert replace(config) == config


@pytest.mark.parametrize("name", ["listen", "advertise", "bootstrap", "pinned"])
def test_a_list_is_taken_as_a_tuple(name: str) -> None:
    given: dict[str, Any] = {name: [ADDRESS]}
    config = Config(**given)
    assert getattr(config, name) == (ADDRESS,)
    assert hash(config) == hash(replace(config))


@pytest.mark.parametrize("name", ["listen", "advertise", "bootstrap", "pinned"])
def test_one_text_is_not_taken_apart_into_letters(name: str) -> None:
    given: dict[str, Any] = {name: ADDRESS}
    with pytest.raises(ConfigError, match=rf"write {name}=\('tcp/127.0.0.1:4733',\)") as e:
        Config(**given)
    assert e.value.fields["name"] == name


NUMBERS = [
    field.name
    for field in fields(Config)
    if isinstance(field.default, int | float) and field.name not in ("suite", "bridge", "stake_bits")
]
WRONG: list[tuple[str, Any]] = [
    *product(("listen", "advertise", "bootstrap", "pinned"), (None, {ADDRESS}, (b"x",), 5)),
    *product(("data_dir",), ("", b"x", 5)),
    *product(("network",), ("nowhere", None, b"main", 5)),
    *product(("suite",), (0, 4, True, 1.0, "1", [])),
    *product(("bridge",), (1, "no", None)),
    *product(("consistency",), ("most", "", None, b"all", ["all"])),
    *product(("provider", "signing", "early", "padding"), ("some",)),
    *product(("thresholds",), (5, [], {"moat": 1}, {"distrust": 0}, {"distrust": "1"})),
    *product(("thresholds",), ({"clocks.z": math.inf},)),
    *product(("thresholds",), ({"distrust": True}, {"invalid_rate.invalid": 30}, {"clocks.z": math.nan})),
    *product(("defences",), ("on", 5, {"moat": "off"}, {"redraw": "no"}, {"redraw": True}, ["off"])),
    *product(NUMBERS, (0, -1, "5", None, True, math.nan)),
    ("paths", 2.5),
    *product(("stake_bits",), (-1, 33, "5", None, True, 2.0, math.nan)),
    ("announce_ttl_s", 59),
    ("announce_ttl_s", 604_801),
    ("path_end_doubt", 5),
    ("advertise", (ADDRESS,) * 9),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda x: repr(x)[:30])
def test_what_cannot_work_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name) as e:
        Config(**{name: value})
    assert e.value.fields["name"] == name
