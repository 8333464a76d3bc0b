"""The inside of one `<tool_call>`: a name and arguments, from the text the model wrote.

The grammar is Laguna's own (`name<arg_key>k</arg_key><arg_value>v</arg_value>…`, with or without newlines between);
two things models fall back to are understood as well: a JSON object with name and arguments, and a name followed by a
JSON object. String arguments are verbatim; others are JSON, or failing that Python literals.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from typing import Any

from acp_server.model import ToolSpec

NAME_ENDS = ("\n", "<arg_key>", "</tool_call>")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
KEY = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*", re.DOTALL)
VALUE_CLOSED = re.compile(r"</arg_value>(?=\s*(?:<arg_key>|</tool_call>|$))")

Arguments = dict[str, Any]


def parse_call(body: str, tools: Mapping[str, ToolSpec], *, complete: bool) -> tuple[str, Arguments, str | None]:
    """Name, arguments, and what is wrong with the call, if anything, in words for the model.

    `complete` False: the model stopped before it closed the call; the call counts if nothing is missing from it.
    """
    text = body.strip("\n")
    if text.lstrip().startswith("{"):
        return from_json(text)
    cut = min((at for at in (text.find(end) for end in NAME_ENDS) if at >= 0), default=len(text))
    name, rest = text[:cut].strip(), text[cut:]
    if not NAME.fullmatch(name):
        return name[:64], {}, f"the call does not begin with a tool's name: {body[:80]!r}"
    spec = tools.get(name)
    if rest.strip().startswith("{"):
        try:
            value = json.loads(rest.strip())
        except ValueError:
            return name, {}, "the arguments are not valid JSON"
        return name, dict(value), None
    arguments, problem = key_values(rest, spec)
    if problem is None and not complete and (missing := absent(arguments, spec)):
        problem = f"the call was cut off before {', '.join(missing)}"
    return name, arguments, problem


def key_values(text: str, spec: ToolSpec | None) -> tuple[Arguments, str | None]:
    """The pairs of key and value. A repeated key keeps its first value; a key without a value is left out."""
    arguments: Arguments = {}
    problem: str | None = None
    at = 0
    while match := KEY.match(text, at):
        key, at = match[1].strip(), match.end()
        if not text.startswith("<arg_value>", at):
            continue
        at += len("<arg_value>")
        closed = VALUE_CLOSED.search(text, at)
        if closed is None:  # no end that fits what may follow: take the last one there is
            last = text.rfind("</arg_value>", at)
            if last < 0:
                return arguments, f"the value of {key} was cut off; write long values in several calls"
            raw, at = text[at:last], last + len("</arg_value>")
        else:
            raw, at = text[at : closed.start()], closed.end()
        if key not in arguments:
            value, wrong = coerce(raw, property_schema(spec, key))
            arguments[key] = value
            problem = problem or (f"{key} should be {wrong}" if wrong else None)
    left = text[at:].replace("</tool_call>", "").strip()
    if left and problem is None:
        problem = f"cannot read this part of the call: {left[:80]!r}"
    return arguments, problem


def from_json(text: str) -> tuple[str, Arguments, str | None]:
    try:
        value = json.loads(text.replace("</tool_call>", ""))
    except ValueError:
        return "", {}, "the call is not valid JSON; write the tool's name, then <arg_key> and <arg_value> pairs"
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            arguments = None
    if not isinstance(value.get("name"), str) or not isinstance(arguments, dict):
        return "", {}, "the call needs a name and arguments"
    return value["name"], arguments, None  # pyright: ignore[reportUnknownVariableType]


# Types ---------------------------------------------------------------------------------------------------


def property_schema(spec: ToolSpec | None, key: str) -> Mapping[str, Any]:
    if spec is None:
        return {}
    schema = spec.parameters.get("properties", {}).get(key, {})
    reference = schema.get("$ref") if isinstance(schema, Mapping) else None  # pyright: ignore[reportUnknownMemberType]
    if isinstance(reference, str) and reference.startswith("#/$defs/"):
        schema = spec.parameters.get("$defs", {}).get(reference.removeprefix("#/$defs/"), {})
    return schema if isinstance(schema, Mapping) else {}  # pyright: ignore[reportUnknownVariableType]


def types_of(schema: Mapping[str, Any]) -> set[str]:
    """The JSON types a schema allows; empty: any."""
    found: set[str] = set()
    declared = schema.get("type")
    found |= {declared} if isinstance(declared, str) else set(declared or ())
    for branch in [*schema.get("anyOf", ()), *schema.get("oneOf", ())]:
        found |= types_of(branch)
    for value in [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else [])]:
        found.add(type_of(value))
    if schema.get("nullable"):
        found.add("null")
    return found


def type_of(value: Any) -> str:
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


def coerce(raw: str, schema: Mapping[str, Any]) -> tuple[Any, str | None]:
    """The value of `raw` under a schema, and the types it should have had where it has none of them."""
    allowed = types_of(schema)
    if allowed == {"string"}:
        return raw, None
    value: Any = raw
    for read in (json.loads, ast.literal_eval):
        try:
            value = read(raw.strip())
            break
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            continue
    if not allowed:
        return value, None
    kind = type_of(value)
    if kind in allowed or (kind == "integer" and "number" in allowed):
        return value, None
    if kind == "number" and "integer" in allowed and float(value).is_integer():
        return int(value), None
    if "string" in allowed:
        return raw, None
    return raw, " or ".join(sorted(allowed))


def absent(arguments: Arguments, spec: ToolSpec | None) -> list[str]:
    """Required arguments that are not there."""
    return [key for key in (spec.parameters.get("required", ()) if spec else ()) if key not in arguments]
