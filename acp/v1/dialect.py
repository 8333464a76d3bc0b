"""Updates as v1 says them: `encode` and `decode` are inverse for everything that v1 has a word for.

v1 has no word for the beginning and the end of a turn (its response is that of `session/prompt`), for terminals of the
agent and for a piece of a tool call's content: they encode to nothing. A cancelled tool call is `failed`, a paused one
`pending`; a cancelled entry leaves the plan; a whole message is said as chunks, and changes of files as their patch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from ..methods import Method
from ..plain import Spelling, hear, say
from ..report import Report, hear_plain_chunk, plain_chunk
from ..updates import (
    MAIN_PLAN,
    UNSET,
    ActionRequired,
    Block,
    BlockContent,
    Changes,
    Diff,
    Json,
    Location,
    Message,
    MessageChunk,
    ModeChanged,
    Other,
    OtherBlock,
    OtherContent,
    Plan,
    PlanEntry,
    Role,
    StateUnknown,
    Terminal,
    TerminalChunk,
    TerminalRef,
    TextBlock,
    ToolCall,
    ToolCallUpdate,
    ToolContent,
    ToolContentChunk,
    ToolStatus,
    TurnEnded,
    TurnStarted,
    Update,
)
from ..wire import Wire, camel
from . import schema as wire

VERSION: Final = 1
METHODS: Final[Mapping[str, Method[Any, Any]]] = {
    method.name: method for method in wire.METHODS if not method.name.startswith(("mcp/", "proxy/"))
}

SPELLING: Final = Spelling(option="id", group="group", typed=False)
_BODIES: Final[dict[str, type[Wire]]] = {
    "session_info_update": wire.SessionInfoUpdateSessionUpdate,
    "usage_update": wire.UsageUpdateSessionUpdate,
    "plan_update": wire.PlanUpdateSessionUpdate,
    "plan_removed": wire.PlanRemovedSessionUpdate,
    "subagent_update": wire.SubagentUpdateSessionUpdate,
    "session_message": wire.SessionMessageSessionUpdate,
    "session_message_chunk": wire.SessionMessageChunkSessionUpdate,
    "notice": wire.NoticeSessionUpdate,
    "compaction_update": wire.CompactionUpdateSessionUpdate,
    "compaction_summary_chunk": wire.CompactionSummaryChunkSessionUpdate,
    "available_commands_update": wire.AvailableCommandsUpdateSessionUpdate,
    "config_option_update": wire.ConfigOptionUpdateSessionUpdate,
}
_UNSPOKEN: Final = (
    TurnStarted, ActionRequired, TurnEnded, StateUnknown, Terminal, TerminalChunk, ToolContentChunk,
)  # fmt: skip
_STATUS: Final[dict[ToolStatus, wire.ToolCallStatus]] = {
    "pending": "pending",
    "in_progress": "in_progress",
    "completed": "completed",
    "failed": "failed",
    "cancelled": "failed",
    "paused": "pending",
}
_Chunk = wire.UserMessageChunkSessionUpdate | wire.AgentMessageChunkSessionUpdate | wire.AgentThoughtChunkSessionUpdate
_CHUNKS: Final[dict[Role, type[_Chunk]]] = {
    "user": wire.UserMessageChunkSessionUpdate,
    "agent": wire.AgentMessageChunkSessionUpdate,
    "thought": wire.AgentThoughtChunkSessionUpdate,
}


# Updates → wire ---------------------------------------------------------------------------------------------


def encode(update: Update) -> Iterable[Any]:
    """The `session/update` bodies that say `update`: one, or none if v1 has no word for it."""
    match update:
        case MessageChunk():
            return (_encode_chunk(update),)
        case ToolCall():
            return (_encode_call(update),)
        case ToolCallUpdate():
            return (_encode_call_update(update),)
        case Plan(entries, id):
            plan = replace(update, entries=tuple(entry for entry in entries if entry.status != "cancelled"))
            if id != MAIN_PLAN:
                body = say(plan, SPELLING)
                return (wire.PlanUpdateSessionUpdate.decode(body),)
            return (wire.PlanSessionUpdate(entries=[_encode_entry(e) for e in plan.entries], **plan.extra),)
        case Message():
            blocks = update.content if isinstance(update.content, tuple) else ()
            return tuple(_encode_chunk(MessageChunk(update.role, b, update.message_id, update.extra)) for b in blocks)
        case ModeChanged():
            return (wire.CurrentModeUpdateSessionUpdate(current_mode_id=update.mode, **update.extra),)
        case Other():
            return (wire.UnknownSessionUpdate.decode(update.raw),)
        case _:
            body = say(update, SPELLING)
            return () if body is None else (_BODIES[body["sessionUpdate"]].decode(body),)


def _encode_chunk(chunk: MessageChunk) -> wire.SessionUpdate:
    fields: dict[str, Any] = {**chunk.extra, "content": encode_block(chunk.content)}
    if chunk.message_id is not None:
        fields["message_id"] = chunk.message_id
    return _CHUNKS[chunk.role](**fields)


def encode_block(block: Block) -> wire.ContentBlock:
    """A content block on the wire."""
    if isinstance(block, TextBlock):
        return wire.TextContentBlock(text=block.text, **block.extra)
    return wire.UnknownContentBlock.decode(block.raw)


def _encode_call(call: ToolCall) -> wire.SessionUpdate:
    fields: dict[str, Any] = {
        **call.extra,
        "tool_call_id": call.id,
        "title": call.title,
        "kind": call.kind,
        "status": _STATUS[call.status],
    }
    if call.content:
        fields["content"] = [encode_content(item) for item in call.content]
    if call.locations:
        fields["locations"] = [_encode_location(item) for item in call.locations]
    optional = {"name": call.name, "meta": call.meta}
    fields |= {name: value for name, value in optional.items() if value is not None}
    raw = {"raw_input": call.raw_input, "raw_output": call.raw_output}
    fields |= {name: value for name, value in raw.items() if value is not UNSET}
    return wire.ToolCallSessionUpdate(**fields)


def _encode_call_update(update: ToolCallUpdate) -> wire.ToolCallUpdateSessionUpdate:
    return wire.ToolCallUpdateSessionUpdate(**_call_update_fields(update))


def encode_permission_call(update: ToolCallUpdate) -> wire.ToolCallUpdate:
    """The `toolCall` of a `session/request_permission`."""
    return wire.ToolCallUpdate(**_call_update_fields(update))


def _call_update_fields(update: ToolCallUpdate) -> dict[str, Any]:
    status, content, locations = update.status, update.content, update.locations
    fields: dict[str, Any] = {
        "kind": update.kind,
        "status": _STATUS[status] if isinstance(status, str) else status,
        "title": update.title,
        "name": update.name,
        "content": [encode_content(item) for item in content] if isinstance(content, tuple) else content,
        "locations": [_encode_location(i) for i in locations] if isinstance(locations, tuple) else locations,
        "raw_input": update.raw_input,
        "raw_output": update.raw_output,
    }
    given = {name: value for name, value in fields.items() if value is not UNSET}
    if update.meta is not None:
        given["meta"] = update.meta
    return {**update.extra, "tool_call_id": update.id, **given}


def encode_content(content: ToolContent) -> wire.ToolCallContent:
    """What a tool call shows, on the wire."""
    match content:
        case BlockContent():
            return wire.ContentToolCallContent(content=encode_block(content.block), **content.extra)
        case Diff():
            return wire.DiffToolCallContent(
                path=content.path, old_text=content.old_text, new_text=content.new_text, **content.extra
            )
        case Changes():
            text = content.patch or "\n".join(f"{file.operation} {file.path}" for file in content.files)
            return wire.ContentToolCallContent(content=wire.TextContentBlock(text=text))
        case TerminalRef():
            return wire.TerminalToolCallContent(terminal_id=content.terminal_id, **content.extra)
        case OtherContent():
            return wire.UnknownToolCallContent.decode(content.raw)


def _encode_location(location: Location) -> wire.ToolCallLocation:
    if location.line is None:
        return wire.ToolCallLocation(path=location.path, **location.extra)
    return wire.ToolCallLocation(path=location.path, line=location.line, **location.extra)


def _encode_entry(entry: PlanEntry) -> wire.PlanEntry:
    status: wire.PlanEntryStatus = "pending" if entry.status == "cancelled" else entry.status
    return wire.PlanEntry(content=entry.content, priority=entry.priority, status=status, **entry.extra)


# Reports --------------------------------------------------------------------------------------------------------


class ReportV1(Report):
    """The params of `session/update`."""

    def encode(self) -> dict[str, Json]:
        body = plain_chunk(self.update)
        if body is None:
            (model,) = encode(self.update)
            body = model.encode()
        return {"sessionId": self.session_id, "update": body, **self.extra}

    @classmethod
    def decode(cls, value: Json) -> ReportV1:
        """Raises `pydantic.ValidationError`."""
        if (heard := hear_plain_chunk(value)) is not None:
            return cls(*heard)
        said = wire.SessionNotification.decode(value)
        return cls(said.session_id, decode(said.update), _extra(said, "session_id", "update"))


REPORT: Final[Method[ReportV1, None]] = Method("session/update", "client", ReportV1)


def reports(session_id: str, update: Update) -> Iterable[ReportV1]:
    """The notifications that say `update`: one mostly, none if v1 has no word for it."""
    match update:
        case MessageChunk():
            return (ReportV1(session_id, update),)
        case Message(role, id, content, extra):
            blocks = content if isinstance(content, tuple) else ()
            return [ReportV1(session_id, MessageChunk(role, block, id, extra)) for block in blocks]
        case (
            TurnStarted()
            | ActionRequired()
            | TurnEnded()
            | StateUnknown()
            | Terminal()
            | TerminalChunk()
            | ToolContentChunk()
        ):
            return ()
        case _:
            return (ReportV1(session_id, update),)


# Wire → updates ---------------------------------------------------------------------------------------------


def decode(update: wire.SessionUpdate) -> Update:
    """The update that a `session/update` body says; `Other` if the vocabulary has no word for it."""
    match update:
        case wire.UserMessageChunkSessionUpdate():
            return _decode_chunk("user", update)
        case wire.AgentMessageChunkSessionUpdate():
            return _decode_chunk("agent", update)
        case wire.AgentThoughtChunkSessionUpdate():
            return _decode_chunk("thought", update)
        case wire.ToolCallSessionUpdate():
            return _decode_call(update)
        case wire.ToolCallUpdateSessionUpdate():
            return decode_call_update(update)
        case wire.PlanSessionUpdate():
            entries = tuple(_decode_entry(entry) for entry in update.entries)
            return Plan(entries, extra=_extra(update, "session_update", "entries"))
        case wire.CurrentModeUpdateSessionUpdate():
            return ModeChanged(update.current_mode_id, extra=_extra(update, "session_update", "current_mode_id"))
        case _:
            raw = update.encode()
            known = type(update) is not wire.UnknownSessionUpdate
            return (hear(raw, SPELLING) if known else None) or Other(raw)


def _decode_chunk(role: Role, chunk: wire.ContentChunk) -> MessageChunk:
    extra = _extra(chunk, "session_update", "content", "message_id")
    return MessageChunk(role, decode_block(chunk.content), chunk.message_id, extra=extra)


def decode_block(block: wire.ContentBlock) -> Block:
    """A content block of the wire."""
    if isinstance(block, wire.TextContentBlock):
        return TextBlock(block.text, extra=_extra(block, "type", "text"))
    return OtherBlock(block.encode())


def _decode_call(call: wire.ToolCallSessionUpdate) -> ToolCall:
    return ToolCall(
        id=call.tool_call_id,
        title=call.title,
        kind=call.kind or "other",
        status=call.status or "pending",
        content=tuple(decode_content(item) for item in call.content),
        locations=tuple(_decode_location(item) for item in call.locations),
        raw_input=_given(call, "raw_input"),
        raw_output=_given(call, "raw_output"),
        name=call.name,
        meta=call.meta,
        extra=_extra(call, *_CALL_FIELDS),
    )


def decode_call_update(update: wire.ToolCallUpdate) -> ToolCallUpdate:
    """A tool call's change, from an update or from the `toolCall` of a permission request."""
    return ToolCallUpdate(
        id=update.tool_call_id,
        title=_given(update, "title"),
        kind=_given(update, "kind"),
        status=_given(update, "status"),
        content=_given(update, "content", lambda items: tuple(decode_content(item) for item in items)),
        locations=_given(update, "locations", lambda items: tuple(_decode_location(item) for item in items)),
        raw_input=_given(update, "raw_input"),
        raw_output=_given(update, "raw_output"),
        name=_given(update, "name"),
        meta=update.meta,
        extra=_extra(update, *_CALL_FIELDS),
    )


