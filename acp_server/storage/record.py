"""Updates, messages and cards as JSON, for a journal: `to_json` and `from_json` are inverse.

A value is an object whose `=` is the name of its class; fields at their default are left out, and UNSET is never
written. What a value holds of the wire (`raw`, `extra`, `_meta`, a tool's input) stays as it is.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, asdict, fields, is_dataclass
from typing import Any, Final, cast

from acp import updates
from acp.json_text import dumps, loads
from acp.updates import UNSET, Json

from .. import model
from .store import Card, Entry

log = logging.getLogger(__name__)

CLASS: Final = "="
LONGEST_CHUNK: Final = 1024
"""Characters of a message that are kept together in one entry."""
_PLAIN: Final = {"raw", "extra", "meta", "raw_input", "raw_output", "arguments", "group", "capabilities"}
"""Fields whose values are JSON already, and are not looked into."""


def _classes() -> Iterable[type]:
    for module in (updates, model):
        yield from (c for c in vars(module).values() if isinstance(c, type) and is_dataclass(c))


_CLASSES: Final[Mapping[str, type]] = {cls.__name__: cls for cls in _classes()}
_RECORDED: Final = frozenset(_CLASSES.values())


def to_json(value: Any) -> Json:
    """The JSON of a value of `acp.updates` or `model`, or of a tuple of them."""
    kind = cast("type[Any]", type(value))
    if kind is updates.MessageChunk and (plain := _plain_chunk(value)) is not None:
        return plain
    if kind is str or kind is int or value is None:
        return value
    if kind is tuple:
        return [to_json(item) for item in value]
    if kind not in _RECORDED:
        return value
    said: dict[str, Json] = {CLASS: kind.__name__}
    for name, default, is_plain in _fields(kind):
        item = getattr(value, name)
        if item is not UNSET and item != default:
            said[name] = _as_dict(item) if is_plain else to_json(item)
    return said


def _plain_chunk(chunk: updates.MessageChunk) -> Json:
    """The JSON of a chunk of plain text, as nearly all that is recorded is; None for any other."""
    text = chunk.content
    if type(text) is not updates.TextBlock or text.extra or chunk.extra or chunk.message_id is None:
        return None
    content = {CLASS: "TextBlock", "text": text.text}
    return {CLASS: "MessageChunk", "role": chunk.role, "content": content, "message_id": chunk.message_id}


@functools.cache
def _fields(cls: type) -> tuple[tuple[str, Any, bool], ...]:
    """A class's fields: their names, their defaults, and whether they hold JSON already."""
    return tuple((field.name, _default(field), field.name in _PLAIN) for field in fields(cls))


def from_json(raw: Json) -> Any:
    """The value again. Raises ValueError for what `to_json` never writes."""
    if isinstance(raw, list):
        return tuple(from_json(item) for item in cast("list[Json]", raw))
    if not isinstance(raw, dict):
        return raw
    given = cast("dict[str, Json]", raw)
    cls = _CLASSES.get(given.get(CLASS, ""))
    if cls is None:
        raise ValueError(f"no class {given.get(CLASS)!r} is recorded")
    values = {
        name: (tuple(item) if name == "group" else item) if name in _PLAIN else from_json(item)
        for name, item in given.items()
        if name != CLASS
    }
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"a {cls.__name__} was not recorded whole") from error


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else MISSING


def _as_dict(item: Any) -> Json:
    return dict(cast("Mapping[str, Json]", item)) if isinstance(item, Mapping) else item


# Whole texts ---------------------------------------------------------------------------------------------------


def card_text(card: Card) -> bytes:
    """A card as one line of JSON."""
    return dumps({**asdict(card), "directories": list(card.directories)})


def card_of(id: str, text: bytes | str) -> Card:
    """The card again. Raises ValueError."""
    raw = loads(text)
    try:
        return Card(**(raw | {"id": id, "directories": tuple(raw.get("directories", ()))}))
    except (TypeError, AttributeError) as error:
        raise ValueError(f"the card of session {id} cannot be read: {error}") from error


def joined(one: Entry, more: Entry) -> Entry | None:
    """One entry for two chunks of a message that follow each other; None if they do not belong together."""
    match one, more:
        case (
            {"update": {"=": "MessageChunk", "content": {"=": "TextBlock", "text": str(text), **no}, **about}},
            {"update": {"=": "MessageChunk", "content": {"=": "TextBlock", "text": str(new), **others}, **same}},
        ) if about == same and "message_id" in about and not no and not others and len(text) < LONGEST_CHUNK:
            return {"update": {"=": "MessageChunk", "content": {"=": "TextBlock", "text": text + new}, **about}}
        case _:
            return None


def entries_of_texts(id: str, texts: Iterable[bytes | str]) -> list[Entry]:
    """The entries of a session's log, chunks joined.

    One that is damaged is left out, with a word to whoever reads the agent's log.
    """
    found: list[Entry] = []
    for number, text in enumerate(texts, 1):
        try:
            entry = loads(text)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            log.warning("entry %d of session %s is damaged and is left out", number, id)
        elif found and (both := joined(found[-1], cast("Entry", entry))) is not None:
            found[-1] = both
        else:
            found.append(cast("Entry", entry))
    return found
