"""The invalid rate: whoever turns is found within a window, whatever went before."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pqdht.trust.rates import ENOUGH, INVALID, WINDOW, InvalidRate

NODE = b"n" * 32


def feed(rates: InvalidRate, answers: str, node: bytes = NODE) -> list[int]:
    """Positions at which the rate said quarantine; `x` is an invalid answer."""
    return [i for i, a in enumerate(answers, 1) if rates.observe(node, valid=a != "x")]


def test_five_of_ten() -> None:
    assert feed(InvalidRate(), "x" * 9) == []
    assert feed(InvalidRate(), "x" * 10) == [10]
    assert feed(InvalidRate(), "xxxxx....") == []
    assert feed(InvalidRate(), "xxxxx.....") == [10], "the tenth answer makes it enough"
    assert feed(InvalidRate(), "xxxx" + "." * 16 + "x") == []
    assert feed(InvalidRate(), "." * 15 + "xxxxx") == [20]
    assert feed(InvalidRate(), "x...." * 20) == [], "4 of 20"
    assert feed(InvalidRate(), "x..." * 5) == [17], "5 of 20"


@pytest.mark.parametrize("good", [0, 1, 19, 20, 100_000])
def test_a_sleeper_is_found_within_20_bad_answers(good: int) -> None:
    rates = InvalidRate()
    assert feed(rates, "." * good) == []
    found = feed(rates, "x" * 20)
    assert found[0] <= 10
    if good >= WINDOW:
        assert found[0] == INVALID


@given(st.text(alphabet=".x", max_size=200))
def test_it_says_what_the_rule_says(answers: str) -> None:
    rates, recent = InvalidRate(), ""
    for answer in answers:
        recent = (recent + answer)[-WINDOW:]
        expected = len(recent) >= ENOUGH and recent.count("x") >= INVALID
        assert rates.observe(NODE, valid=answer != "x") is expected
        recent = "" if expected else recent
        assert rates.rate(NODE) == (recent.count("x") / len(recent) if recent else 0.0)


def test_nodes_are_apart_and_memory_is_bounded() -> None:
    rates = InvalidRate(capacity=64)
    assert feed(rates, "." * 16 + "xxxx") == []
    for i in range(5000):
        assert not rates.observe(b"%032d" % i, valid=bool(i % 2))
        assert len(rates) <= 64
    assert feed(rates, "x") == [1]


def test_thresholds_must_make_sense() -> None:
    for window, enough, invalid in ((20, 10, 11), (9, 10, 5), (20, 10, 0)):
        with pytest.raises(ValueError, match="must not decrease"):
            InvalidRate(window=window, enough=enough, invalid=invalid)
    assert feed(InvalidRate(window=4, enough=2, invalid=1), "..x") == [3]
