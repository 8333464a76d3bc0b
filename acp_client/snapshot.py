"""A session as it stands, as one frozen value: what a user interface draws, the same for every version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from acp.updates import (
    Block,
    Capabilities,
    Command,
    ConfigOption,
    ContextUsage,
    ExitStatus,
    Notice,
    OtherOption,
    Plan,
    PlanFile,
    PlanText,
    Role,
    State,
    TextBlock,
    ToolCall,
    Work,
)

Kind = Literal[
    "message", "call", "plan", "terminal", "compaction", "subagent", "session_message", "notice", "session", "state"
]  # fmt: skip


AnyPlan = Plan | PlanFile | PlanText


@dataclass(frozen=True, slots=True)
class Change:
    """Something is new or different. `id` is empty where there is only one of the kind."""

    kind: Kind
    id: str = ""


@dataclass(frozen=True, slots=True)
class SaidMessage:
    """A message as it stands; texts that follow each other are one block."""

    role: Role
    id: str
    content: tuple[Block, ...]

    @property
    def text(self) -> str:
        return "".join(block.text for block in self.content if isinstance(block, TextBlock))


@dataclass(frozen=True, slots=True)
class ShownTerminal:
    """A terminal of the agent as it stands. `output` are its last bytes; `cut` says that there were more."""

    id: str
    command: str | None = None
    cwd: str | None = None
    output: bytes = b""
    cut: bool = False
    exit: ExitStatus | None = None
    capabilities: Capabilities | None = None


@dataclass(frozen=True, slots=True)
class Summary:
    """A compaction as it stands."""

    id: str
    status: str
    content: tuple[Block, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class ShownSubagent:
    """A session that this one made, as it stands; in `Session.subagents` is what it says itself.

    `state` None: nobody said. Without a `cwd` of its own it works where its parent does.
    """

    id: str
    title: str | None = None
    description: str | None = None
    capabilities: Capabilities | None = None
    state: State | None = None
    cwd: str | None = None
    directories: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class PassedMessage:
    """A message from one session to another as it stands: the sessions' ids, and the message's id in the other's."""

    id: str
    sender: str | None = None
    recipient: str | None = None
    sender_message: str | None = None
    recipient_message: str | None = None
    content: tuple[Block, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A session at one moment. `order` has the kind and the id of what is shown, as it first appeared."""

    order: tuple[tuple[Kind, str], ...] = ()
    messages: Mapping[str, SaidMessage] = field(default_factory=dict[str, SaidMessage])
    calls: Mapping[str, ToolCall] = field(default_factory=dict[str, ToolCall])
    plans: Mapping[str, AnyPlan] = field(default_factory=dict[str, AnyPlan])
    terminals: Mapping[str, ShownTerminal] = field(default_factory=dict[str, ShownTerminal])
    compactions: Mapping[str, Summary] = field(default_factory=dict[str, Summary])
    subagents: Mapping[str, ShownSubagent] = field(default_factory=dict[str, ShownSubagent])
    session_messages: Mapping[str, PassedMessage] = field(default_factory=dict[str, PassedMessage])
    notices: tuple[Notice, ...] = ()
    options: tuple[ConfigOption | OtherOption, ...] = ()
    mode: str | None = None
    commands: tuple[Command, ...] = ()
    title: str | None = None
    updated_at: str | None = None
    usage: ContextUsage | None = None
    state: Literal["idle", "running", "requires_action", "unknown"] = "idle"
    stop_reason: str | None = None
    background: tuple[Work, ...] = ()
    turns: int = 0
    unknown: int = 0
    """Updates that nothing here has a word for."""
