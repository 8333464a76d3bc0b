"""Each text on the wire against the condensed schema, with the blame on its sender."""

from __future__ import annotations

import functools
import json
from typing import Any

from jsonschema import Draft202012Validator

from .requirements import SPEC

KINDS = ("Request", "Notification", "Response")
Json = Any


@functools.cache
def _document(version: int) -> dict[str, Any]:
    return json.loads((SPEC / f"v{version}" / "schema.json").read_text(encoding="utf-8"))


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
    return json.loads((SPEC / f"v{version}" / "needs.json").read_text(encoding="utf-8"))


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
