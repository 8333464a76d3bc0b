"""What a version of the protocol offers the client, in no version's words.

`surface_v1` implements `Surface` with version 1; version 2 joins as `surface_v2`. Neither is known above `client`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from acp.dialect import Dialect
from acp.updates import Block, Json, ToolCallUpdate, TurnStopReason, Update

from .host import Option


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


class Owner(Protocol):
    """Who a surface reports to."""

    async def updated(self, session_id: str, update: Update) -> None:
        """A session reports something. Called in the order of arrival; waiting here makes the agent wait."""
        ...

    async def asked(self, session_id: str, call: ToolCallUpdate, options: Sequence[Option]) -> str | None:
        """The agent asks for permission: the id of an option, or None."""
        ...


class PendingTurn(Protocol):
    """A turn that the agent was asked for."""

    async def ended(self) -> Ending:
        """Wait for its end. Cancelled, it tells the agent that nobody wants the answer any more."""
        ...


class Surface(Protocol):
    """A version's methods, as the client calls them."""

    @property
    def dialect(self) -> Dialect: ...

    @property
    def info(self) -> AgentInfo: ...

    async def new_session(self, cwd: str, *, directories: Sequence[str] = ()) -> str: ...

    async def prompt(self, session_id: str, blocks: Sequence[Block]) -> PendingTurn:
        """Begin a turn. What is said after this, a cancel say, is said behind it."""
        ...

    async def cancel(self, session_id: str) -> None: ...

    async def close_session(self, session_id: str) -> None: ...
