"""Patterns and formats of texts, as somebody else's schema has them."""

from __future__ import annotations

import pytest

from acp.patterns import Format, has_format, matches


def test_a_pattern_may_match_anywhere() -> None:
    assert matches("b", "abc") is True
    assert matches("^b", "abc") is False
    assert matches("^[a-zA-Z_][a-zA-Z0-9_]*$", "process_data") is True
    assert matches("^a$", "a\n") is False  # unlike Python's


def test_digits_and_words_are_ascii() -> None:
    assert matches(r"^\d+$", "12") is True
    assert matches(r"^\d+$", "\u0661") is False
    assert matches(r"^[\w-]+$", "a-b") is True
    assert matches(r"\w", "é") is False
    assert matches(r"^\W\D$", "éa") is True
    assert matches(r"\\d", "\\d") is True


def test_what_needs_going_back_is_not_judged() -> None:
    for pattern in (r"(?=a)b", r"(a)\1", "(", "a{100000000}", "a" * 1001):
        assert matches(pattern, "aa") is None


@pytest.mark.timeout(5)
def test_no_pattern_takes_for_ever() -> None:
    for pattern in ("^(a+)+$", "^(a|a)*$", "(a*)*b", "^(([a-z])+.)+[A-Z]([a-z])+$"):
        assert matches(pattern, "a" * 5000 + "!") is False


@pytest.mark.parametrize(
    ("format", "good", "bad"),
    [
        ("email", ["a@b", "a.b+c@d-e.example"], ["a", "a@", "@b", "a b@c", "a@b@c", "a@-b", "a@b..c", "a@b\n"]),
        ("uri", ["https://a.example/b?c=%20#d", "mailto:a@b", "urn:x:y"], ["a", "//a", "http://a b", "x:%zz", "x:é"]),
        ("date", ["2024-02-29"], ["2023-02-29", "20240229", "2024-2-9", "2024-W01-1", "2024-01-01T00:00:00Z", ""]),
        (
            "date-time",
            ["2024-02-29T23:59:60Z", "2024-01-01t00:00:00.123456789+01:00", "2024-01-01 00:00:00-00:00"],
            ["2024-01-01", "2024-01-01T00:00:00", "2024-01-01T24:01:00Z", "2023-02-29T00:00:00Z", "2024-01-01T00:00Z"],
        ),
    ],
)
def test_a_format_is_what_its_rfc_says(format: Format, good: list[str], bad: list[str]) -> None:
    assert [text for text in good if not has_format(format, text)] == []
    assert [text for text in bad if has_format(format, text)] == []
