"""What the protocol may still change, by name: neither side speaks of it unless its application opens it so.

fork           session/fork                          auth_status    auth/status, auth/status_update
archive        session/archive, session/unarchive    providers      providers/list, providers/set, providers/disable
status         session/status                        system_prompt  `systemPrompt` of requests that open a session
title          session/set_title                     plans          plans in files and in Markdown, several of them
mcp_over_acp   mcp/message                           subagents      sessions of sessions, and messages among them

Our agent makes no subagents and tells of one plan only: it takes all names but `subagents`, and its command neither
that nor `plans`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal, get_args

Unstable = Literal[
    "fork",
    "archive",
    "status",
    "title",
    "auth_status",
    "providers",
    "system_prompt",
    "plans",
    "subagents",
    "mcp_over_acp",
]

METHODS: Final[Mapping[Unstable, tuple[str, ...]]] = {
    "fork": ("session/fork",),
    "archive": ("session/archive", "session/unarchive"),
    "status": ("session/status",),
    "title": ("session/set_title",),
    "auth_status": ("auth/status",),
    "providers": ("providers/list", "providers/set", "providers/disable"),
}
"""What a client may ask of an agent that has announced it."""


def opened(names: Iterable[Unstable]) -> frozenset[Unstable]:
    """The names as a set. Raises ValueError for one that nothing has."""
    named = frozenset(names)
    if unknown := named - {*get_args(Unstable)}:
        raise ValueError(f"no unstable part is called {', '.join(sorted(unknown))}")
    return named
