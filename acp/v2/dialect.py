"""Updates as v2 says them: `encode` and `decode` are inverse for everything that v2 has a word for.

What v2 says otherwise: a tool call is announced by its first change, so `ToolCall` comes back as a `ToolCallUpdate`
with every field given; a `Diff` is a change of files with a git patch, and comes back as `Changes`; modes are options,
so `ModeChanged` encodes to nothing. Every message has an id: a chunk without one raises LocalProtocolError.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from ..methods import Method
from ..plain import Spelling, hear, say
from ..report import Report, hear_plain_chunk, plain_chunk
from ..updates import (
    Json,
    MessageChunk,
    ModeChanged,
    Other,
    TextBlock,
    Update,
)
from ..wire import Wire
from . import schema as wire
from .hearing import hear_own
from .saying import say_chunk, say_own

VERSION: Final = 2
METHODS: Final[Mapping[str, Method[Any, Any]]] = {
    method.name: method for method in wire.METHODS if not method.name.startswith(("mcp/", "proxy/"))
}
SPELLING: Final = Spelling(option="configId", group="groupId", typed=True)

_CHUNKS: Final = {
    "user": wire.UserMessageChunkSessionUpdate,
    "agent": wire.AgentMessageChunkSessionUpdate,
    "thought": wire.AgentThoughtChunkSessionUpdate,
}
_BODIES: Final[dict[str, type[Wire]]] = {
    "user_message": wire.UserMessageSessionUpdate,
    "agent_message": wire.AgentMessageSessionUpdate,
    "agent_thought": wire.AgentThoughtSessionUpdate,
    "state_update": wire.StateUpdateSessionUpdate,
    "tool_call_content_chunk": wire.ToolCallContentChunkSessionUpdate,
    "tool_call_update": wire.ToolCallUpdateSessionUpdate,
    "terminal_update": wire.TerminalUpdateSessionUpdate,
    "terminal_output_chunk": wire.TerminalOutputChunkSessionUpdate,
    "plan_update": wire.PlanUpdateSessionUpdate,
    "plan_removed": wire.PlanRemovedSessionUpdate,
    "subagent_update": wire.SubagentUpdateSessionUpdate,
    "session_message": wire.SessionMessageSessionUpdate,
    "session_message_chunk": wire.SessionMessageChunkSessionUpdate,
    "available_commands_update": wire.AvailableCommandsUpdateSessionUpdate,
    "config_option_update": wire.ConfigOptionUpdateSessionUpdate,
    "session_info_update": wire.SessionInfoUpdateSessionUpdate,
    "usage_update": wire.UsageUpdateSessionUpdate,
    "notice": wire.NoticeSessionUpdate,
    "compaction_update": wire.CompactionUpdateSessionUpdate,
    "compaction_summary_chunk": wire.CompactionSummaryChunkSessionUpdate,
}


def encode(update: Update) -> Iterable[Any]:
    """The `session/update` body that says `update`; none if v2 has no word for it."""
    match update:
        case MessageChunk(role, TextBlock(text) as block, str(id)) if not update.extra and not block.extra:
            return (_CHUNKS[role](message_id=id, content=wire.TextContentBlock(text=text)),)  # what is said most
        case MessageChunk():
            return (_CHUNKS[update.role].decode(say_chunk(update)),)
        case ModeChanged():
            return ()
        case Other():
            return (wire.UnknownSessionUpdate.decode(update.raw),)
        case _:
            said = say(update, SPELLING) or say_own(update)
            return (_BODIES[said["sessionUpdate"]].decode(said),)


def decode(update: Wire) -> Update:
    """The update that a `session/update` body says; `Other` if the vocabulary has no word for it."""
    raw = update.encode()
    if type(update) is wire.UnknownSessionUpdate:
        return Other(raw)
    return hear_own(raw) or hear(raw, SPELLING) or Other(raw)


class ReportV2(Report):
    """The params of `session/update`."""

    def encode(self) -> dict[str, Json]:
        body = plain_chunk(self.update)
        if body is None or "messageId" not in body:
            (model,) = encode(self.update)
            body = model.encode()
        return {"sessionId": self.session_id, "update": body, **self.extra}

    @classmethod
    def decode(cls, value: Json) -> ReportV2:
        """Raises `pydantic.ValidationError`."""
        if (heard := hear_plain_chunk(value)) is not None and heard[1].message_id is not None:
            return cls(*heard)
        said = wire.UpdateSessionNotification.decode(value)
        extra = {name: item for name, item in said.encode().items() if name not in ("sessionId", "update")}
        return cls(said.session_id, decode(said.update), extra)


REPORT: Final[Method[ReportV2, None]] = Method("session/update", "client", ReportV2)


def reports(session_id: str, update: Update) -> Iterable[ReportV2]:
    """The notification that says `update`; none if v2 has no word for it."""
    return () if isinstance(update, ModeChanged) else (ReportV2(session_id, update),)
