"""A tool call between being asked for and being done.

A tool first *prepares* an `Action`: it validates the arguments, resolves the paths and works out what
would happen, changing nothing. The turn loop shows the action (title, diff, locations), asks permission if
the action says so, and only then runs it. So what the user agrees to is what is done.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from acp.updates import Location, PlanEntry, ToolContent, ToolKind


class ToolProblem(Exception):
    """The call cannot be made, in words that tell the model what to do next.

    The text has no `error:` prefix.
    """


@dataclass(frozen=True, slots=True)
class Permission:
    """What must be allowed before an action runs.

    `scope` is what the user's policy speaks of; `key` is what "always" would remember (a directory for
    edits, an argv prefix for commands, a tool of an MCP server), shown word for word in `always_name`. `always_name`
    None: there is no "always".
    """

    scope: Literal["edit", "execute", "mcp", "protected"]
    key: str = ""
    always_name: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an action did. `text` is for the model, the rest for the client."""

    text: str
    content: tuple[ToolContent, ...] = ()
    raw_output: Any = None
    failed: bool = False
    locations: tuple[Location, ...] = ()


Report = Callable[[tuple[ToolContent, ...]], Awaitable[None]]
"""Shows the content of a running action so far; the turn loop limits how often the client sees it."""


class Shown(Protocol):
    """The terminal that an action will run in."""

    async def announce(self, id: str) -> None:
        """Tell of it, before the call that shows it; the terminal has the call's id."""
        ...

    async def leave(self) -> None:
        """Tell that it has ended, if nobody has: its call ends."""
        ...


@dataclass(frozen=True, slots=True)
class Action:
    """A prepared tool call. `run` may be awaited once.

    It raises `ToolProblem` when it finds that it cannot.
    """

    title: str
    kind: ToolKind
    run: Callable[[Report], Awaitable[Outcome]]
    permission: Permission | None = None
    content: tuple[ToolContent, ...] = ()
    locations: tuple[Location, ...] = ()
    reads_only: bool = False
    plan: tuple[PlanEntry, ...] | None = field(default=None)
    terminal: Shown | None = None
