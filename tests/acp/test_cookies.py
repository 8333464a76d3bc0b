"""Cookies that a server sets for its load balancer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acp.transports.cookies import LONGEST_COOKIE, MOST_COOKIES, Cookies


def kept(*said: str, secure: bool = True) -> str:
    cookies = Cookies()
    cookies.take(said)
    return cookies.headers(secure=secure).get("cookie", "")


def test_what_was_set_is_returned_and_what_is_set_again_replaced() -> None:
    assert kept("a=1; Path=/; HttpOnly", "b=2", "a=3") == "b=2; a=3"


def test_a_secure_cookie_does_not_go_in_the_clear() -> None:
    said = ("a=1; Secure", "b=2")
    assert kept(*said) == "a=1; b=2"
    assert kept(*said, secure=False) == "b=2"


def test_a_cookie_that_is_over_is_forgotten() -> None:
    assert kept("a=1", "a=; Max-Age=0") == ""
    assert kept("a=1", "a=; Expires=Thu, 01 Jan 1970 00:00:00 GMT") == ""
    assert kept("a=1; Expires=Thu, 01 Jan 2170 00:00:00 GMT", "b=1; Max-Age=60") == "a=1; b=1"
    assert kept("a=1; Expires=never") == "a=1"


def test_a_server_cannot_make_us_hold_much() -> None:
    assert kept(*(f"c{n}=1" for n in range(MOST_COOKIES + 5))).count("=") == MOST_COOKIES
    assert kept("a=" + "x" * LONGEST_COOKIE) == ""


@given(st.lists(st.text(max_size=40), max_size=5))
def test_nothing_that_a_server_says_makes_a_header_that_cannot_be_sent(said: list[str]) -> None:
    text = kept(*said)
    assert text.isprintable()
    assert "\n" not in text
