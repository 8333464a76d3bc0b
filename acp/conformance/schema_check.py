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
