"""What a version of the protocol offers the client, in no version's words.

`surface_v1` and `surface_v2` implement `Surface`. Neither is known above `opening`, which chooses one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from acp.connection import Connection, Handlers
from acp.dialect import Dialect
from acp.errors import ConnectionClosed, LocalProtocolError
from acp.methods import Method
from acp.unstable import METHODS, Unstable
from acp.updates import (
    Block,
    Choice,
    Command,
    ConfigOption,
    Json,
    OtherOption,
    ToolCallUpdate,
    TurnStopReason,
    Update,
)
from acp.wire import Wire

from .host.host import Host, Option
from .provided import Tell


@dataclass(frozen=True, slots=True)
class AgentInfo:
    """What an agent said of itself. Many leave out their name; `capabilities` and `auth_methods` are as on the wire."""

    version: int
    name: str = ""
    title: str = ""
    release: str = ""
    capabilities: Mapping[str, Json] = field(default_factory=dict[str, Json])
    auth_methods: tuple[Mapping[str, Json], ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one turn; None where the agent did not say."""

    total: int
    input: int
    output: int
    thought: int | None = None
    cached: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a turn ended: why, what it cost, and what else the agent said about it under `_meta`."""

    stop_reason: TurnStopReason | str
    usage: Usage | None = None
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class SessionCard:
    """A session in an agent's list. `extra` is what else the agent said of it."""

    id: str
    cwd: str
    title: str | None = None
    updated_at: str | None = None
    directories: tuple[str, ...] = ()
    archived: bool | None = None
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class Opened:
    """What an agent says of a session when it opens one. `mode` is v1's; v2 has an option for it."""

    id: str
    options: tuple[ConfigOption | OtherOption, ...] = ()
    commands: tuple[Command, ...] = ()
    mode: str | None = None
    modes: tuple[Choice, ...] = ()
    meta: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class SystemPrompt:
    """Instructions of the application for a session (unstable): behind the agent's own, or in their place."""

    text: str
    mode: Literal["append", "override"] = "append"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session works, with which MCP servers, as they are on the wire, and under which instructions."""

    cwd: str
    directories: Sequence[str] = ()
    mcp_servers: Sequence[Mapping[str, Json]] = ()
    system_prompt: SystemPrompt | None = None

    def directory_params(self, able: Wire | None) -> dict[str, Json]:
        """What a request says of the directories besides `cwd`. `able` is the agent's capability for them, if any.

        Raises LocalProtocolError for what the agent has not announced.
        """
        if self.directories and able is None:
            raise LocalProtocolError("additionalDirectories is not open: the agent works in one directory only")
        return {"additionalDirectories": [*self.directories]} if self.directories else {}

    def prompt_params(self, able: Wire | None, opened: Collection[Unstable]) -> dict[str, Json]:
        """What a request says of the instructions. `able` is the agent's capability for them, if it has one.

        Raises LocalProtocolError for what the agent has not announced, or was not opened here.
        """
        prompt = self.system_prompt
        if prompt is None:
            return {}
        if "system_prompt" not in opened or able is None:
            raise LocalProtocolError("systemPrompt is not open: the agent takes none, or the host did not name it")
        modes: Mapping[str, Json] = able.encode().get("mode") or {}
        if prompt.mode != "append" and modes.get(prompt.mode) is None:
            raise LocalProtocolError(f"the agent does not let its own instructions be replaced ({prompt.mode})")
        if not prompt.text:
            raise LocalProtocolError("the system prompt is empty")
        return {"systemPrompt": {"mode": prompt.mode, "content": [{"type": "text", "text": prompt.text}]}}


def drafts(dialect: Dialect, host: Host, announced: Mapping[Unstable, object]) -> list[Method[Any, Any]]:
    """The methods of what may still change that the host has opened and the agent announced, by a value not None."""
    return [
        dialect.methods[method]
        for name, methods in METHODS.items()
        if name in host.unstable and announced.get(name) is not None
        for method in methods
    ]


class Owner(Protocol):
    """Who a surface reports to."""

    async def updated(self, session_id: str, update: Update) -> None:
        """A session reports something. Called in the order of arrival; waiting here makes the agent wait."""
        ...

    async def asked(self, session_id: str, question: Question) -> str | None:
        """The agent asks for permission: the id of an option, or None."""
        ...

    async def mcp_asked(self, params: Mapping[str, Json], tell: Tell) -> dict[str, Json]:
        """The agent asks an MCP server of the host's: the answer, both as in `mcp/message`."""
        ...

    async def auth_changed(self, params: Mapping[str, Json]) -> None:
        """Who is logged in has changed: as in `auth/status_update`."""
        ...

    async def elicited(self, params: Mapping[str, Json]) -> dict[str, Json]:
        """The agent asks for the user's input: the answer, both as in `elicitation/create`."""
        ...