def decode_content(content: wire.ToolCallContent) -> ToolContent:
    """What a tool call shows."""
    match content:
        case wire.ContentToolCallContent():
            return BlockContent(decode_block(content.content), extra=_extra(content, "type", "content"))
        case wire.DiffToolCallContent():
            extra = _extra(content, "type", "path", "old_text", "new_text")
            return Diff(content.path, content.new_text, content.old_text, extra=extra)
        case wire.TerminalToolCallContent():
            return TerminalRef(content.terminal_id, extra=_extra(content, "type", "terminal_id"))
        case _:
            return OtherContent(content.encode())


def _decode_location(location: wire.ToolCallLocation) -> Location:
    return Location(location.path, location.line, extra=_extra(location, "path", "line"))


def _decode_entry(entry: wire.PlanEntry) -> PlanEntry:
    extra = _extra(entry, "content", "priority", "status")
    return PlanEntry(entry.content, entry.priority, entry.status, extra=extra)


_CALL_FIELDS: Final = (
    "session_update",
    "tool_call_id",
    "title",
    "kind",
    "status",
    "content",
    "locations",
    "raw_input",
    "raw_output",
    "name",
    "meta",
)


def _given(model: Wire, name: str, convert: Callable[[Any], Any] | None = None) -> Any:
    """A field's value, `UNSET` if it was omitted."""
    if not model.given(name):
        return UNSET
    value = getattr(model, name)
    return value if value is None or convert is None else convert(value)


def _extra(model: Wire, *spoken: str) -> dict[str, Json]:
    """What the model has on the wire beside the fields named."""
    if model.model_fields_set.issubset(spoken):
        return {}
    said = {camel(name) for name in spoken}
    return {name: value for name, value in model.encode().items() if name not in said}
