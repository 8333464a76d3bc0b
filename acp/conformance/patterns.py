"""The small language in which cases say what they expect.

A pattern is JSON. An object matches an object that has at least its members; a list matches item by item; a string
`$name` is the value of a variable; everything else matches itself, type kept. An object with one of these keys is
special: `$type` (a JSON type, or a list of them), `$filled` (a string that is not empty), `$one_of` (patterns),
`$items` (a list whose every item matches), `$absent` (the member is not there), `$any`, `$capture` (a name; with
`$as` the value has to match as well).
"""

from __future__ import annotations

from typing import Any, cast

Json = Any
Variables = dict[str, Json]
TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
SPECIAL = {"$type", "$filled", "$one_of", "$items", "$absent", "$any", "$capture"}


def fill(value: Json, variables: Variables) -> Json:
    """The value with each `$name` replaced. Raises KeyError for a name without a value."""
    if isinstance(value, str) and value.startswith("$") and value[1:].isidentifier():
        return variables[value[1:]]
    if isinstance(value, dict):
        return {key: fill(item, variables) for key, item in cast("dict[str, Json]", value).items()}
    if isinstance(value, list):
        return [fill(item, variables) for item in cast("list[Json]", value)]
    return value


def mismatch(pattern: Json, value: Json, variables: Variables, at: str = "$") -> str | None:
    """Where and why a value does not match, or None; what is captured goes into `variables`."""
    if isinstance(pattern, dict):
        pattern = cast("dict[str, Json]", pattern)
        if SPECIAL & pattern.keys():
            return _special(pattern, value, variables, at)
        if not isinstance(value, dict):
            return f"{at} is {value!r}, not an object"
        return _members(pattern, cast("dict[str, Json]", value), variables, at)
    if isinstance(pattern, list):
        pattern = cast("list[Json]", pattern)
        if not isinstance(value, list) or len(cast("list[Json]", value)) != len(pattern):
            return f"{at} is {value!r}, not a list of {len(pattern)}"
        pairs = zip(pattern, cast("list[Json]", value), strict=True)
        found = (mismatch(part, item, variables, f"{at}[{n}]") for n, (part, item) in enumerate(pairs))
        return next(filter(None, found), None)
    expected = fill(pattern, variables)
    same = type(expected) is type(value) and expected == value
    return None if same else f"{at} is {value!r}, not {expected!r}"


def _members(pattern: dict[str, Json], value: dict[str, Json], variables: Variables, at: str) -> str | None:
    for key, part in pattern.items():
        if isinstance(part, dict) and "$absent" in part:
            if key in value:
                return f"{at}.{key} is there"
        elif key not in value:
            return f"{at}.{key} is missing"
        elif problem := mismatch(part, value[key], variables, f"{at}.{key}"):
            return problem
    return None


def _special(pattern: dict[str, Json], value: Json, variables: Variables, at: str) -> str | None:
    if "$type" in pattern:
        named: Json = pattern["$type"]
        names = cast("list[str]", named) if isinstance(named, list) else [str(named)]
        types = tuple(kind for name in names for kind in TYPES[name])
        fits = isinstance(value, types) and (bool in types or not isinstance(value, bool))
        return None if fits else f"{at} is {value!r}, not of type {pattern['$type']}"
    if "$filled" in pattern:
        return None if isinstance(value, str) and value else f"{at} is {value!r}, not a string with something in it"
    if "$one_of" in pattern:
        found = [mismatch(part, value, variables, at) for part in cast("list[Json]", pattern["$one_of"])]
        return None if None in found else " and ".join(filter(None, found))
    if "$items" in pattern:
        if not isinstance(value, list):
            return f"{at} is {value!r}, not a list"
        items = enumerate(cast("list[Json]", value))
        return next(filter(None, (mismatch(pattern["$items"], v, variables, f"{at}[{n}]") for n, v in items)), None)
    if "$capture" in pattern:
        variables[pattern["$capture"]] = value
        return mismatch(pattern["$as"], value, variables, at) if "$as" in pattern else None
    return None
