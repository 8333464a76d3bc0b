"""A session's log, as it is written and read: what was reported, what the model was told, what was set.

Entries: {"update": …} what the user saw, {"message": …} what the model is shown, {"kept": n} the messages are cut back
to the first n, {"setting": id, "value": …} an option was set. Notices are no history, and of a tool call that still
runs only what it began with; its end says the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import replace

from acp.merging import merged
from acp.updates import (
    Block,
    ContextUsage,
    Json,
    Message,
    MessageChunk,
    Other,
    Plan,
    PlanRemoved,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    Update,
)

from .. import model
from .record import from_json, to_json
from .store import Entry

log = logging.getLogger(__name__)

LONGEST_CHUNK = 4096
"""Characters of a message that are held back to be kept together; a crash loses them."""
LOST = "[lost: the agent ended before this call did]"
_KEPT = (Message, MessageChunk, ToolCall, ToolCallUpdate, Plan, PlanRemoved, ContextUsage, Other)
_OVER = ("completed", "failed", "cancelled")


# Writing -------------------------------------------------------------------------------------------------------


def entry_of(update: Update) -> Entry | None:
    """The entry that keeps an update; None if it is not kept."""
    if not isinstance(update, _KEPT) or (isinstance(update, ToolCallUpdate) and not isinstance(update.status, str)):
        return None
    return _entry(update)


def _entry(update: Update) -> Entry:
    return {"update": to_json(update)}


def _together(held: MessageChunk, update: Update | None) -> MessageChunk | None:
    """One chunk that says both; None if they do not belong together, or are long enough."""
    match held.content, update:
        case TextBlock(text) as block, MessageChunk(content=TextBlock(more) as new) if len(text) < LONGEST_CHUNK:
            is_same = replace(held, content=new) == update and not block.extra and not new.extra
            return replace(held, content=TextBlock(text + more)) if is_same else None
        case _:
            return None


class Recorder:
    """Says which entries keep the messages of a conversation, each once, after those that are kept already."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._written = len(_messages(entries))
        self._held: MessageChunk | None = None

    def entries_for(self, update: Update | None) -> list[Entry]:
        """The entries that are due now; None: all of them. Chunks of one message are kept together, up to a length."""
        held = self._held
        if held is not None and (longer := _together(held, update)) is not None:
            self._held = longer
            return []
        self._held = None
        entries = [] if held is None else [_entry(held)]
        if isinstance(update, MessageChunk):
            self._held = update
        elif update is not None and (entry := entry_of(update)) is not None:
            entries.append(entry)
        return entries

    def entries_of(self, messages: Sequence[model.Message]) -> list[Entry]:
        """The entries for what was added, or taken back, since the last time."""
        entries: list[Entry] = []
        if len(messages) < self._written:
            entries.append({"kept": len(messages)})
            self._written = len(messages)
        entries += [{"message": to_json(message)} for message in messages[self._written :]]
        self._written = len(messages)
        return entries


# Reading -------------------------------------------------------------------------------------------------------


def updates_of(entries: Sequence[Entry], *, running: bool = False) -> list[Update]:
    """What a client is to see of the history: each message whole, each tool call as it ended, in the order they began.

    A call that never ended is said to have failed: the agent was killed in the middle of it. Not so the
    calls of the last turn while it is `running`.
    """
    found: dict[tuple[str, str], Update] = {}
    for update in _values(entries, "update"):
        match update:
            case MessageChunk(role, content, str(id)):
                whole = found.get((role, id), Message(role, id, ()))
                found[role, id] = _longer(whole, content)
            case Message(role, id):
                found[role, id] = update
            case ToolCall(id):
                found["call", id] = update
            case ToolCallUpdate(id):
                call = found.get(("call", id))
                found["call", id] = merged(call if isinstance(call, ToolCall) else None, update)
            case Plan():
                found["plan", update.id] = update
            case ContextUsage():
                found.pop(("usage", ""), None)  # where the last one was
                found["usage", ""] = update
            case Other() | PlanRemoved():
                found["other", str(len(found))] = update
            case _:
                pass
    alive = f"t{turns_of(entries)}." if running else None
    return [
        _ended(u) if isinstance(u, ToolCall) and not (alive and u.id.startswith(alive)) else u for u in found.values()
    ]


def messages_of(entries: Iterable[Entry]) -> list[model.Message]:
    """What the model is to be shown, fit for a next turn: every tool use has its result."""
    return _answered(_messages(entries))


def _messages(entries: Iterable[Entry]) -> list[model.Message]:
    messages: list[model.Message] = []
    for entry in entries:
        if isinstance(kept := entry.get("kept"), int):
            del messages[kept:]
        messages += [m for m in _values([entry], "message") if isinstance(m, model.Message)]
    return messages


def settings_of(entries: Iterable[Entry]) -> dict[str, Json]:
    """The options as they were set last."""
    return {str(entry["setting"]): entry.get("value") for entry in entries if "setting" in entry}


def turns_of(entries: Iterable[Entry]) -> int:
    """How many turns were begun; ids of messages and calls are counted by it."""
    return sum(isinstance(u, Message) and u.role == "user" for u in _values(entries, "update"))


def _values(entries: Iterable[Entry], key: str) -> Iterable[object]:
    for entry in entries:
        if key in entry:
            try:
                yield from_json(entry[key])
            except ValueError as error:
                log.warning("an entry of a session's log is left out: %s", error)


def _longer(message: Update, more: Block) -> Message:
    assert isinstance(message, Message)
    content = message.content if isinstance(message.content, tuple) else ()
    match content, more:
        case (*before, TextBlock(text)), TextBlock(new) if not more.extra:
            last = content[-1]
            assert isinstance(last, TextBlock)
            return replace(message, content=(*before, replace(last, text=text + new)))
        case _:
            return replace(message, content=(*content, more))


def _ended(call: ToolCall) -> ToolCall:
    return call if call.status in _OVER else replace(call, status="failed")


def _answered(messages: Sequence[model.Message]) -> list[model.Message]:
    """The messages, with a result for each use of a tool that has none, and no mark of a cache that is gone."""
    whole: list[model.Message] = []
    waiting: dict[str, model.ToolUse] = {}

    def lose() -> None:
        whole.extend(model.ToolResult(use.id, use.name, LOST, failed=True) for use in waiting.values())
        waiting.clear()

    for message in messages:
        match message:
            case model.ToolResult():
                waiting.pop(message.tool_use_id, None)
                whole.append(message)
            case model.Assistant():
                lose()
                whole.append(replace(message, step_id=None))
                waiting |= {use.id: use for use in message.tool_uses}
            case _:
                lose()
                whole.append(message)
    lose()
    return whole
