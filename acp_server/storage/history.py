"""A session's log, as it is written and read: what was reported, what the model was told, what was set.

Entries: {"update": …} what the user saw, {"message": …} what the model is shown, {"kept": n} the messages are cut back
to the first n, {"summary": …} what stands for the first of them from here on, {"setting": id, "value": …} an option
was set, {"instructions": …} what the application had to say to the model, {"began": …} a turn began, by its client's
name of the prompt, and {"ended": …} how it ended. Notices are no history, and of a tool call or a terminal that still
runs only what it began with; its end says the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from acp.errors import ErrorCode
from acp.merging import merged
from acp.updates import (
    UNSET,
    Block,
    Compaction,
    ContextUsage,
    ExitStatus,
    Json,
    Message,
    MessageChunk,
    Other,
    Plan,
    PlanFile,
    PlanRemoved,
    PlanText,
    Terminal,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    Update,
)

from .. import model
from ..commands import compaction_asked
from ..prompt import Instructions, prompt_text
from .record import from_json, to_json
from .store import Entry

log = logging.getLogger(__name__)

LOST = "[lost: the agent ended before this call did]"
CUT_SHORT = "This turn was cut short: the process that ran it ended in the middle of it. What was under way has failed."
MARK = "[cut short: the agent ended in the middle of this]"
_KEPT = (
    Message, MessageChunk, ToolCall, ToolCallUpdate, Terminal, Plan, PlanFile, PlanText, PlanRemoved, ContextUsage,
    Compaction, Other,
)  # fmt: skip
_OVER = ("completed", "failed", "cancelled")


# Writing -------------------------------------------------------------------------------------------------------


def entry_of(update: Update) -> Entry | None:
    """The entry that keeps an update; None if it is not kept."""
    if not isinstance(update, _KEPT) or (isinstance(update, ToolCallUpdate) and not isinstance(update.status, str)):
        return None
    return _entry(update)


def _entry(update: Update) -> Entry:
    return {"update": to_json(update)}


def began(prompt: Json) -> Entry:
    """A turn began; `prompt` is what its client calls it by."""
    return {"began": prompt}


def ended(how: Mapping[str, Json]) -> Entry:
    """The turn that was the last to begin ended: `stopReason` and what else is said of that, or an `error`."""
    return {"ended": dict(how)}


class Recorder:
    """Says which entries keep the messages of a conversation, each once, after those that are kept already."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self._written = len(messages_of(entries))
        self._summary = summary_of(entries)

    def entries_of(self, messages: Sequence[model.Message], summary: model.Summary | None = None) -> list[Entry]:
        """The entries for what was added, or taken back, or summarised, since the last time."""
        entries: list[Entry] = []
        if len(messages) < self._written:
            entries.append({"kept": len(messages)})
            self._written = len(messages)
        entries += [{"message": to_json(message)} for message in messages[self._written :]]
        self._written = len(messages)
        if summary is not None and summary != self._summary:
            entries.append({"summary": to_json(summary)})
            self._summary = summary
        return entries


# Reading -------------------------------------------------------------------------------------------------------


def updates_of(entries: Sequence[Entry], *, running: bool = False, terminals: Iterable[Terminal] = ()) -> list[Update]:
    """What a client is to see of the history: each message whole, each tool call as it ended, in the order they began.

    A call or a compaction that never ended is said to have failed: the agent was killed in the middle of it. Not so the
    calls of the last turn while it is `running`, nor the `terminals` that run now, which are told as they are.
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
            case Terminal(id):
                found["terminal", id] = update
            case Compaction(id):
                found["compaction", id] = update
            case Plan() | PlanFile() | PlanText():
                found["plan", update.id] = update
            case ContextUsage():
                found.pop(("usage", ""), None)  # where the last one was
                found["usage", ""] = update
            case Other() | PlanRemoved():
                found["other", str(len(found))] = update
            case _:
                pass
    now = {terminal.id: terminal for terminal in terminals}
    found |= {("terminal", id): terminal for id, terminal in now.items()}
    turn = f"t{turns_of(entries)}." if running else None

    def goes_on(update: ToolCall | Terminal | Compaction) -> bool:
        return update.id in now if isinstance(update, Terminal) else turn is not None and update.id.startswith(turn)

    return [
        _ended(update) if isinstance(update, ToolCall | Terminal | Compaction) and not goes_on(update) else update
        for update in found.values()
    ]


def messages_of(entries: Iterable[Entry]) -> list[model.Message]:
    """What the model is to be shown, fit for a next turn: every use of a tool has its result.

    Results that were lost are put where they belong, whoever reads, so that all agree on the messages' numbers.
    """
    messages: list[model.Message] = []
    waiting: dict[str, model.ToolUse] = {}

    def lose() -> None:
        messages.extend(model.ToolResult(use.id, use.name, LOST, failed=True) for use in waiting.values())
        waiting.clear()

    for entry in entries:
        if isinstance(kept := entry.get("kept"), int):
            lose()
            del messages[kept:]
        for message in _values([entry], "message"):
            match message:
                case model.ToolResult():
                    waiting.pop(message.tool_use_id, None)
                    messages.append(message)
                case model.Assistant():
                    lose()
                    messages.append(replace(message, step_id=None))  # the cache that it names is gone
                    waiting |= {use.id: use for use in message.tool_uses}
                case model.System() | model.User():
                    lose()
                    messages.append(message)
                case _:
                    pass
    lose()
    return messages


def summary_of(entries: Sequence[Entry]) -> model.Summary | None:
    """The last summary."""
    found = [summary for summary in _values(entries, "summary") if isinstance(summary, model.Summary)]
    return found[-1] if found else None


def settings_of(entries: Iterable[Entry]) -> dict[str, Json]:
    """The options as they were set last."""
    return {str(entry["setting"]): entry.get("value") for entry in entries if "setting" in entry}


def instructed(instructions: Instructions) -> Entry:
    """What the client's application has to say to the model from here on."""
    return {"instructions": {"text": instructions.text, "replaces": instructions.replaces}}


