"""Pieces of updates as JSON: bodies of a `session/update`, content blocks, and fields that may be missing or null."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from .updates import UNSET, Block, Json, OtherBlock, TextBlock, Unset

Object = dict[str, Json]

TAG: Final = "sessionUpdate"


def body(tag: str, extra: Mapping[str, Json], **fields: Json) -> Object:
    """The body of a `session/update`; fields that are UNSET are left out."""
    return {TAG: tag} | given(fields) | dict(extra)


def given(fields: Mapping[str, Json]) -> Object:
    """The fields that are not UNSET."""
    return {name: value for name, value in fields.items() if value is not UNSET}


def rest(raw: Mapping[str, Json], *spoken: str) -> Object:
    """What an object has beside its tag and the fields named."""
    return {name: value for name, value in raw.items() if name != TAG and name not in spoken}


def as_object(value: Mapping[str, Json] | Unset | None) -> Json:
    """A value that is an object, UNSET or null."""
    return dict(value) if isinstance(value, Mapping) else value


def when_given(raw: Mapping[str, Json], name: str, convert: Callable[[Any], Any]) -> Any:
    """A field's value, converted; UNSET where it is missing and None where it is null."""
    value = raw.get(name, UNSET)
    return value if value is UNSET or value is None else convert(value)


def say_block(block: Block) -> Object:
    """A content block."""
    if isinstance(block, TextBlock):
        return {"type": "text", "text": block.text, **block.extra}
    return dict(block.raw)


def hear_block(raw: Mapping[str, Json]) -> Block:
    if raw.get("type") == "text" and isinstance(raw.get("text"), str):
        return TextBlock(raw["text"], extra=rest(raw, "type", "text"))
    return OtherBlock(raw)


def hear_blocks(items: Iterable[Mapping[str, Json]]) -> tuple[Block, ...]:
    return tuple(hear_block(item) for item in items)
