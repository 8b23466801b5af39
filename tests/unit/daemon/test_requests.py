"""daemon.requests: parameters are checked before anything happens."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqdht.daemon.requests import REQUESTS, FindPeer, Get, Ping, Put, Status, parse_request
from pqdht.errors import ConfigError

METHODS = (
    "status table records put get delete announce find_peer find_node ping"
    " verify reputation quarantine lift events"
).split()


def test_the_methods_are_all_there() -> None:
    assert [kind.method for kind in REQUESTS] == METHODS
    assert [kind.method for kind in REQUESTS if kind.signs] == ["put", "delete", "announce"]


@pytest.mark.parametrize(
    "request_",
    [
        Status(),
        Put(name="a", value="00ff", ttl=60),
        Get(topic="t", ignore_local=True, consistency="first"),
        FindPeer(owner="ab" * 32),
        Ping(node="x"),
    ],
)
def test_a_request_survives_the_socket(request_: Status) -> None:
    sent = msgspec.json.decode(msgspec.json.encode(request_))
    assert parse_request(request_.method, sent) == request_


@pytest.mark.parametrize(
    ("method", "params", "what"),
    [
        ("nonsense", {}, "use one of: status, "),
        ("put", {}, "missing required field"),
        ("put", {"value": 3}, "Expected `str`"),
        ("get", {"name": "x", "nonsense": 1}, "unknown field"),
        ("get", {"name": "x", "consistency": "most"}, "most"),
        ("get", [], "Expected `object`"),
        ("ping", None, "Expected `object`"),
    ],
)
def test_wrong_parameters_are_refused(method: str, params: object, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse_request(method, params)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.sampled_from(METHODS), _json | st.dictionaries(st.sampled_from(["name", "value", "owner"]), _json))
def test_any_parameters_are_accepted_or_refused(method: str, params: object) -> None:
    try:
        request = parse_request(method, params)
    except ConfigError:
        return
    assert request.method == method
