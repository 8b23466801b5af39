"""daemon.failure: each error arrives as what it was."""

from __future__ import annotations

import inspect
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqdht import errors
from pqdht.daemon.failure import describe, restore
from pqdht.errors import NotConfirmed, PeerError, PqdhtError, QuorumNotReached, RecordInvalid, WireCode

KINDS = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, PqdhtError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_each_error_survives_the_socket(kind: type[PqdhtError]) -> None:
    extra = {"code": WireCode.QUOTA} if kind in (PeerError, RecordInvalid) else {}
    error = kind("what happened", name="x", count=3, key=b"\x01", path=("a", 1), **extra)
    back = restore(json.loads(json.dumps(describe(error))))
    assert type(back) is kind
    assert str(back) == "what happened"
    assert back.fields == {"name": "x", "count": 3, "key": "01", "path": ["a", 1]}
    assert getattr(back, "code", None) == getattr(error, "code", None)


class _Result:
    def as_dict(self) -> dict[str, str]:
        return {"verdict": "contested"}


def test_a_result_travels_as_its_dict() -> None:
    described = describe(NotConfirmed("contested", result=_Result()))
    assert described["result"] == {"verdict": "contested"}
    back = restore(described)
    assert isinstance(back, NotConfirmed)
    assert back.result == {"verdict": "contested"}
    assert "result" not in describe(QuorumNotReached("short"))


def test_an_unknown_error_is_still_an_error() -> None:
    back = restore({"type": "FromTheFuture", "message": "x", "fields": {"a": 1}})
    assert (type(back), str(back), back.fields) == (PqdhtError, "x", {"a": 1})
    assert type(restore({"type": "PeerError", "message": "no code"})) is PqdhtError
    for name in ("WireCode", "annotations", "__doc__", ""):
        assert type(restore({"type": name})) is PqdhtError


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(st.dictionaries(st.sampled_from(["type", "message", "fields", "code", "result"]), _json))
def test_anything_restores_to_an_error(described: dict[str, object]) -> None:
    assert isinstance(restore(described), PqdhtError)
