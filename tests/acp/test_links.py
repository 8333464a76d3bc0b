"""Addresses that an agent asks the user to visit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp.links import BadLink, Link, parse_link


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://github.com/login/oauth/authorize?client_id=a&state=x&scope=repo", "github.com"),
        ("HTTPS://GitHub.com:8443/#top", "github.com"),
        ("https://s", "s"),
        ("http://localhost:8000/done", "localhost"),
        ("http://app.localhost", "app.localhost"),
        ("http://127.0.0.1:1/", "127.0.0.1"),
        ("http://[::1]:80/", "[::1]"),
    ],
)
def test_a_page_of_a_named_host_or_of_this_machine_may_be_visited(text: str, host: str) -> None:
    link = parse_link(text)
    assert (link.host, link.warnings) == (host, ())
    assert link.url.lower() == text.lower()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "github.com",
        "//github.com",
        "https:/github.com",
        "https:github.com",
        "https:///github.com",
        "javascript:alert(1)",
        "file:///etc/passwd",
        "data:text/html,x",
        "http://example.com",
        "http://localhost.example.com",
        "http://128.0.0.1",
        " https://a.example",
        "ht\ttps://a.example",
        "https://a.exa\nmple",
        "https://a.example/\u202egpj",
        "https://a.example/é",
        "https://a.example\\@b.example",
        "https://a.example/\\b",
        "https://user@a.example",
        "https://user:password@a.example",
        "https://a%2eexample",
        "https://a.example:99999",
        "https://a.example:x",
        "https://[::1",
        "https://[fe80::1%25eth0]/",
        "https://2130706433",
        "https://0x7f.1",
        "https://127.1",
        "https://a..example",
        "https://a,b",
        "https://a.example\uff0fb.example",
        "https://" + "a" * 64 + ".example",
        "https://a.example/" + "a" * 8192,
        "https://a.example/?access_token=x",
        "https://a.example/#x=1&Refresh_Token=y",
        "https://a.example/?user=me&password=hunter2",
    ],
)
def test_what_two_programs_may_read_differently_or_is_not_secure_is_refused(text: str) -> None:
    with pytest.raises(BadLink) as error:
        parse_link(text)
    assert "hunter2" not in str(error.value)


def test_a_name_in_other_letters_is_shown_as_it_is_looked_up_with_a_warning() -> None:
    cyrillic = "https://\u0430pple.com/login"
    shown = "https://xn--pple-43d.com/login"
    for text in (cyrillic, shown):
        link = parse_link(text)
        assert (link.url, link.host) == (shown, "xn--pple-43d.com")
        assert "reads as \u0430pple.com" in link.warnings[0]
    assert parse_link("https://\uff47ithub.com/").url == "https://github.com/"
    assert "xn--\uffff" not in parse_link("https://xn--zzzzzzzz99.example").url


def test_an_address_that_is_a_number_is_warned_of() -> None:
    for text in ("https://192.0.2.1/", "https://[2001:db8::1]/"):
        assert "not a name" in parse_link(text).warnings[0]


@given(st.text() | st.text("htps:/@.a0xé\\[]%#?\u3002-", max_size=20).map("https://".__add__))
def test_whatever_is_let_through_is_plain_and_stays_as_it_is(text: str) -> None:
    try:
        link = parse_link(text)
    except BadLink:
        return
    assert link.url.isascii()
    assert link.url.isprintable()
    assert parse_link(link.url) == Link(link.url, link.host, link.warnings)
