"""What an agent has only when it is told so, and how its parts are said to be there."""

from __future__ import annotations

from typing import Any

from acp.unstable import Unstable

MARKS: tuple[Unstable, ...] = ("fork", "archive", "status", "title")
"""Those that are capabilities of sessions, by their names on the wire."""


def told(**fields: Any) -> dict[str, Any]:
    """The fields that have a value; what is None is not said."""
    return {name: value for name, value in fields.items() if value is not None}


NOT_OURS: frozenset[Unstable] = frozenset(("subagents", "plans"))
"""Parts that the agent of the command line has no use for: it makes no subagents, and only one plan of items."""