def instructions_of(entries: Sequence[Entry]) -> Instructions | None:
    """What it had to say last."""
    for entry in reversed(entries):
        match entry:
            case {"instructions": {"text": str(text), "replaces": bool(replaces)}}:
                return Instructions(text, replaces)
            case _:
                pass
    return None


def turns_of(entries: Iterable[Entry]) -> int:
    """How many turns were begun; ids of messages and calls are counted by it."""
    return sum(isinstance(u, Message) and u.role == "user" for u in _values(entries, "update"))


def fate_of(entries: Sequence[Entry]) -> dict[str, Json]:
    """What became of the last prompt, as `acp_server.shelter` says it to a client that asks again."""
    how: dict[str, Json] = {}
    for entry in reversed(entries):
        match entry:
            case {"began": prompt}:
                return {"prompt": prompt, "running": False, **how}
            case {"ended": {**said}} if not how:
                how = said
            case _:
                pass
    return {"prompt": None, "running": False}


def last_words(entries: Sequence[Entry]) -> list[Entry]:
    """What ends the last turn truthfully if nobody lived to do it: for the user, for the model, and for `fate_of`."""
    start = max((n for n, entry in enumerate(entries) if "began" in entry), default=-1)
    turn = entries[start + 1 :]
    if start < 0 or any("ended" in entry for entry in turn):
        return []
    cut = MessageChunk("agent", TextBlock(CUT_SHORT), f"t{turns_of(entries)}.cut")
    how = ended({"error": {"code": int(ErrorCode.INTERNAL_ERROR), "message": CUT_SHORT}})
    return [*_last_messages(turn), _entry(cut), how]


def _last_messages(turn: Sequence[Entry]) -> list[Entry]:
    """What the model is to be shown of a turn that was cut short: what it was asked, and what it had said."""
    words: list[Entry] = []
    if not any(isinstance(m, model.User) for m in _values(turn, "message")):
        told = [u.content for u in _values(turn, "update") if isinstance(u, Message) and isinstance(u.content, tuple)]
        asked = [prompt_text(blocks) for blocks in told[:1]]
        if any(compaction_asked(text) is not None for text in asked):
            return []  # that was for the agent: the model sees a summary, or nothing
        words += [{"message": to_json(model.User(text))} for text in asked]
    unheard = 1 + max((n for n, entry in enumerate(turn) if "message" in entry), default=-1)
    said = {"agent": "", "thought": ""}
    for update in _values(turn[unheard:], "update"):
        match update:
            case MessageChunk("agent" | "thought" as role, TextBlock(text)):
                said[role] += text
            case _:
                pass
    text = f"{said['agent']}\n{MARK}" if said["agent"] else MARK
    return [*words, {"message": to_json(model.Assistant(text, said["thought"]))}]


def copied(entries: Iterable[Entry]) -> list[Entry]:
    """The history for another session: all of it but what became of prompts, which that one was never asked."""
    return [entry for entry in entries if "began" not in entry and "ended" not in entry]


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


def _ended(lost: ToolCall | Terminal | Compaction) -> Update:
    """What nobody lived to end."""
    match lost:
        case Terminal(exit=exit):
            return lost if isinstance(exit, ExitStatus) else replace(lost, exit=ExitStatus(), capabilities=UNSET)
        case _:
            return lost if lost.status in _OVER else replace(lost, status="failed")
