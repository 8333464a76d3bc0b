"""Arguments by JSON schema."""

from __future__ import annotations

from typing import Any

import pytest

from acp_server.spelled.coercion import coerce


@pytest.mark.parametrize(
    ("raw", "schema", "value"),
    [
        ("10", {"type": "string"}, "10"),
        ('"x"', {"type": "string"}, '"x"'),
        (" x ", {"type": "string"}, " x "),
        ("10", {"type": "integer"}, 10),
        (" 10\n", {"type": "integer"}, 10),
        ("1e3", {"type": "integer"}, 1000),
        ("123456789012345678901234567890", {"type": "integer"}, 123456789012345678901234567890),
        ("3", {"type": "number"}, 3),
        ("3.5", {"type": "number"}, 3.5),
        ("true", {"type": "boolean"}, True),
        ("True", {"type": "boolean"}, True),
        ("None", {"type": ["integer", "null"]}, None),
        ("null", {"anyOf": [{"type": "integer"}, {"type": "null"}]}, None),
        ("null", {"type": "integer", "nullable": True}, None),
        ('["a"]', {"type": "array"}, ["a"]),
        ("['a', 1]", {"type": "array"}, ["a", 1]),
        ("{'a': True}", {"type": "object"}, {"a": True}),
        ('"quoted"', {"type": ["string", "null"]}, '"quoted"'),
        ("7", {"type": ["string", "integer"]}, 7),
        ("2", {"enum": [1, 2]}, 2),
        ("a", {"enum": ["a", "b"]}, "a"),
        ("1", {"enum": ["1", "2"]}, "1"),
        ("5", {"const": 5}, 5),
        ("5", {}, 5),
        ("plain text", {}, "plain text"),
        ('"quoted"', {}, '"quoted"'),
        ("NaN", {}, "NaN"),
    ],
)
def test_a_value_is_what_its_schema_says(raw: str, schema: dict[str, Any], value: Any) -> None:
    found, wrong = coerce(raw, schema)
    assert (found, type(found), wrong) == (value, type(value), None)


@pytest.mark.parametrize(
    ("raw", "schema", "types"),
    [
        ("ten", {"type": "integer"}, "integer"),
        ("1.5", {"type": "integer"}, "integer"),
        ("true", {"type": "integer"}, "integer"),
        ("NaN", {"type": "number"}, "number"),
        ("1e999", {"type": "integer"}, "integer"),
        ("1e999", {"type": "number"}, "number"),
        ("(1, 2)", {"type": "array"}, "array"),
        ("{1, 2}", {"type": "object"}, "object"),
        ("[" * 100_000, {"type": "array"}, "array"),
        ("x", {"type": ["integer", "null"]}, "integer or null"),
    ],
)
def test_a_value_of_no_such_type_stays_text_and_is_told(raw: str, schema: dict[str, Any], types: str) -> None:
    assert coerce(raw, schema) == (raw, types)


def test_references_are_followed_within_the_schema() -> None:
    root = {
        "$defs": {"count": {"$ref": "#/$defs/number"}, "number": {"type": "integer"}, "loop": {"$ref": "#/$defs/loop"}}
    }
    assert coerce("3", {"$ref": "#/$defs/count"}, root) == (3, None)
    assert coerce("x", {"$ref": "#/$defs/loop"}, root) == ("x", None)
    assert coerce("x", {"$ref": "#/nowhere"}, root) == ("x", None)


@pytest.mark.parametrize("schema", [{"type": 3}, {"type": [3]}, {"anyOf": [True, 1]}, {"enum": "abc"}, {"$ref": 7}])
def test_a_schema_that_makes_no_sense_allows_anything(schema: dict[str, Any]) -> None:
    assert coerce("word", schema) == ("word", None)
