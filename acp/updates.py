"""What a session reports, in neither version's words.

An agent emits `Update` values and a client receives them; `acp.v1.dialect` and `acp.v2.dialect` turn them into
wire models and back. Values are frozen; what the vocabulary does not know travels as `Other`, `OtherBlock` or
`OtherContent`, whole, so that nothing is lost on the way through.

`extra` is what a value had on the wire beside the words below, `_meta` among it; it is sent on as it came.

In the patch types (`Message`, `ToolCallUpdate`, `Terminal`, `SessionInfo`, `Compaction`, `Subagent`, `SessionMessage`)
a field that is `UNSET` keeps what the receiver has, `None` clears it and a value replaces it.
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


@dataclass(frozen=True, slots=True)
class Message:
    """A message as a whole: `content` replaces all that came before under its id; chunks go on from there.

    v1 has no word for it; its dialect says the blocks as chunks.
    """

    role: Role
    message_id: str
    content: tuple[Block, ...] | Unset | None = UNSET
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


# Tool calls --------------------------------------------------------------------------------------------------

Capabilities = Mapping[str, Json]
"""What the client may do to a tool call or a terminal now, as it is on the wire; v1 has no word for it."""
CANCELLABLE: Final[Capabilities] = {"cancel": {}}


def may_cancel(capabilities: Capabilities | Unset | None) -> bool:
    """Whether the client may cancel what has these capabilities."""
    return isinstance(capabilities, Mapping) and isinstance(capabilities.get("cancel"), Mapping)


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
class FileChange:
    """One file of a `Changes`. `path` is where it is now; `old_path` where a moved or copied one was.

    `operation` is add, delete, modify, move, copy or one we do not know, which `extra` then holds as it came.
    """

    operation: str
    path: str = ""
    old_path: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Changes:
    """Changes of files as v2 says them; `patch` shows them, usually as a git patch. v1 has text for it."""

    files: tuple[FileChange, ...]
    patch: str | None = None
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


ToolContent = BlockContent | Diff | Changes | TerminalRef | OtherContent


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
    capabilities: Capabilities | Unset | None = UNSET
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
    capabilities: Capabilities | Unset | None = UNSET
    meta: Mapping[str, Json] | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class ToolContentChunk:
    """One more piece of what a tool call shows. v1 has no word for it."""

    id: str
    content: ToolContent
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


# Terminals of the agent; v1, whose terminals are the client's, has no word for them (but see `acp.v1.terminals`) ----


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a command ended: its exit code, or the signal that killed it."""

    code: int | None = None
    signal: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Terminal:
    """A terminal begins or changes. `output` (bytes in base64) replaces all output before it."""

    id: str
    command: str | Unset | None = UNSET
    cwd: str | Unset | None = UNSET
    output: str | Unset | None = UNSET
    exit: ExitStatus | Unset | None = UNSET
    capabilities: Capabilities | Unset | None = UNSET
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class TerminalChunk:
    """More output of a terminal: bytes in base64, encoded by themselves."""

    id: str
    data: str
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


# Plans, usage ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PlanEntry:
    content: str
    priority: Literal["high", "medium", "low"] = "medium"
    status: Literal["pending", "in_progress", "completed", "cancelled"] = "pending"
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


MAIN_PLAN: Final = "plan"
"""The id of v1's only plan."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The whole plan; it replaces the one before under its id."""

    entries: tuple[PlanEntry, ...]
    id: str = MAIN_PLAN
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class PlanFile:
    """A plan that is a file, by its URI (unstable); it replaces what was there under its id."""

    id: str
    uri: str
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class PlanText:
    """A plan in Markdown (unstable); it replaces what was there under its id."""

    id: str
    text: str
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class PlanRemoved:
    """A plan is gone (unstable)."""

    id: str
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class ContextUsage:
    """How much of the context window is used, in tokens."""

    used: int
    size: int
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


