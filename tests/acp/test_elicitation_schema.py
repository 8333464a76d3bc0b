"""Forms: schemas read, and answers checked against them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from acp.elicitation import Choice, Field, UnknownForm, defaults, parse_schema, problems
from acp.v1 import schema as v1
from acp.v2 import schema as v2

COLOURS = [{"const": "#f00", "title": "Red", "description": "warm"}, {"const": "#00f", "title": "Blue"}]


def one(**raw: Any) -> Field:
    (field,) = parse_schema({"properties": {"x": raw}})
    return field


def test_every_kind_of_field_is_read_in_order() -> None:
    schema = {
        "type": "object",
        "title": "About the project",
        "properties": {
            "name": {"type": "string", "title": "Name", "description": "Of it", "minLength": 1, "maxLength": 9},
            "mail": {"type": "string", "format": "email", "pattern": "^[a-z]", "default": "a@b.c"},
            "port": {"type": "integer", "minimum": 1024, "maximum": 65535, "default": 3000},
            "ratio": {"type": "number", "minimum": 0.5, "default": 0.75},
            "log": {"type": "boolean", "default": True},
            "plain": {"type": "string", "enum": ["a", "b", "a"]},
            "titled": {"type": "string", "oneOf": COLOURS, "default": "#00f"},
            "many": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}, "minItems": 1, "default": ["b"]},
            "tmany": {"type": "array", "items": {"anyOf": COLOURS}, "maxItems": 2},
        },
        "required": ["name"],
    }
    colours = (Choice("#f00", "Red", "warm"), Choice("#00f", "Blue"))
    expected = (
        Field("name", "string", "Name", "Of it", True, least=1, most=9),
        Field("mail", "string", default="a@b.c", format="email", pattern="^[a-z]"),
        Field("port", "integer", default=3000, least=1024, most=65535),
        Field("ratio", "number", default=0.75, least=0.5),
        Field("log", "boolean", default=True),
        Field("plain", "string", choices=(Choice("a"), Choice("b"))),
        Field("titled", "string", default="#00f", choices=colours),
        Field("many", "array", default=("b",), least=1, choices=(Choice("a"), Choice("b"))),
        Field("tmany", "array", most=2, choices=colours),
    )
    for models in (v1, v2):
        assert parse_schema(models.ElicitationSchema.decode(schema).encode()) == expected
    filled = {"mail": "a@b.c", "port": 3000, "ratio": 0.75, "log": True, "titled": "#00f", "many": ["b"]}
    assert defaults(expected) == filled
    assert problems(expected, filled) == ["Name is required"]
    assert problems(expected, {"name": "n"}) == []


@pytest.mark.parametrize(
    "property",
    [
        {"type": "object", "properties": {}},
        {"type": "_date_range"},
        {"type": "null"},
        {"type": ["string", "null"]},
        {},
        "string",
        {"type": "string", "format": "password"},
        {"type": "string", "pattern": 1},
        {"type": "string", "minLength": -1},
        {"type": "string", "maxLength": 1.5},
        {"type": "string", "enum": []},
        {"type": "string", "enum": ["a", 1]},
        {"type": "string", "enum": ["a"], "oneOf": [{"const": "b", "title": "B"}]},
        {"type": "string", "oneOf": [{"const": "b"}]},
        {"type": "string", "oneOf": [{"const": 1, "title": "One"}]},
        {"type": "string", "enum": [str(n) for n in range(1001)]},
        {"type": "integer", "minimum": 0.5},
        {"type": "integer", "minimum": True},
        {"type": "number", "maximum": "9"},
        {"type": "array"},
        {"type": "array", "items": {}},
        {"type": "array", "items": {"type": "string"}},
        {"type": "array", "items": {"enum": ["a"]}},
        {"type": "array", "items": {"type": "number", "anyOf": COLOURS}},
        {"type": "array", "items": {"type": "_colour", "enum": ["a"]}},
    ],
    ids=repr,
)
def test_a_form_with_one_property_that_we_do_not_know_is_no_form(property: Any) -> None:
    with pytest.raises(UnknownForm):
        parse_schema({"properties": {"known": {"type": "string"}, "x": property}})


@pytest.mark.parametrize(
    "schema",
    [
        None,
        [],
        {"type": "_tree"},
        {"properties": None},
        {"properties": []},
        {"properties": {}, "required": ["x"]},
        {"properties": {"x": {"type": "string"}}, "required": "x"},
        {"properties": {str(n): {"type": "string"} for n in range(101)}},
    ],
    ids=lambda schema: repr(schema)[:40],
)
def test_what_is_no_schema_is_no_form(schema: Any) -> None:
    with pytest.raises(UnknownForm):
        parse_schema(schema)


def test_no_properties_are_a_form_with_nothing_but_consent() -> None:
    assert parse_schema({}) == parse_schema({"type": "object", "properties": {}, "required": None}) == ()
    assert problems((), {}) == []


def test_what_is_malformed_but_optional_counts_as_omitted() -> None:
    assert one(type="string", title=1, description=[], default=2) == Field("x", "string")
    assert one(type="string", default="four", maxLength=3).default is None
    assert one(type="string", enum=["a"], default="b").default is None
    assert one(type="integer", default=True).default is None
    assert one(type="boolean", default="yes").default is None
    assert one(type="integer", default=3.0) == Field("x", "integer", default=3)
    many = one(type="array", items={"type": "string", "enum": ["a", "b"]}, default=["a", 1])
    assert many.default == ("a",)


def test_a_choice_with_values_and_titles_is_one_of_both() -> None:
    assert one(type="string", enum=["#f00", "x"], oneOf=COLOURS).choices == (Choice("#f00", "Red", "warm"),)


@pytest.mark.parametrize(
    ("field", "value", "wrong"),
    [
        (Field("x", "boolean"), 1, "must be true or false"),
        (Field("x", "integer"), 1.5, "must be a whole number of at most 64 bits"),
        (Field("x", "integer"), 2**63, "must be a whole number of at most 64 bits"),
        (Field("x", "integer"), True, "must be a number"),
        (Field("x", "integer", least=3), 2, "must be at least 3"),
        (Field("x", "number", most=0.5), 0.6, "must be at most 0.5"),
        (Field("x", "number"), float("nan"), "must be a number"),
        (Field("x", "number"), "1", "must be a number"),
        (Field("x", "string"), None, "must be a text"),
        (Field("x", "string", most=1), "ab", "must have a length of at most 1"),
        (Field("x", "string", choices=(Choice("a"),)), "b", "must be one of the choices"),
        (Field("x", "string", format="date"), "today", "must have the format date"),
        (Field("x", "string", pattern="^a"), "b", "must match ^a"),
        (Field("x", "array", choices=(Choice("a"),)), "a", "must be a list of choices"),
        (Field("x", "array", choices=(Choice("a"),)), ["a", 1], "must have nothing but choices that are offered"),
        (Field("x", "array", least=1, choices=(Choice("a"),)), [], "must be at least 1 of the choices"),
    ],
)
def test_a_wrong_value_is_told_in_words(field: Field, value: Any, wrong: str) -> None:
    assert problems((field,), {"x": value}) == [f"x {wrong}"]


# As JSON Schema has it -------------------------------------------------------------------------------------------

TEXTS = st.text("ab1é ", max_size=4)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(-10, 10) | st.integers(-3, 3).map(float)
VALUES = TEXTS | NUMBERS | st.booleans() | st.lists(TEXTS, max_size=3) | st.none()
CHOICES = st.lists(TEXTS, min_size=1, max_size=3)
TITLED = CHOICES.map(lambda values: [{"const": value, "title": value.upper()} for value in dict.fromkeys(values)])
PATTERNS = st.sampled_from(["^a", "b$", "[ab]+1", "^$", r"\d", r"^\w*$", "é|1"])
PROPERTIES = st.one_of(
    st.fixed_dictionaries(
        {"type": st.just("string")},
        optional={
            "minLength": st.integers(0, 3),
            "maxLength": st.integers(0, 3),
            "pattern": PATTERNS,
            "enum": CHOICES,
            "default": VALUES,
        },
    ),
    st.fixed_dictionaries({"type": st.just("string"), "oneOf": TITLED}, optional={"default": VALUES}),
    st.fixed_dictionaries(
        {"type": st.sampled_from(["number", "integer"])},
        optional={"minimum": st.integers(-3, 3), "maximum": st.integers(-3, 3), "default": VALUES},
    ),
    st.fixed_dictionaries({"type": st.just("boolean")}, optional={"default": VALUES}),
    st.fixed_dictionaries(
        {
            "type": st.just("array"),
            "items": CHOICES.map(lambda v: {"type": "string", "enum": v}) | TITLED.map(lambda v: {"anyOf": v}),
        },
        optional={"minItems": st.integers(0, 2), "maxItems": st.integers(0, 2), "default": VALUES},
    ),
)
NAMES = st.sampled_from("xyz")
SCHEMAS = st.dictionaries(NAMES, PROPERTIES, max_size=3).flatmap(
    lambda properties: st.fixed_dictionaries(
        {"type": st.just("object"), "properties": st.just(properties)},
        optional={"required": st.lists(st.sampled_from(sorted(properties)), unique=True)} if properties else {},
    )
)


@given(SCHEMAS, st.dictionaries(NAMES, VALUES))
def test_an_answer_has_no_problems_exactly_when_it_is_valid_by_json_schema(schema: Any, content: Any) -> None:
    # \w is ASCII in the patterns of JSON Schema, and not in that library's.
    if any(r"\w" in raw.get("pattern", "") for raw in schema["properties"].values()) and "é" in repr(content):
        return
    fields = parse_schema(schema)
    assert (problems(fields, content) == []) == Draft202012Validator(schema).is_valid(content)


@given(SCHEMAS)
def test_every_default_fits_its_field(schema: Any) -> None:
    fields = parse_schema(schema)
    filled = defaults(fields)
    assert problems([field for field in fields if field.name in filled], filled) == []


@given(st.recursive(VALUES, lambda inner: st.lists(inner) | st.dictionaries(TEXTS | NAMES, inner)), SCHEMAS, NAMES)
def test_no_property_makes_the_parser_fail_in_any_other_way(junk: Any, schema: Any, name: str) -> None:
    for broken in (junk, {**schema, "properties": {**schema["properties"], name: junk}}, {**schema, "required": junk}):
        with suppress(UnknownForm):
            parse_schema(broken)
