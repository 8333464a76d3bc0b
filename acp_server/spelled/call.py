"""The inside of one `<tool_call>`: a name and arguments, from the text the model wrote.

The grammar is Laguna's own (`name<arg_key>k</arg_key><arg_value>v</arg_value>…`, with or without newlines between);
two things models fall back to are understood as well: a JSON object with name and arguments, and a name followed by a
JSON object. Whatever is wrong is said, in words for the model, and never makes the call disappear.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, cast

from ..model import ToolSpec
from .coercion import coerce, load_json

NAME_ENDS = ("\n", "<arg_key>", "</tool_call>")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
KEY = re.compile(r"\s*<arg_key>(.*?)</arg_key>\s*", re.DOTALL)
OPEN, CLOSE, CALL_ENDS = "<arg_value>", "</arg_value>", "</tool_call>"
# A value may spell any tag. It ends where what follows is what may follow a value.
VALUE_CLOSED = re.compile(r"</arg_value>(?=\s*(?:<arg_key>|</tool_call>|$))")

Arguments = dict[str, Any]


def parse_call(body: str, tools: Mapping[str, ToolSpec], *, complete: bool) -> tuple[str, Arguments, str | None]:
    """Name, arguments, and what is wrong with the call, if anything.

    `complete` False: the model ended its turn before it closed the call; the call counts if nothing is missing from it.
    Names are not checked against `tools`: the agent answers a call of an unknown one.
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
            return name, cast(Arguments, load_json(rest.strip().removesuffix(CALL_ENDS))), None
        except ValueError:
            return name, {}, "the arguments are not valid JSON"
    arguments, problem = key_values(rest, spec)
    if problem is None and not complete and (not arguments or absent(arguments, spec)):
        missing = ", ".join(absent(arguments, spec)) or "its end"
        problem = f"the call was cut off before {missing}"
    return name, arguments, problem


def key_values(text: str, spec: ToolSpec | None) -> tuple[Arguments, str | None]:
    """The pairs of key and value, and the first thing wrong. Of a repeated key the first value is kept."""
    arguments: Arguments = {}
    problems: list[str] = []
    at = 0
    while match := KEY.match(text, at):
        key, at = match[1].strip(), match.end()
        if not text.startswith(OPEN, at):
            problems.append(f"the argument {key} has no value")
            continue
        at += len(OPEN)
        end = end_of_value(text, at)
        if end < 0:
            problems.append(f"the value of {key} was cut off; write long values in several calls")
            return arguments, problems[0]
        raw, at = text[at:end], end + len(CLOSE)
        root: Mapping[str, Any] = spec.parameters if spec else {}
        value, wrong = coerce(raw, property_schema(spec, key), root)
        if wrong:
            problems.append(f"{key} should be {wrong}")
        if arguments.setdefault(key, value) != value:
            problems.append(f"the argument {key} was given twice")
    left = text[at:].replace(CALL_ENDS, "").strip()
    if left:
        problems.append(f"cannot read this part of the call: {left[:80]!r}")
    return arguments, problems[0] if problems else None


def end_of_value(text: str, at: int) -> int:
    """Where the value that begins at `at` ends: the first closing tag that fits, else the last there is, else -1."""
    closed = VALUE_CLOSED.search(text, at)
    return closed.start() if closed else text.rfind(CLOSE, at)


def inside_a_value(body: str) -> bool:
    """Whether more text would belong to a value."""
    return body.rfind(OPEN) > body.rfind(CLOSE)


def from_json(text: str) -> tuple[str, Arguments, str | None]:
    try:
        value = cast(Arguments, load_json(text.strip().removesuffix(CALL_ENDS)))
    except ValueError:
        return "", {}, "the call is not valid JSON; write the tool's name, then <arg_key> and <arg_value> pairs"
    arguments: Any = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = load_json(arguments)
        except ValueError:
            arguments = None
    if not isinstance(value.get("name"), str) or not isinstance(arguments, dict):
        return "", {}, "the call needs a name and arguments"
    return value["name"], cast(Arguments, arguments), None


def property_schema(spec: ToolSpec | None, key: str) -> Mapping[str, Any]:
    properties = spec.parameters.get("properties") if spec else None
    schema = cast("Mapping[str, Any]", properties).get(key) if isinstance(properties, Mapping) else None
    return cast("Mapping[str, Any]", schema) if isinstance(schema, Mapping) else {}


def absent(arguments: Arguments, spec: ToolSpec | None) -> list[str]:
    """Required arguments that are not there."""
    required = spec.parameters.get("required", ()) if spec else ()
    return [key for key in required if key not in arguments]
