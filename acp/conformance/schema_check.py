"""Each text on the wire against the condensed schema, with the blame on its sender."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, cast

from jsonschema import Draft202012Validator

from .facts import read
from .walking import Json, Object

KINDS = ("Request", "Notification", "Response")


@functools.cache
def _document(version: int) -> dict[str, Any]:
    return read(f"v{version}", "schema.json")


@functools.cache
def _names(version: int) -> dict[tuple[str, str], tuple[str, str]]:
    """(method, kind of message) → the definition's name and the side that implements the method."""
    return {
        (definition["x-method"], kind): (name, definition["x-side"])
        for name, definition in _document(version)["$defs"].items()
        for kind in KINDS
        if "x-method" in definition and name.endswith(kind)
    }


@functools.cache
def _validator(version: int, name: str) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": _document(version)["$defs"]})


def known(version: int, method: str, kind: str) -> bool:
    """Does the protocol define this message?"""
    return (method, kind) in _names(version)


def problems(version: int, method: str, kind: str, value: Json) -> list[str]:
    """What is wrong with the params (or the result) of a message; nothing is known of undefined ones."""
    entry = _names(version).get((method, kind))
    if entry is None:
        return []
    found = sorted(_validator(version, entry[0]).iter_errors(value), key=str)  # pyright: ignore[reportUnknownMemberType]
    return [f"{entry[0]}: {error.json_path}: {error.message[:200]}" for error in found]


def unknown_members(version: int, method: str, kind: str, value: Json) -> list[str]:
    """Members at the root of a defined message that the schema does not name."""
    entry = _names(version).get((method, kind))
    if entry is None or not isinstance(value, dict):
        return []
    definition = _document(version)["$defs"][entry[0]]
    if any(word in definition for word in ("anyOf", "oneOf", "allOf")):
        return []  # its members depend on the arm
    return sorted(set(value) - set(definition.get("properties", {})))  # pyright: ignore[reportUnknownArgumentType]


def side(version: int, method: str, kind: str) -> str | None:
    """Who implements a defined message: agent, client, proxy or protocol (both)."""
    entry = _names(version).get((method, kind))
    return entry[1] if entry else None


@functools.cache
def needs(version: int) -> dict[str, str | None]:
    """Method → the capability that has to be announced for it, where there is one."""
    return read(f"v{version}", "needs.json")


def names_below(version: int, name: str, value: Json, at: str = "$") -> list[str]:
    """Members of a value that its definition does not name, through the objects that it refers to; `_meta` is free."""
    document = _document(version)["$defs"]
    found: list[str] = []
    known_here: dict[str, Any] = document[name].get("properties", {})
    for key, item in value.items() if isinstance(value, dict) else ():  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if key not in known_here:
            found.append(f"{at}.{key}")
        elif key != "_meta":
            arms = [known_here[key], *known_here[key].get("anyOf", []), *known_here[key].get("allOf", [])]
            for arm in arms:
                if "$ref" in arm:
                    found += names_below(version, arm["$ref"].rpartition("/")[2], item, f"{at}.{key}")
    return found


def open_values(version: int, method: str, kind: str, value: Json) -> Iterator[tuple[str, Json, bool]]:
    """Each value of an open enumeration and each tag of an open union in a message: its path, and whether it is one
    that the protocol defines or one's own, with an underscore."""
    entry = _names(version).get((method, kind))
    return _walk(version, {"$ref": f"#/$defs/{entry[0]}"}, value, "$") if entry else iter(())


def _walk(version: int, schema: Object, value: Json, at: str) -> Iterator[tuple[str, Json, bool]]:
    if "$ref" in schema:
        schema = _document(version)["$defs"][schema["$ref"].rpartition("/")[2]]
    for part in schema.get("allOf", []):
        yield from _walk(version, part, value, at)
    if isinstance(value, dict):
        members = cast("Object", value)
        for name, part in schema.get("properties", {}).items():
            if name in members:
                yield from _walk(version, part, members[name], f"{at}.{name}")
    if isinstance(value, list) and "items" in schema:
        for n, item in enumerate(cast("list[Json]", value)):
            yield from _walk(version, schema["items"], item, f"{at}[{n}]")
    yield from _among(version, [*schema.get("anyOf", []), *schema.get("oneOf", [])], value, at)


def _among(version: int, arms: list[Object], value: Json, at: str) -> Iterator[tuple[str, Json, bool]]:
    """The arms of a union: known words and any other, known tags and any other, or a thing and null."""
    words = [arm["const"] for arm in arms if "const" in arm]
    if words and isinstance(value, str):
        if any(arm.get("type") == "string" and "const" not in arm for arm in arms):
            yield at, value, value in words or value.startswith("_")
        return
    tags = [
        (name, part["const"], arm)
        for arm in arms
        for name, part in arm.get("properties", {}).items()
        if "const" in part
    ]
    if tags and isinstance(value, dict):
        tag = cast("Object", value).get(tags[0][0])
        for _, word, arm in tags:
            if word == tag:
                yield from _walk(version, {key: part for key, part in arm.items() if key != "properties"}, value, at)
        if isinstance(tag, str) and any("not" in arm for arm in arms):
            yield f"{at}.{tags[0][0]}", tag, tag in [word for _, word, _ in tags] or tag.startswith("_")
        return
    things = [arm for arm in arms if arm.get("type") != "null"]
    if len(things) == 1 and value is not None:
        yield from _walk(version, things[0], value, at)
