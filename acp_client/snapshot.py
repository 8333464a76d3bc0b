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
    Role,
    TextBlock,
    ToolCall,
    Work,
)

Kind = Literal["message", "call", "plan", "terminal", "compaction", "notice", "session", "state"]


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
class Snapshot:
    """A session at one moment. `order` has the kind and the id of what is shown, as it first appeared."""

    order: tuple[tuple[Kind, str], ...] = ()
    messages: Mapping[str, SaidMessage] = field(default_factory=dict[str, SaidMessage])
    calls: Mapping[str, ToolCall] = field(default_factory=dict[str, ToolCall])
    plans: Mapping[str, Plan] = field(default_factory=dict[str, Plan])
    terminals: Mapping[str, ShownTerminal] = field(default_factory=dict[str, ShownTerminal])
    compactions: Mapping[str, Summary] = field(default_factory=dict[str, Summary])
    notices: tuple[Notice, ...] = ()
    options: tuple[ConfigOption | OtherOption, ...] = ()
    mode: str | None = None
    commands: tuple[Command, ...] = ()
    title: str | None = None
    updated_at: str | None = None
    usage: ContextUsage | None = None
    state: Literal["idle", "running", "requires_action"] = "idle"
    stop_reason: str | None = None
    background: tuple[Work, ...] = ()
    turns: int = 0
    unknown: int = 0
    """Updates that nothing here has a word for."""
