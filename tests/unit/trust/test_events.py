"""Security events: what is counted, who is told, and that nobody floods the log."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqdht.trust.events import (
    KIND_BURST,
    MAX_DETAILS,
    MAX_TEXT,
    NODE_BURST,
    EventKind,
    EventLog,
    SecurityEvent,
)

AT = 1_800_000_000_000
NODE, OTHER = b"n" * 32, b"o" * 32


def event(
    kind: EventKind = EventKind.ANOMALY, at_ms: int = AT, node: bytes | None = NODE, group: str = ""
) -> SecurityEvent:
    return SecurityEvent(kind, at_ms, node, group)


def test_the_kinds_are_frozen() -> None:
    names = (
        "proven_fault invalid_data quarantined quarantine_capped released sybil_alarm eclipse_alarm rollback "
        "equivocation contested report_received report_refused report_sent anomaly rate_limited dial_capped"
    )
    assert [kind.value for kind in EventKind] == names.split()
    assert all(kind.name == kind.value.upper() for kind in EventKind)


def test_events_are_counted_kept_and_told() -> None:
    log, told = EventLog(recent=3), list[SecurityEvent]()
    unsubscribe = log.subscribe(told.append)
    events = [event(kind, AT + i) for i, kind in enumerate(EventKind)]
    assert all(log.emit(e) for e in events)
    assert told == events
    assert log.recent() == events[-3:]
    assert log.recent(1) == events[-1:]
    assert log.recent(0) == []
    assert log.recent(kind=EventKind.ANOMALY) == [e for e in events[-3:] if e.kind is EventKind.ANOMALY]
    unsubscribe()
    unsubscribe()
    log.emit(event(node=OTHER))
    assert len(told) == len(events)
    assert log.counts[EventKind.ANOMALY] == 2
    assert log.status()["counts"]["anomaly"] == 2


def test_a_failing_subscriber_hurts_nobody() -> None:
    log, told = EventLog(), list[SecurityEvent]()

    def fails(_: SecurityEvent) -> None:
        raise RuntimeError("broken")

    log.subscribe(fails)
    log.subscribe(told.append)
    assert log.emit(event())
    assert log.emit(event())
    assert (len(told), log.failures) == (2, 2)


def test_subscribers_may_come_and_go_while_they_are_told() -> None:
    log, told = EventLog(), list[SecurityEvent]()

    def once(e: SecurityEvent) -> None:
        told.append(e)
        end()
        log.subscribe(told.append)

    end = log.subscribe(once)
    log.emit(event())
    assert len(told) == 1
    log.emit(event())
    assert len(told) == 2


def test_one_node_does_not_flood_the_log() -> None:
    log = EventLog()
    assert [log.emit(event()) for _ in range(1000)].count(True) == NODE_BURST
    assert log.counts[EventKind.ANOMALY] == 1000
    assert log.suppressed[EventKind.ANOMALY] == 1000 - NODE_BURST
    assert log.status()["suppressed"] == {"anomaly": 1000 - NODE_BURST}
    assert log.emit(event(node=OTHER)), "others are not shut out"
    assert log.emit(event(EventKind.ROLLBACK)), "nor other kinds"
    assert log.emit(event(at_ms=AT + 60_000))
    assert not log.emit(event(at_ms=AT + 60_000))
    assert log.emit(event(at_ms=AT - 10**10)) is False, "a clock that went back: as if nothing had passed"
    assert log.emit(event(at_ms=AT - 10**10 + 60_000)), "and then it goes on"


def test_many_nodes_do_not_flood_the_log() -> None:
    log = EventLog()
    got = [log.emit(event(node=b"%032d" % i)) for i in range(3 * KIND_BURST)]
    assert got.count(True) == KIND_BURST
    assert log.emit(event(EventKind.ROLLBACK))


def test_events_about_no_node_are_bounded_by_group() -> None:
    log = EventLog()
    for group in ("203.0.113.0/24", "198.51.100.0/24"):
        assert [log.emit(event(node=None, group=group)) for _ in range(50)].count(True) == NODE_BURST


def test_as_dict_is_json_of_bounded_size() -> None:
    long = SecurityEvent(
        EventKind.CONTESTED,
        AT,
        NODE,
        "g" * 1000,
        "rule",
        "enforce",
        {"a" * 1000: "b" * 1000, "inf": math.inf, "nan": math.nan, **{f"x{i}": i for i in range(100)}},
    )
    facts = json.loads(json.dumps(long.as_dict(), allow_nan=False))
    assert facts["kind"] == "contested"
    assert facts["node"] == NODE.hex()
    assert facts["group"] == "g" * MAX_TEXT
    assert len(facts["detail"]) == MAX_DETAILS
    assert facts["detail"]["a" * MAX_TEXT] == "b" * MAX_TEXT
    assert (facts["detail"]["inf"], facts["detail"]["nan"]) == ("inf", "nan")
    assert event(node=None).as_dict()["node"] is None


texts = st.text(max_size=20)


@given(
    st.builds(
        SecurityEvent,
        st.sampled_from(list(EventKind)),
        st.integers(0, 2**60),
        st.none() | st.binary(max_size=32),
        texts,
        texts,
        texts,
        st.dictionaries(texts, texts | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, width=32)),
    )
)
def test_events_come_back_from_json(e: SecurityEvent) -> None:
    facts = json.loads(json.dumps(e.as_dict()))
    again = SecurityEvent.from_dict({**facts, "added_later": 1})
    assert again.as_dict() == e.as_dict()
    if len(e.detail) <= MAX_DETAILS and all(v not in (math.inf, -math.inf) for v in e.detail.values()):
        assert again == e


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "unheard_of"},
        {"at_ms": "1"},
        {"at_ms": True},
        {"node": "xyz"},
        {"node": 5},
        {"group": None},
        {"detail": []},
        {"detail": {"a": None}},
    ],
)
def test_what_is_no_event_is_a_typed_error(changed: dict[str, object]) -> None:
    facts = event().as_dict()
    assert SecurityEvent.from_dict(facts) == event()
    with pytest.raises(ValueError, match="not a security event"):
        SecurityEvent.from_dict({**facts, **changed})
    with pytest.raises(ValueError, match="not a security event"):
        SecurityEvent.from_dict({name: facts[name] for name in facts if name not in changed})
