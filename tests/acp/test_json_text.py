"""JSON texts: what is refused, and that what is sent is always one line of UTF-8."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings

from acp.conformance.exploring.strategies import anything
from acp.json_text import dumps, loads

REFUSED = {
    "NaN": b"NaN",
    "Infinity": b'{"a": [-Infinity]}',
    "a number too large for a float": b"[1e999]",
    "the same without an exponent": b"[" + b"9" * 400 + b".0]",
    "an integer of 5,000 digits": b"7" * 5000,
    "a lone surrogate": b'"\\ud800"',
    "invalid UTF-8": b'"\xff"',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "an unfinished object": b'{"a": 1',
    "two values": b"{} {}",
    "nothing": b"",
    "a control character in a string": b'"a\tb"',
    "a number that begins with 0": b"01",
    "nesting a million deep": b"[" * 1_000_000,
    "nesting a million deep in objects": b'{"a":' * 1_000_000,
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_a_text_that_is_not_strict_json_is_refused_with_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(text)


@pytest.mark.parametrize(
    "text", [b"1e308", b"12e3", b'"1e999"', b"-0.0", b"123456789012345678901234567890", b'"\\ud83d\\ude00"']
)
def test_an_unusual_but_strict_text_is_accepted(text: bytes) -> None:
    assert loads(text) == json.loads(text)


def test_the_last_of_a_repeated_key_counts() -> None:
    assert loads(b'{"a": 1, "a": 2}') == {"a": 2}


def test_text_is_accepted_as_well_as_bytes() -> None:
    assert loads('{"ä": "\N{GRINNING FACE}"}') == {"ä": "\N{GRINNING FACE}"}


@settings(max_examples=100)
@given(anything)
def test_what_was_dumped_is_one_line_and_loads_again(value: Any) -> None:
    text = dumps(value)
    assert b"\n" not in text
    assert b"\r" not in text
    assert loads(text) == value


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": object()}, {"a": {1, 2}}, b"bytes"])
def test_a_value_that_is_not_json_is_never_sent(value: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        dumps(value)


def test_a_value_nested_too_deeply_to_send_is_a_value_error() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(ValueError, match="not a JSON value"):
        dumps(value)


def test_a_lone_surrogate_is_sent_as_the_replacement_character() -> None:
    assert loads(dumps({"name": "caf\udce9"})) == {"name": "caf\N{REPLACEMENT CHARACTER}"}


@pytest.mark.parametrize("text", [b"%s", b"-%s", b"[%s]", b"[1,%s]", b'{"a":%s}', b'{"a": -%s }', b"\n%s", b'["e",%s]'])
@pytest.mark.parametrize("number", [b"1e999", b"12.5E400", b"0.01e+999", b"1" * 310 + b".0"])
def test_a_number_too_large_is_found_wherever_it_stands(text: bytes, number: bytes) -> None:
    with pytest.raises(ValueError, match="too large"):
        loads(text % number)
