"""A `session/update` in neither version's words: what both sides' surfaces say and hear.

The dialects make a method of it, `REPORT`, whose params are their version's kind of `Report`. Nearly every report is a
chunk of plain text; the dialects write and read those without building a model of them, and everything else by way of
the generated models. A test holds one way against the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from .updates import Json, MessageChunk, Role, TextBlock, Update

Object = dict[str, Json]

CHUNKS: Final[Mapping[Role, str]] = {
    "user": "user_message_chunk",
    "agent": "agent_message_chunk",
    "thought": "agent_thought_chunk",
}
_ROLES: Final[Mapping[str, Role]] = {tag: role for role, tag in CHUNKS.items()}


@dataclass(frozen=True, slots=True)
class Report:
    """What a session reports. `extra` is what the notification had beside it, `_meta` say."""

    session_id: str
    update: Update
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


def plain_chunk(update: Update) -> Object | None:
    """The body that says a chunk of plain text; None for any other update."""
    if type(update) is not MessageChunk or update.extra:
        return None
    content = update.content
    if type(content) is not TextBlock or content.extra:
        return None
    body: Object = {"sessionUpdate": CHUNKS[update.role], "content": {"type": "text", "text": content.text}}
    if update.message_id is not None:
        body["messageId"] = update.message_id
    return body


def hear_plain_chunk(params: Json) -> tuple[str, MessageChunk] | None:
    """The session and the chunk that the params of a `session/update` say; None if they say anything else or more."""
    try:
        session, update = params["sessionId"], params["update"]
        role, content = _ROLES[update["sessionUpdate"]], update["content"]
        kind, text, id = content["type"], content["text"], update.get("messageId")
    except (KeyError, TypeError, AttributeError):
        return None
    sizes = len(params), len(update), len(content)
    if sizes != (2, 2 if id is None else 3, 2) or kind != "text" or type(session) is not str or type(text) is not str:
        return None
    return (session, MessageChunk(role, TextBlock(text), id)) if id is None or type(id) is str else None
