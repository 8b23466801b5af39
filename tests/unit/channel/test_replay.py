"""What was seen is refused, and what is remembered is bounded."""

from __future__ import annotations

from pqdht.channel.replay import SeenFlights
from tests.unit.channel.peers import reason


def test_a_copy_is_refused_once_the_first_was_taken() -> None:
    seen = SeenFlights()
    name = seen.check(b"a")
    assert seen.check(b"a") == name, "looking is not taking"
    seen.add(name)
    assert reason(lambda: seen.check(b"a")) == "replay"
    seen.check(b"b")


def test_at_least_so_many_are_remembered_and_at_most_twice_as_many() -> None:
    seen = SeenFlights(kept=10)
    for i in range(200):
        seen.add(seen.check(b"%d" % i))
        for recent in range(max(0, i - 9), i + 1):
            assert reason(lambda r=recent: seen.check(b"%d" % r)) == "replay"  # type: ignore[misc]
        assert len(seen) <= 20
    seen.check(b"0")
