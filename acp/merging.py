"""A tool call as it stands: its announcement and every change since."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from .updates import UNSET, ToolCall, ToolCallUpdate

FIELDS: Final = ("title", "kind", "status", "content", "locations", "raw_input", "raw_output", "name", "capabilities")
"""The fields of a call that may change."""
_EMPTY: Final[dict[str, Any]] = {
    "title": "",
    "kind": "other",
    "status": "pending",
    "content": (),
    "locations": (),
    "name": None,
    "capabilities": None,
}
"""What null makes of a field."""


def merged(call: ToolCall | None, update: ToolCallUpdate) -> ToolCall:
    """The call after the update; of a call that was never announced, what the update says is all there is."""
    if call is None:
        call = ToolCall(update.id, "")
    given: dict[str, Any] = {}
    for name in FIELDS:
        value = getattr(update, name)
        if value is not UNSET:
            given[name] = _EMPTY.get(name) if value is None else value
    return replace(call, **given)
