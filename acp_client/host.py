"""The editor's side of a session: what the agent may ask of its client.

A `Host` is made of parts. A part that is there is advertised and its methods are open; one that is not there is not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from acp.updates import ToolCallUpdate

OptionKind = Literal["allow_once", "allow_always", "reject_once", "reject_always"]


@dataclass(frozen=True, slots=True)
class Option:
    """One answer to a permission request. `kind` is a word of the protocol, or one that this version does not know."""

    id: str
    name: str
    kind: OptionKind | str


@dataclass(frozen=True, slots=True)
class PermissionRequest:
    """The agent asks whether it may make a tool call."""

    session_id: str
    call: ToolCallUpdate
    options: tuple[Option, ...]

    def choose(self, *kinds: OptionKind) -> str | None:
        """The id of the first option of the first of these kinds that is offered."""
        for kind in kinds:
            for option in self.options:
                if option.kind == kind:
                    return option.id
        return None


Ask = Callable[[PermissionRequest], Awaitable[str | None]]
"""Decides: the id of an option, or None for none of them, which the agent takes as a cancelled request."""


class Files(Protocol):
    """The editor's files, unsaved changes included. Paths are absolute. Both raise OSError."""

    async def read_text(self, path: str, *, line: int | None = None, limit: int | None = None) -> str:
        """The text, or `limit` lines of it from `line` on, counted from 1."""
        ...

    async def write_text(self, path: str, text: str) -> None:
        """Write the file, making it if need be."""
        ...


@dataclass(frozen=True)
class Host:
    """What a client offers to its agent."""

    ask: Ask
    files: Files | None = None


async def allow_all(request: PermissionRequest) -> str | None:
    """Allow whatever is asked."""
    return request.choose("allow_once", "allow_always")


async def allow_edits(request: PermissionRequest) -> str | None:
    """Allow edits of files, reject all else."""
    if request.call.kind == "edit":
        return request.choose("allow_once", "allow_always")
    return await reject_all(request)


async def reject_all(request: PermissionRequest) -> str | None:
    """Reject whatever is asked."""
    return request.choose("reject_once", "reject_always")
