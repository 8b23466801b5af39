"""Cookies: of one address and time, and open to nobody but who sent the first frame."""

from __future__ import annotations

import random

import pytest

from pqdht.channel.cookie import COOKIE_SIZE, PERIOD_MS, SEALED_SIZE, CookieJar, seal, unseal
from tests.unit.channel.peers import NOW, reason

HERE, THERE = "203.0.113.7", "203.0.113.8"


def jar(seed: int = 1) -> CookieJar:
    return CookieJar(random.Random(seed).randbytes)


def test_a_cookie_is_good_for_its_address_only() -> None:
    cookies = jar()
    cookie = cookies.make(HERE, NOW)
    assert len(cookie) == COOKIE_SIZE
    cookies.check(cookie, HERE, NOW)
    assert reason(lambda: cookies.check(cookie, THERE, NOW)) == "cookie"
    assert reason(lambda: cookies.check(bytes(16), HERE, NOW)) == "cookie"
    assert reason(lambda: cookies.check(b"", HERE, NOW)) == "cookie"
    assert reason(lambda: jar(2).check(cookie, HERE, NOW)) == "cookie"


def test_a_cookie_lives_through_the_next_period_and_no_longer() -> None:
    start = NOW // PERIOD_MS * PERIOD_MS
    for made_at in (start, start + PERIOD_MS - 1):
        cookies = jar()
        cookie = cookies.make(HERE, made_at)
        cookies.check(cookie, HERE, start + 2 * PERIOD_MS - 1)
        assert reason(lambda c=cookies, k=cookie: c.check(k, HERE, start + 2 * PERIOD_MS)) == "cookie"  # type: ignore[misc]


@pytest.mark.parametrize("jump", [3 * PERIOD_MS, -PERIOD_MS])
def test_after_a_pause_or_a_jump_of_the_clock_old_cookies_are_worth_nothing(jump: int) -> None:
    cookies = jar()
    cookie = cookies.make(HERE, NOW)
    assert reason(lambda: cookies.check(cookie, HERE, NOW + jump)) == "cookie"
    cookies.check(cookies.make(HERE, NOW + jump), HERE, NOW + jump)


def test_secrets_are_drawn_anew() -> None:
    cookies = jar()
    assert cookies.make(HERE, NOW) == cookies.make(HERE, NOW)
    assert cookies.make(HERE, NOW) != cookies.make(HERE, NOW + PERIOD_MS)


def test_only_who_knows_the_first_frame_opens_a_sealed_cookie() -> None:
    secret, mac1, salt, cookie = b"s" * 32, b"m" * 16, b"z" * 16, b"c" * 16
    sealed = seal(cookie, secret, mac1, salt)
    assert len(sealed) == SEALED_SIZE
    assert unseal(sealed, secret, mac1) == cookie
    assert reason(lambda: unseal(sealed, secret, b"n" * 16)) == "cookie"
    assert reason(lambda: unseal(sealed, b"t" * 32, mac1)) == "cookie"
    for at in range(SEALED_SIZE):
        changed = sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        assert reason(lambda c=changed: unseal(c, secret, mac1)) == "cookie"  # type: ignore[misc]
    assert seal(cookie, secret, mac1, b"y" * 16)[16:] != sealed[16:], "no key is used twice"
