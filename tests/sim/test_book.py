"""The judge of the churn simulation itself: it must find what is wrong, or its verdicts are worth nothing."""

from __future__ import annotations

import pytest

from tests.sim.book import Book, Line, Seen, Version

GRACE_S = 100.0
FAR_MS = 1 << 50


def write(book: Book, line: Line, now: float, *, side: int = 0, deleted: bool = False) -> Version:
    version = book.begin(line, is_tombstone=deleted, side=side)
    book.reached(version, now, timestamp=1000 + version.number, expires=FAR_MS)
    return version


def verdict(book: Book, line: Line, seen: Seen, *, side: int = 0, now: float = 50.0, ms: int = 0) -> str:
    return book.judge(line, book.required(line, side, now), seen, ms, ms)


@pytest.fixture
def line() -> Line:
    return Line("name")


def test_values(line: Line) -> None:
    book = Book(GRACE_S)
    assert verdict(book, line, Seen(error="NotFound")) == "right (not written yet)"
    write(book, line, 1.0)
    write(book, line, 2.0)
    begun = book.begin(line, is_tombstone=False, side=0)
    assert verdict(book, line, Seen(b"name 2")) == "right"
    assert verdict(book, line, Seen(Book.value(line, begun))) == "right"
    assert verdict(book, line, Seen(b"name 1")) == "wrong: too old"
    assert verdict(book, line, Seen(b"name 4")) == "wrong: never written"
    assert verdict(book, line, Seen(b"other 2")) == "wrong: never written"
    assert verdict(book, line, Seen(error="NotConfirmed")) == "failed: NotConfirmed"


def test_expired_values_must_not_be_seen(line: Line) -> None:
    book = Book(GRACE_S)
    write(book, line, 1.0).expires = 1_000_000
    assert verdict(book, line, Seen(error="NotFound"), ms=500_000) == "failed: NotFound"
    assert verdict(book, line, Seen(error="NotFound"), ms=1_000_000) == "right (expired)"
    assert verdict(book, line, Seen(b"name 1"), ms=1_005_000) == "right"
    assert verdict(book, line, Seen(b"name 1"), ms=1_020_000) == "wrong: expired"


def test_tombstones(line: Line) -> None:
    book = Book(GRACE_S)
    write(book, line, 1.0)
    assert verdict(book, line, Seen(deleted_at=9)) == "wrong: deleted by nobody"
    write(book, line, 2.0, deleted=True)
    assert verdict(book, line, Seen(deleted_at=1002)) == "right (deleted)"
    assert verdict(book, line, Seen(error="NotFound")) == "right (deleted)"
    assert verdict(book, line, Seen(b"name 1")) == "wrong: too old"
    write(book, line, 3.0)
    assert verdict(book, line, Seen(deleted_at=1002)) == "wrong: an older tombstone"


def test_a_partition_binds_its_own_side_first_and_everybody_after_the_grace(line: Line) -> None:
    book = Book(GRACE_S)
    write(book, line, 1.0)
    book.divide(2.0)
    write(book, line, 3.0, side=1)
    old = Seen(b"name 1")
    assert verdict(book, line, old, side=0) == "right"
    assert verdict(book, line, old, side=1) == "wrong: too old"
    book.heal(60.0)
    assert verdict(book, line, old, side=0, now=60.0 + GRACE_S - 1) == "right"
    assert book.is_behind(line, old, 0, 61.0)
    assert verdict(book, line, old, side=0, now=60.0 + GRACE_S) == "wrong: too old"
    write(book, line, 70.0, side=0)
    assert verdict(book, line, Seen(b"name 2"), side=0, now=71.0) == "wrong: too old"
    assert verdict(book, line, Seen(b"name 2"), side=1, now=71.0) == "right"
    assert verdict(book, line, Seen(b"name 2"), side=1, now=60.0 + GRACE_S) == "wrong: too old"
    write(book, line, 61.0 + GRACE_S)
    assert verdict(book, line, Seen(b"name 3"), side=1, now=62.0 + GRACE_S) == "wrong: too old"


def test_a_put_that_met_the_cut_binds_only_its_side(line: Line) -> None:
    book = Book(GRACE_S)
    write(book, line, 1.0)
    version = book.begin(line, is_tombstone=False, side=1)
    book.divide(2.0)
    book.reached(version, 3.0, 1002, FAR_MS)
    assert verdict(book, line, Seen(b"name 1"), side=0) == "right"
    assert verdict(book, line, Seen(b"name 1"), side=1) == "wrong: too old"
