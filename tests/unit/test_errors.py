"""errors: two families, frozen wire codes, an exit code per typed failure."""

from __future__ import annotations

import inspect

import pytest

from pqdht import errors
from pqdht.errors import LocalError, PqdhtError, RemoteError, WireCode

ALL = [c for c in vars(errors).values() if inspect.isclass(c) and issubclass(c, PqdhtError)]
LEAVES = [c for c in ALL if c not in (PqdhtError, LocalError, RemoteError)]
CODES = """
    OK BUSY UNSUPPORTED MALFORMED TOO_LARGE CLOCK_SKEW OUTDATED QUOTA STORAGE_FULL EXPIRED
    BAD_RECORD EARLY_REJECTED NEED_KEY CAS_MISMATCH TOPIC_FULL WRONG_RECEIVER NOT_FOUND INTERNAL
    EQUIVOCATION SHUTTING_DOWN
"""


def test_the_wire_codes_are_frozen() -> None:
    assert [(c.value, c.name) for c in WireCode] == list(enumerate(CODES.split()))


@pytest.mark.parametrize("kind", LEAVES, ids=lambda k: k.__name__)
def test_each_error_is_either_ours_or_a_peers(kind: type[PqdhtError]) -> None:
    assert issubclass(kind, LocalError) != issubclass(kind, RemoteError)


@pytest.mark.parametrize("kind", ALL, ids=lambda k: k.__name__)
def test_each_error_says_what_it_means(kind: type[PqdhtError]) -> None:
    assert kind.__doc__
    assert 0 < kind.exit_code < 64


def test_exit_codes_tell_typed_failures_apart() -> None:
    own = {c.__name__: c.exit_code for c in ALL if "exit_code" in vars(c)}
    assert own == {
        "PqdhtError": 1,
        "ConfigError": 2,
        "KeyFileError": 3,
        "StorageError": 4,
        "ListenError": 5,
        "ProviderUnavailable": 6,
        "PuzzleCancelled": 7,
        "ControlError": 8,
        "NotBootstrapped": 10,
        "QuorumNotReached": 11,
        "NotFound": 12,
        "NotConfirmed": 13,
        "PeerUnreachable": 14,
        "PeerTimeout": 15,
        "Refused": 16,
    }
    assert len(set(own.values())) == len(own)


@pytest.mark.parametrize("kind", [c for c in ALL if c is not errors.PeerError], ids=lambda k: k.__name__)
def test_an_error_carries_its_text_and_facts(kind: type[PqdhtError]) -> None:
    error = kind("what happened", name="x", n=3)
    assert str(error) == "what happened"
    assert error.fields == {"name": "x", "n": 3}


def test_results_and_codes_travel_beside_the_fields() -> None:
    result = object()
    for kind in (errors.QuorumNotReached, errors.Refused, errors.NotFound, errors.NotConfirmed):
        assert kind("short", result=result).result is result
        assert kind("short", result=result).fields == {}
    assert errors.RecordInvalid("bad").code is WireCode.BAD_RECORD
    assert errors.RecordInvalid("late", code=WireCode.EXPIRED).code is WireCode.EXPIRED
    busy = errors.PeerError("busy", code=WireCode.BUSY, retry_after=250, peer="x")
    assert (busy.code, busy.retry_after, busy.fields) == (WireCode.BUSY, 250, {"peer": "x"})
