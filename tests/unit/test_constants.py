"""constants: shipped networks stay apart, and the limits fit each other and the wire."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from pqdht import constants as c
from pqdht.errors import ConfigError

SHIPPED = (c.MAIN, c.TESTNET, c.DEMO)
ML_DSA_87 = 4627 + 2592
"""Signature and public key, the largest parts of a record beside its value."""


def test_the_shipped_networks_never_mix() -> None:
    assert [p.name for p in SHIPPED] == ["main", "testnet", "demo"]
    assert len({p.genesis_salt for p in SHIPPED}) == len(SHIPPED)
    assert all(len(p.genesis_salt) == 16 for p in SHIPPED)


@pytest.mark.parametrize("params", SHIPPED, ids=lambda p: p.name)
def test_a_network_is_found_by_name(params: c.ParameterSet) -> None:
    assert c.parameter_set(params.name) is params


def test_an_unknown_network_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="demo, main, testnet") as caught:
        c.parameter_set("mian")
    assert caught.value.fields["name"] == "network"


def test_main_is_strict_and_demo_is_testnet_with_small_k() -> None:
    assert (c.MAIN.k, c.MAIN.address_groups, c.MAIN.private_addresses) == (20, True, False)
    assert c.MAIN.puzzle_bits(20_700) == 16
    assert replace(c.TESTNET, name="demo", genesis_salt=c.DEMO.genesis_salt, k=4) == c.DEMO
    assert c.DEMO.address_groups
    assert c.TESTNET.puzzle_bits(20_700) == 4


def test_puzzle_bits_follow_the_day_of_birth() -> None:
    params = replace(c.MAIN, puzzle_schedule=((100, 8), (200, 12)))
    assert [params.puzzle_bits(d) for d in (0, 99, 100, 199, 200, 10**6)] == [0, 0, 8, 8, 12, 12]


@pytest.mark.parametrize("params", SHIPPED, ids=lambda p: p.name)
def test_schedules_ascend(params: c.ParameterSet) -> None:
    days = [day for day, _ in params.puzzle_schedule]
    assert days == sorted(set(days))


def test_sizes_nest() -> None:
    limits = c.Limits()
    assert limits.max_value + ML_DSA_87 + 1024 < c.MAX_PAGE < c.MAX_MESSAGE < 65_535 - 1024


def test_limits_fit_each_other() -> None:
    limits = c.Limits()
    assert limits.ttl_min_s < limits.ttl_max_s
    assert limits.floor_ms >= limits.ttl_max_s * c.MS  # a floor outlives every replica of what it bars
    assert limits.max_value <= limits.bytes_per_owner <= limits.bytes_per_group <= limits.bytes_total
    assert limits.records_per_owner <= limits.records_per_group
    assert limits.bucket_per_group <= limits.table_per_group <= limits.table_per_wide_group
    assert limits.sessions_per_group <= limits.sessions_total
    assert limits.half_open_per_group <= limits.half_open_total


def test_every_limit_is_on() -> None:
    limits = c.Limits()
    assert all(getattr(limits, f.name) > 0 for f in fields(limits))


def test_parameter_sets_are_frozen() -> None:
    with pytest.raises(AttributeError):
        c.MAIN.k = 1  # type: ignore[misc]


def test_an_id_serves_30_days_and_7_of_grace() -> None:
    assert (c.BORN_MAX_AGE_DAYS, c.BORN_MAX_AHEAD_DAYS) == (37, 1)
    assert c.DAY_MS == c.DAY_S * c.MS == 24 * c.HOUR_MS == 24 * 60 * c.MINUTE_MS