# What the session offers and is called ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """A slash command. `hint` says what may follow its name; None: nothing does."""

    name: str
    description: str
    hint: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Commands:
    """All commands there are; they replace those before."""

    commands: tuple[Command, ...]
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class ModeChanged:
    """The session is in another mode. v2 has no word for it: modes are options there."""

    mode: str
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Choice:
    """A value that an option may have. `group` is the heading it stands under: its id and its name."""

    value: str
    name: str
    description: str | None = None
    group: tuple[str, str] | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class ConfigOption:
    """A setting of the session: one of `choices`, or on and off, whose `value` is then a bool."""

    id: str
    name: str
    value: str | bool
    choices: tuple[Choice, ...] = ()
    description: str | None = None
    category: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class OtherOption:
    """A setting of a kind we do not know, as it is on the wire."""

    raw: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class ConfigOptions:
    """All settings with their values; they replace those before."""

    options: tuple[ConfigOption | OtherOption, ...]
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """The session's title and the time of its last change (RFC 3339)."""

    title: str | Unset | None = UNSET
    updated_at: str | Unset | None = UNSET
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to tell the user that is no part of the conversation; it is never replayed."""

    severity: Literal["info", "warning", "error"] | str
    title: str
    description: str | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Compaction:
    """The history is being summarised, or was."""

    id: str
    status: Literal["in_progress", "completed", "failed", "cancelled"] | str
    summary: tuple[Block, ...] | Unset | None = UNSET
    error: str | Unset | None = UNSET
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class CompactionChunk:
    """More of a compaction's summary."""

    id: str
    content: Block
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


# Turns -------------------------------------------------------------------------------------------------------

TurnStopReason = Literal["end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled", "error"]


@dataclass(frozen=True, slots=True)
class Work:
    """Something that goes on beside the turn: `type` is terminal, tool_call, subagent or one we do not know.

    `extra` holds the latter as it came.
    """

    type: str
    id: str = ""
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


Background = tuple[Work, ...] | None
"""All that goes on in the background; None: the agent did not say."""


@dataclass(frozen=True, slots=True)
class TurnStarted:
    """Foreground work begins, or goes on after `ActionRequired`. v1 has no word for it."""

    background: Background = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class ActionRequired:
    """All foreground work waits for the user. v1 has no word for it."""

    background: Background = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class TurnEnded:
    """Foreground work ended. In v1 it is the response of `session/prompt`; in v2 a `state_update` of idle.

    `stop_reason` None: the session is idle, which says nothing about a turn.
    """

    stop_reason: TurnStopReason | str | None
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])
    background: Background = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class StateUnknown:
    """The agent cannot tell whether foreground work goes on (unstable). v1 says it of subagents only."""

    background: Background = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


State = TurnStarted | ActionRequired | TurnEnded | StateUnknown
"""What foreground work a session has."""


# Sessions among themselves (unstable) ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Subagent:
    """A session that this one made and owns, or a change of what is known of it: the first comes before all it says.

    `state` mirrors its own; what the client may do to it is in `capabilities`.
    """

    session_id: str
    title: str | Unset | None = UNSET
    description: str | Unset | None = UNSET
    capabilities: Capabilities | Unset | None = UNSET
    state: State | Unset | None = UNSET
    cwd: str | Unset | None = UNSET
    directories: tuple[str, ...] | Unset | None = UNSET
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class SessionMessage:
    """A message from one session to another, as the transcript of one of them has it; chunks go on from `content`."""

    id: str
    sender: str | Unset | None = UNSET
    recipient: str | Unset | None = UNSET
    sender_message: str | Unset | None = UNSET
    recipient_message: str | Unset | None = UNSET
    content: tuple[Block, ...] | Unset | None = UNSET
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class SessionMessageChunk:
    """More of a message between sessions."""

    id: str
    content: Block
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Other:
    """An update that this vocabulary has no word for, as it is on the wire."""

    raw: Mapping[str, Json]


Update = (
    MessageChunk
    | Message
    | ToolCall
    | ToolCallUpdate
    | ToolContentChunk
    | Terminal
    | TerminalChunk
    | Plan
    | PlanFile
    | PlanText
    | PlanRemoved
    | ContextUsage
    | Commands
    | ModeChanged
    | ConfigOptions
    | SessionInfo
    | Notice
    | Compaction
    | CompactionChunk
    | TurnStarted
    | ActionRequired
    | TurnEnded
    | StateUnknown
    | Subagent
    | SessionMessage
    | SessionMessageChunk
    | Other
)
