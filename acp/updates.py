"""What a session reports, in neither version's words.

An agent emits `Update` values and a client receives them; `acp.v1.dialect` and `acp.v2.dialect` turn them into
wire models and back. Values are frozen; what the vocabulary does not know travels as `Other`, `OtherBlock` or
`OtherContent`, whole, so that nothing is lost on the way through.

`extra` is what a value had on the wire beside the words below, `_meta` among it; it is sent on as it came.

In the patch types (`ToolCallUpdate`) a field that is `UNSET` keeps what the receiver has, `None` clears it and a
value replaces it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Literal

Json = Any
"""A JSON value: None, bool, int, float, str, list or dict of these."""


class Unset(Enum):
    """The type of `UNSET`."""

    UNSET = "unset"

    def __bool__(self) -> bool:
        return False


UNSET: Final = Unset.UNSET
"""A field that was not given, as opposed to one that is null."""


# Content -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A content block of type text."""

    text: str
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class OtherBlock:
    """Any other content block (image, audio, resource_link, resource, or one we do not know), as it is on the wire."""

    raw: Mapping[str, Json]

    @property
    def type(self) -> str:
        return str(self.raw.get("type", ""))


Block = TextBlock | OtherBlock


# Messages ----------------------------------------------------------------------------------------------------

Role = Literal["user", "agent", "thought"]


@dataclass(frozen=True, slots=True)
class MessageChunk:
    """An increment of a message. Chunks of one `message_id` append, in order of arrival."""

    role: Role
    content: Block
    message_id: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


# Tool calls --------------------------------------------------------------------------------------------------

ToolKind = Literal["read", "edit", "delete", "move", "search", "execute", "think", "fetch", "switch_mode", "other"]
ToolStatus = Literal["pending", "in_progress", "completed", "failed", "cancelled", "paused"]
"""v1 has no `cancelled` and no `paused`; its dialect says `failed` and `pending`."""


@dataclass(frozen=True, slots=True)
class Location:
    """A file, by absolute path, that a tool call touches; `line` counts from 1."""

    path: str
    line: int | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class BlockContent:
    """A content block shown in a tool call."""

    block: Block
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Diff:
    """A change of one file, by absolute path. `old_text` None: the file is new."""

    path: str
    new_text: str
    old_text: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class TerminalRef:
    """A terminal shown in a tool call."""

    terminal_id: str
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class OtherContent:
    """Tool call content of a kind we do not know, as it is on the wire."""

    raw: Mapping[str, Json]


ToolContent = BlockContent | Diff | TerminalRef | OtherContent


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call is announced."""

    id: str
    title: str
    kind: ToolKind = "other"
    status: ToolStatus = "pending"
    content: tuple[ToolContent, ...] = ()
    locations: tuple[Location, ...] = ()
    raw_input: Json | Unset = UNSET
    raw_output: Json | Unset = UNSET
    name: str | None = None
    meta: Mapping[str, Json] | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class ToolCallUpdate:
    """A tool call changes. Only what is not `UNSET` changes; `content` and `locations` replace the whole list."""

    id: str
    title: str | Unset | None = UNSET
    kind: ToolKind | Unset | None = UNSET
    status: ToolStatus | Unset | None = UNSET
    content: tuple[ToolContent, ...] | Unset | None = UNSET
    locations: tuple[Location, ...] | Unset | None = UNSET
    raw_input: Json | Unset = UNSET
    raw_output: Json | Unset = UNSET
    name: str | Unset | None = UNSET
    meta: Mapping[str, Json] | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


# Plans, usage ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanEntry:
    content: str
    priority: Literal["high", "medium", "low"] = "medium"
    status: Literal["pending", "in_progress", "completed", "cancelled"] = "pending"
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan; it replaces the one before."""

    entries: tuple[PlanEntry, ...]
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class ContextUsage:
    """How much of the context window is used, in tokens."""

    used: int
    size: int
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


# Turns -------------------------------------------------------------------------------------------------------

TurnStopReason = Literal["end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """Foreground work begins. v1 has no word for it."""


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """Foreground work ended. In v1 it is the response of `session/prompt`; in v2 a `state_update` of idle."""

    stop_reason: TurnStopReason | str
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Other:
    """An update that this vocabulary has no word for, as it is on the wire."""

    raw: Mapping[str, Json]


Update = MessageChunk | ToolCall | ToolCallUpdate | Plan | ContextUsage | TurnStarted | TurnEnded | Other
