"""Forms that an agent puts to the user: the schema in `elicitation/create` read, and answers checked against it.

Pure and of no version. The client checks by it what it sends and the agent what it gets, so the two cannot disagree.

A schema is read whole or not at all: a property of a kind that we do not know is never shown as one that we do. What
the protocol calls malformed but optional (a title that is no text, a default that does not fit) counts as omitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast, get_args

from .json_text import Json
from .patterns import Format, has_format, matches

Kind = Literal["string", "number", "integer", "boolean", "array"]
Value = str | int | float | bool | list[str]

MOST_FIELDS = 100
MOST_CHOICES = 1000


class UnknownForm(ValueError):
    """The schema is not one that we know all of."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the values that a field may have."""

    value: str
    title: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Field:
    """A value that is asked for.

    `least` and `most` bound a number, the length of a text or how many choices are taken, and None does not. A text
    with `choices` is one of them; an array is any of them. A `default` fits the field.
    """

    name: str
    kind: Kind
    title: str = ""
    description: str = ""
    required: bool = False
    default: str | float | bool | tuple[str, ...] | None = None
    least: float | None = None
    most: float | None = None
    choices: tuple[Choice, ...] = ()
    format: Format | None = None
    pattern: str | None = None

    @property
    def label(self) -> str:
        return self.title or self.name


def defaults(fields: Sequence[Field]) -> dict[str, Value]:
    """What a form has in it before anybody fills it in."""
    given = ((field.name, field.default) for field in fields)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in given if value is not None}


# Answers ---------------------------------------------------------------------------------------------------------


def problems(fields: Sequence[Field], content: Mapping[str, Json]) -> list[str]:
    """What is wrong with an answer, a sentence each; nothing if it fits.

    As in JSON Schema, a name that is no field's is no problem. A pattern that cannot be judged in linear time (it
    looks around, or back) is left to the other side.
    """
    found: list[str] = []
    for field in fields:
        if field.name in content:
            found += [f"{field.label} {fault}" for fault in faults(field, content[field.name])]
        elif field.required:
            found.append(f"{field.label} is required")
    return found


def faults(field: Field, value: Json) -> list[str]:
    """What is wrong with one value: the ends of sentences that begin with the field's name."""
    match field.kind:
        case "boolean":
            return [] if isinstance(value, bool) else ["must be true or false"]
        case "integer" | "number":
            return _number_faults(field, value)
        case "string":
            return _text_faults(field, value)
        case "array":
            return _choice_faults(field, value)


def _number_faults(field: Field, value: Json) -> list[str]:
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        return ["must be a number"]
    if field.kind == "integer" and (value != int(value) or not -(2**63) <= value < 2**63):
        return ["must be a whole number of at most 64 bits"]
    return _bounds(field, value, "be {}")


def _text_faults(field: Field, value: Json) -> list[str]:
    if not isinstance(value, str):
        return ["must be a text"]
    found = _bounds(field, len(value), "have a length of {}")
    if field.choices and value not in {choice.value for choice in field.choices}:
        found.append("must be one of the choices")
    if field.format is not None and not has_format(field.format, value):
        found.append(f"must have the format {field.format}")
    if field.pattern is not None and matches(field.pattern, value) is False:
        found.append(f"must match {field.pattern}")
    return found


def _choice_faults(field: Field, value: Json) -> list[str]:
    if not isinstance(value, list):
        return ["must be a list of choices"]
    chosen = cast("list[Json]", value)
    found = _bounds(field, len(chosen), "be {} of the choices")
    allowed = {choice.value for choice in field.choices}
    if not all(isinstance(item, str) and item in allowed for item in chosen):
        found.append("must have nothing but choices that are offered")
    return found


def _bounds(field: Field, size: float, words: str) -> list[str]:
    if field.least is not None and size < field.least:
        return [f"must {words.format(f'at least {field.least}')}"]
    if field.most is not None and size > field.most:
        return [f"must {words.format(f'at most {field.most}')}"]
    return []


