"""The editor's side of a conversation, part by part.

A part that is given is a capability that is advertised and a method that is open; a part that is not, is neither.
There is no flag to keep in step with them.
"""

from __future__ import annotations

import os.path
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from acp.unstable import Unstable, opened
from acp.updates import Changes, Diff, Json, ToolCall

from .elicitation import Elicit
from .terminals import Terminals


@dataclass(frozen=True, slots=True)
class Option:
    """One answer to a permission request. `kind` is allow_once, allow_always, reject_once or reject_always."""

    id: str
    name: str
    kind: str
    extra: Mapping[str, Json] = field(default_factory=dict[str, Json])


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """The agent asks whether it may make a tool call.

    `call` has all that is known of it: what the request said, over what was announced before. `cwd` is the
    session's directory. `title` is the question, in version 1 the call's title.
    """

    session_id: str
    cwd: str
    call: ToolCall
    options: tuple[Option, ...]
    title: str = ""
    description: str | None = None

    def choose(self, *kinds: str) -> str | None:
        """The id of the first option of the first of these kinds that is offered; two may be of one kind."""
        return next((option.id for kind in kinds for option in self.options if option.kind == kind), None)

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that the call says it touches."""
        found: list[str] = []
        for item in self.call.content:
            match item:
                case Diff(path):
                    found.append(path)
                case Changes(files):
                    found += [path for file in files for path in (file.old_path, file.path) if path]
                case _:
                    pass
        return tuple(dict.fromkeys([*found, *(location.path for location in self.call.locations)]))


Ask = Callable[[PermissionRequest], Awaitable[str | None]]
"""Decides: the id of an option, or None to dismiss the request without an answer, which tells the agent `cancelled`.

It is cancelled when the turn is, and when the agent withdraws the request.
"""


class Files(Protocol):
    """The editor's files, unsaved changes included. Paths are absolute. Both raise OSError."""

    async def read_text(self, path: str, *, line: int | None = None, limit: int | None = None) -> str:
        """The text from `line` (counted from 1; None: the first), `limit` lines of it (None: all)."""
        ...

    async def write_text(self, path: str, text: str) -> None:
        """Make `text` the whole content of the file, creating it if it does not exist."""
        ...


async def reject_all(request: PermissionRequest) -> str | None:
    """Reject every call."""
    return request.choose("reject_once", "reject_always")


async def allow_all(request: PermissionRequest) -> str | None:
    """Allow every call, this once; reject one that nothing allows."""
    return request.choose("allow_once", "allow_always", "reject_once", "reject_always")


async def allow_edits(request: PermissionRequest) -> str | None:
    """Allow edits of files in the session's directory, reject everything else."""
    return await allow_edits_or(reject_all)(request)


def allow_edits_or(ask: Ask) -> Ask:
    """Allow edits of files in the session's directory, ask about everything else."""

    async def answer(request: PermissionRequest) -> str | None:
        if is_edit_inside(request):
            return await allow_all(request)
        return await ask(request)

    return answer


def is_edit_inside(request: PermissionRequest) -> bool:
    """Whether the call edits files, says which, and all of them are in the session's directory and not in `.git`."""
    if request.call.kind != "edit" or not request.paths:
        return False
    root = os.path.realpath(request.cwd)
    for path in request.paths:
        inside = os.path.relpath(os.path.realpath(path), root).split(os.sep)
        if not os.path.isabs(path) or inside[0] == os.pardir or ".git" in inside:
            return False
    return True


@dataclass(frozen=True, slots=True)
class Host:
    """What the client does for the agent. `ask` is part of every client, as the protocol has it.

    `agent_terminals`: in version 1 too the output of the agent's own commands comes as terminals (`acp.v1.terminals`),
    as it always does in version 2, and no longer as text in their calls.

    `mcp_servers` are servers of the `mcp` package (extra `mcp`) that run in this process: every session is offered
    them, by these names, if the agent takes such servers (unstable).

    `unstable` opens what the protocol may still change, by name (`acp.unstable`), as far as the agent has it.
    """

    ask: Ask = reject_all
    files: Files | None = None
    terminals: Terminals | None = None
    elicit: Elicit | None = None
    agent_terminals: bool = False
    mcp_servers: Mapping[str, Any] = field(default_factory=dict[str, Any])
    unstable: Collection[Unstable] = ()

    def __post_init__(self) -> None:
        opened(self.unstable)
