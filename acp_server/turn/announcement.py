"""A tool call as the user first sees it."""

from __future__ import annotations

from collections.abc import Mapping

from acp.updates import TerminalRef, ToolCall, ToolKind

from ..action import Action
from ..model import ToolUse
from ..wording import title

_KINDS: Mapping[str, ToolKind] = {
    "read": "read",
    "list_directory": "read",
    "glob": "search",
    "grep": "search",
    "edit": "edit",
    "write": "edit",
    "shell": "execute",
    "shell_status": "read",
    "shell_tail": "read",
    "shell_kill": "execute",
}
"""The kinds of calls that could not be prepared."""


def announcement(id: str, use: ToolUse, action: Action | None) -> ToolCall:
    """All there is to judge the call by; without an action, what the model wrote is all there is."""
    if action is None:
        subject = next((value for value in use.arguments.values() if isinstance(value, str)), "")
        heading = title(f"{use.name or 'malformed call'} {subject}".strip())
        kind = _KINDS.get(use.name, "other")
        return ToolCall(id, heading, kind, raw_input=dict(use.arguments), name=use.name or None)
    return ToolCall(
        id,
        action.title,
        action.kind,
        content=action.content if action.terminal is None else (*action.content, TerminalRef(id)),
        locations=action.locations,
        raw_input=dict(use.arguments),
        name=use.name,
        meta={"tool_name": use.name},
    )