def _is_finite(value: float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


# Schemas ---------------------------------------------------------------------------------------------------------

_BOUNDS: Mapping[Kind, tuple[str, str]] = {
    "string": ("minLength", "maxLength"),
    "number": ("minimum", "maximum"),
    "integer": ("minimum", "maximum"),
    "array": ("minItems", "maxItems"),
}


def parse_schema(schema: Json) -> tuple[Field, ...]:
    """The fields of a `requestedSchema`, in its order. Raises UnknownForm."""
    raw = _object(schema, "the schema")
    properties = _object(raw.get("properties", {}), "properties")
    required = _texts(raw.get("required") or [], "required")
    if raw.get("type", "object") != "object":
        raise UnknownForm(f"the schema is of an unknown type, {raw['type']!r}")
    if len(properties) > MOST_FIELDS:
        raise UnknownForm(f"{len(properties)} properties are more than {MOST_FIELDS}")
    for name in required:
        if name not in properties:
            raise UnknownForm(f"{name!r} is required, but is no property")
    return tuple(_field(name, _object(raw, name), name in required) for name, raw in properties.items())


def _field(name: str, raw: Mapping[str, Json], required: bool) -> Field:
    kind: Json = raw.get("type")
    if kind not in get_args(Kind):
        raise UnknownForm(f"{name!r} is of an unknown type, {kind!r}")
    least, most = (_bound(raw, key, kind) for key in _BOUNDS[kind]) if kind in _BOUNDS else (None, None)
    field = Field(name, kind, _text(raw, "title"), _text(raw, "description"), required, least=least, most=most)
    if kind == "string":
        field = _with_rules(field, raw)
    elif kind == "array":
        field = replace(field, choices=_items(name, _object(raw.get("items"), f"items of {name!r}")))
    return replace(field, default=_default(field, raw.get("default")))


def _with_rules(field: Field, raw: Mapping[str, Json]) -> Field:
    """A text field with what only texts have."""
    pattern, format = raw.get("pattern"), raw.get("format")
    if pattern is not None and not isinstance(pattern, str):
        raise UnknownForm(f"the pattern of {field.name!r} is no text")
    if format is not None and format not in get_args(Format):
        raise UnknownForm(f"{field.name!r} has an unknown format, {format!r}")
    choices: list[Choice] | None = None
    if raw.get("oneOf") is not None:
        choices = _titled(field.name, raw["oneOf"])
    if raw.get("enum") is not None:
        plain = _texts(raw["enum"], f"enum of {field.name!r}")
        choices = [Choice(v) for v in plain] if choices is None else [c for c in choices if c.value in plain]
    return replace(field, pattern=pattern, format=format, choices=_choices(field.name, choices))


def _items(name: str, raw: Mapping[str, Json]) -> tuple[Choice, ...]:
    if raw.get("type", "string") != "string":
        raise UnknownForm(f"the items of {name!r} are of an unknown type, {raw['type']!r}")
    if "type" in raw and "enum" in raw:
        return _choices(name, [Choice(value) for value in _texts(raw["enum"], f"enum of {name!r}")])
    if "anyOf" in raw:
        return _choices(name, _titled(name, raw["anyOf"]))
    raise UnknownForm(f"the items of {name!r} are no choices")


def _titled(name: str, options: Json) -> list[Choice]:
    found: list[Choice] = []
    for option in _list(options, f"the choices of {name!r}"):
        raw = _object(option, f"a choice of {name!r}")
        value, title = _texts([raw.get("const"), raw.get("title")], f"a choice of {name!r}")
        found.append(Choice(value, title, _text(raw, "description")))
    return found


def _choices(name: str, choices: list[Choice] | None) -> tuple[Choice, ...]:
    """Each value once. None at all can be meant by no form."""
    if choices is None:
        return ()
    if not 0 < len(choices) <= MOST_CHOICES:
        raise UnknownForm(f"{name!r} has {len(choices)} choices")
    found: dict[str, Choice] = {}
    for choice in choices:
        found.setdefault(choice.value, choice)
    return tuple(found.values())


def _bound(raw: Mapping[str, Json], key: str, kind: Kind) -> float | None:
    value = raw.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not _is_finite(value):
        raise UnknownForm(f"{key} is {value!r}")
    if kind == "number":
        return value
    if value != int(value) or (kind != "integer" and value < 0):
        raise UnknownForm(f"{key} is {value!r}")
    return int(value)


def _default(field: Field, value: Json) -> str | float | bool | tuple[str, ...] | None:
    if isinstance(value, list):
        texts = [item for item in cast("list[Json]", value) if isinstance(item, str)]
        return None if faults(field, texts) else tuple(texts)
    if value is None or faults(field, value):
        return None
    return int(value) if field.kind == "integer" else value


def _object(value: Json, what: str) -> Mapping[str, Json]:
    if not isinstance(value, dict):
        raise UnknownForm(f"{what}: no object")
    return cast("dict[str, Json]", value)


def _list(value: Json, what: str) -> list[Json]:
    if not isinstance(value, list):
        raise UnknownForm(f"{what}: no list")
    return cast("list[Json]", value)


def _texts(value: Json, what: str) -> list[str]:
    items = _list(value, what)
    if not all(isinstance(item, str) for item in items):
        raise UnknownForm(f"{what}: not only texts")
    return items


def _text(raw: Mapping[str, Json], key: str) -> str:
    value = raw.get(key)
    return value if isinstance(value, str) else ""
