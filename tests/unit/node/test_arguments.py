"""node.arguments: every argument of SecureDHT comes back checked, or a ConfigError names it."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from pqdht.constants import Limits
from pqdht.crypto.api import make_suite
from pqdht.errors import ConfigError
from pqdht.identity.keys import OwnerIdentity
from pqdht.ids import OwnerId, RecordId
from pqdht.node import arguments
from pqdht.records import Content, Locator, Named, Topic
from pqdht.testing.fake import FakeProvider
from pqdht.wire.messages import WireRecord

OWN, OTHER = OwnerId(bytes(32)), OwnerId(b"\xab" * 32)
LIMITS = Limits()
OWNER = OwnerIdentity.generate(make_suite(1, FakeProvider(1)))
CONTENT = Content(bytes(32))


def refused(name: str, call: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as e:
        call()
    assert e.value.fields["name"] == name
    return str(e.value)


def test_a_place_is_a_locator_or_a_name_of_the_owner() -> None:
    assert arguments.place("x", OTHER) == Named(OTHER, "x")
    for where in (Named(OTHER, "x"), Topic("t"), CONTENT):
        assert arguments.place(where, OWN) is where


@pytest.mark.parametrize("where", [None, b"x", 5, ["x"], OWNER])
def test_anything_else_is_no_place(where: Any) -> None:
    assert "Named" in refused("where", lambda: arguments.place(where, OWN))
    assert "Named" in refused("where", lambda: arguments.source(where, None, OWN))
    assert "Named" in refused("where", lambda: arguments.places([where]))


def test_a_source_says_whose_version_is_meant() -> None:
    assert arguments.source("x", None, OWN) == (Named(OWN, "x"), OWN)
    for owner in (OTHER, OTHER.hex(), OTHER.hex().upper()):
        assert arguments.source("x", owner, OWN) == (Named(OTHER, "x"), OTHER)
        assert arguments.source(Named(OTHER, "x"), owner, OWN) == (Named(OTHER, "x"), OTHER)
        assert arguments.source(Topic("t"), owner, OWN) == (Topic("t"), OTHER)
    assert arguments.source(Named(OTHER, "x"), None, OWN) == (Named(OTHER, "x"), OTHER)
    assert arguments.source(CONTENT, None, OWN) == (CONTENT, None)


def test_a_source_must_be_clear() -> None:
    assert "leave it out" in refused("owner", lambda: arguments.source(Named(OWN, "x"), OTHER, OWN))
    assert "get_topic" in refused("owner", lambda: arguments.source(Topic("t"), None, OWN))


@pytest.mark.parametrize("owner", [b"", bytes(31), bytes(33), "ab" * 31, "no", "", "zz" * 32, 5])
def test_an_owner_id_has_32_bytes_or_64_hex_digits(owner: Any) -> None:
    assert "64 hex digits" in refused("owner id", lambda: arguments.source("x", owner, OWN))


def test_places_are_distinct_and_in_order() -> None:
    given: list[str | Locator] = ["b", CONTENT, "a", "b"]
    assert arguments.places(iter(given)) == ["b", CONTENT, "a"]
    assert arguments.places(arguments.mapping({"b": b"", "a": b""})) == ["b", "a"]
    assert arguments.places([]) == []


@pytest.mark.parametrize("wheres", ["abc", b"abc", None, 5, Topic("t")])
def test_one_name_is_no_collection_of_names(wheres: Any) -> None:
    assert "list" in refused("wheres", lambda: arguments.places(wheres))


@pytest.mark.parametrize("values", [[("a", b"")], "abc", None])
def test_values_come_by_place(values: Any) -> None:
    assert "dict" in refused("values", lambda: arguments.mapping(values))


def test_who_signs_has_a_secret_key() -> None:
    other = OwnerIdentity.generate(OWNER.suite)
    assert arguments.signer(None, OWNER) is OWNER
    assert arguments.signer(other, OWNER) is other
    for owner in (OTHER, OTHER.hex(), b"", ""):
        assert "secret key" in refused("owner", partial(arguments.signer, owner, OWNER))


def test_a_life_lies_within_the_limits() -> None:
    assert [arguments.ttl(s, LIMITS) for s in (60, 86_400, 604_800)] == [60, 86_400, 604_800]
    for wrong in (59, 604_801, -1, 0, 60.0, "60", True, None):
        assert "seconds" in refused("ttl", partial(arguments.ttl, wrong, LIMITS))


def test_the_version_to_replace_is_an_id() -> None:
    assert arguments.record_id(None) is None
    assert arguments.record_id(OTHER) == arguments.record_id(OTHER.hex()) == RecordId(bytes(OTHER))
    assert "64 hex digits" in refused("previous", lambda: arguments.record_id(b"short"))


def test_a_misspelt_rule_is_no_rule() -> None:
    for rule in ("majority", "first", "all"):
        assert arguments.consistency(rule, "all") == rule
    assert arguments.consistency(None, "first") == "first"
    for wrong in ("most", "", "ALL", b"all", 0, ["all"]):
        assert "majority" in refused("consistency", partial(arguments.consistency, wrong, "majority"))


def test_a_timeout_is_above_zero() -> None:
    assert [arguments.timeout(s, 30) for s in (None, 5, 0.1, math.inf)] == [30, 5, 0.1, math.inf]
    for wrong in (0, -1, math.nan):
        assert "above 0" in refused("timeout", partial(arguments.timeout, wrong, 30))
    for wrong_type in ("5", True):
        assert "number of seconds" in refused("timeout", partial(arguments.timeout, wrong_type, 30))


def test_only_a_wire_record_can_be_validated() -> None:
    record = WireRecord(b"", b"")
    assert arguments.wire_record(record) is record
    for wrong in (None, b"", (b"", b"")):
        assert ".wire" in refused("record", partial(arguments.wire_record, wrong))


def test_endpoints_are_several() -> None:
    assert arguments.endpoints(iter(["a:1", "b:2"])) == ("a:1", "b:2")
    for wrong in ("203.0.113.5:51820", b"x", None, 5):
        assert "list" in refused("endpoints", partial(arguments.endpoints, wrong))  # type: ignore[arg-type]
    assert "at least one" in refused("endpoints", lambda: arguments.endpoints([]))
    assert "text" in refused("endpoint", lambda: arguments.endpoints([b"a:1"]))  # type: ignore[list-item]


def test_attributes_are_texts_by_name() -> None:
    assert (arguments.attributes(None), arguments.attributes({"a": "b"})) == ({}, {"a": "b"})
    for wrong in ([("a", "b")], "ab", {"a": 1}, {1: "a"}, {"a": None}):
        assert "text" in refused("attributes", partial(arguments.attributes, wrong))  # type: ignore[arg-type]