@dataclass(frozen=True, slots=True)
class Question:
    """A request for permission, as the agent put it."""

    call: ToolCallUpdate
    options: tuple[Option, ...]
    title: str = ""
    description: str | None = None


class PendingTurn(Protocol):
    """A turn that the agent was asked for."""

    async def ended(self) -> Ending:
        """Wait for its end. Cancelled, it tells the agent that nobody wants the answer any more."""
        ...


class Surface(Protocol):
    """A version's methods, as the client calls them.

    What the agent has not advertised raises LocalProtocolError, before a byte is sent.
    """

    handlers: Handlers
    connection: Connection
    drafts: list[Method[Any, Any]]
    """What is open of what may still change."""

    def __init__(self, host: Host, owner: Owner, connection: Connection) -> None: ...

    @staticmethod
    def capabilities(host: Host) -> dict[str, Json]:
        """What the host is capable of, in the version's words."""
        ...

    @property
    def dialect(self) -> Dialect: ...

    @property
    def info(self) -> AgentInfo: ...

    @property
    def takes_provided(self) -> bool:
        """Whether the agent reaches MCP servers over this connection."""
        ...

    @property
    def can_replay(self) -> bool:
        """Whether the agent tells what was said in a session when it opens it again; some can only go on with it."""
        ...

    def accept(self, answer: Json) -> None:
        """Take the agent's answer to `initialize` and open what it advertised. Raises ValidationError."""
        ...

    async def login(self, method_id: str) -> None: ...

    async def logout(self) -> None: ...

    async def new_session(self, place: Place) -> Opened: ...

    async def open_session(self, id: str, place: Place, *, replay: bool) -> Opened:
        """Open a session that the agent keeps; `replay` asks for its whole history before the answer."""
        ...

    async def rejoin(self, id: str, place: Place, prompt: str) -> tuple[Opened, PendingTurn | ConnectionClosed]:
        """Open a session on this connection that was open on another, where the turn of a prompt had not ended.

        The history is replayed, if the agent can; and how the turn goes on, or why it is lost.
        """
        ...

    async def fork_session(self, id: str, place: Place) -> Opened: ...

    async def list_sessions(
        self, cwd: str | None, cursor: str | None, archived: str | None
    ) -> tuple[list[SessionCard], str | None]:
        """One page, and where the next one begins; None at the end."""
        ...

    async def close_session(self, session_id: str) -> None: ...

    async def delete_session(self, session_id: str) -> None: ...

    async def set_option(
        self, session_id: str, option_id: str, value: str | bool
    ) -> tuple[ConfigOption | OtherOption, ...]: ...

    async def set_mode(self, session_id: str, mode: str) -> None: ...

    async def prompt(self, session_id: str, blocks: Sequence[Block], name: str | None = None) -> PendingTurn:
        """Begin a turn. What is said after this, a cancel say, is said behind it. By its name it is known again."""
        ...

    async def cancel(self, session_id: str) -> None: ...

    async def cancel_call(self, session_id: str, call_id: str) -> None: ...

    async def cancel_terminal(self, session_id: str, terminal_id: str) -> None: ...
