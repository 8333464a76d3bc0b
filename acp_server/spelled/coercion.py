"""Arguments are written as text; a tool's JSON schema says what they are."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from typing import Any, NoReturn, cast

Schema = Mapping[str, Any]

LONGEST_LITERAL = 10_000  # characters that are tried as a Python literal; a string argument is never tried
DEEPEST_SCHEMA = 8


def coerce(raw: str, schema: Schema, root: Schema | None = None) -> tuple[Any, str | None]:
    """The value of `raw` under a schema, and the types it should have had where it has none of them.

    A string stays verbatim. Anything else is JSON, or failing that a Python literal; without a type, what is JSON but
    no string is a value, and everything else text. `$ref` is looked up in `root`.
    """
    allowed = types_of(schema, root or schema)
    if allowed == {"string"}:
        return raw, None
    found, value = parsed(raw.strip())
    kind = type_of(value)
    if found and kind != "string":
        if not allowed or kind in allowed or (kind == "integer" and "number" in allowed):
            return value, None
        if kind == "number" and "integer" in allowed and float(value).is_integer():
            return int(value), None
    if not allowed or "string" in allowed:
        return raw, None
    return raw, " or ".join(sorted(allowed))


def parsed(text: str) -> tuple[bool, Any]:
    """Whether the text is JSON or a Python literal of JSON's types, and the value."""
    try:
        return True, load_json(text)
    except ValueError:
        pass
    if len(text) > LONGEST_LITERAL:
        return False, None
    try:
        value: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return False, None
    return is_json(value), value


def load_json(text: str) -> Any:
    """Strict JSON: no NaN, no infinity. Raises ValueError, also for what is nested too deep."""

    def refuse(word: str) -> NoReturn:
        raise ValueError(word)

    def finite(word: str) -> float:
        number = float(word)
        return number if math.isfinite(number) else refuse(word)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=finite)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def is_json(value: Any) -> bool:
    match value:
        case None | bool() | int() | str():
            return True
        case float():
            return math.isfinite(value)
        case list():
            return all(is_json(inner) for inner in cast("list[Any]", value))
        case dict():
            pairs = cast("dict[Any, Any]", value).items()
            return all(isinstance(key, str) and is_json(inner) for key, inner in pairs)
        case _:
            return False


def type_of(value: Any) -> str:
    """The JSON type of a JSON value."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case _:
            return "object"


def types_of(schema: Any, root: Schema, depth: int = 0) -> set[str]:
    """The JSON types a schema allows; empty: any. Schemas come from outside too: what makes no sense is skipped."""
    if not isinstance(schema, Mapping) or depth > DEEPEST_SCHEMA:
        return set()
    known = cast("Mapping[str, Any]", schema)
    reference = known.get("$ref")
    if isinstance(reference, str):
        return types_of(resolve(reference, root), root, depth + 1)
    declared = known.get("type")
    found = {kind for kind in listed([declared] if isinstance(declared, str) else declared) if isinstance(kind, str)}
    alone = listed(known.get("allOf"))
    for branch in (*listed(known.get("anyOf")), *listed(known.get("oneOf")), *(alone if len(alone) == 1 else ())):
        found |= types_of(branch, root, depth + 1)
    if not found:
        values = [*listed(known.get("enum")), *([known["const"]] if "const" in known else [])]
        found = {type_of(value) for value in values}
    if found and known.get("nullable") is True:
        found.add("null")
    return found


def resolve(reference: str, root: Any) -> Any:
    """What a reference into the same schema (`#/$defs/name`) points at; None where that is nothing."""
    place: Any = root
    for key in reference.removeprefix("#/").split("/"):
        place = cast("Mapping[str, Any]", place).get(key) if isinstance(place, Mapping) else None
    return place


def listed(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
