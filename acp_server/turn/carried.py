"""What is carried over, word for word, when a summary comes in the place of messages."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from ..model import Assistant, Message, User
from ..wording import bounded

LEAST = 400
"""Characters of one of the user's messages, at least; where they are too many for that, the oldest are left out."""
CHANGES = frozenset({"edit", "write"})
PLAN = "todo_action"


def carried(messages: Sequence[Message], summary: str, room: int) -> str:
    """The summary of the messages, and with it what no summary may lose, in about `room` characters.

    That is what the user has said, the plan as it was last set, and which files were changed.
    """
    said = [message.text for message in messages if isinstance(message, User)]
    share = max(LEAST, _share([len(text) for text in said], room))
    said = [bounded(text, share) for text in said]
    sizes = list(accumulate(len(text) for text in reversed(said)))
    said = said[-max(1, bisect_right(sizes, room)) :]
    parts = ["The beginning of this conversation is left out to save room. This stands for it."]
    if said:
        parts += ["# What the user has said, word for word", *(f"{n}. {text}" for n, text in enumerate(said, 1))]
    uses = [use for message in messages if isinstance(message, Assistant) for use in message.tool_uses]
    changed = dict.fromkeys(str(use.arguments.get("path")) for use in uses if use.name in CHANGES)
    if changed:
        parts += ["# Files that were changed", bounded("\n".join(changed), room // 4)]
    plans = [use for use in uses if use.name == PLAN and use.problem is None]
    if plans:
        parts += ["# The plan as it was last set", bounded(json.dumps(dict(plans[-1].arguments)), room // 4)]
    return "\n\n".join([*parts, "# Summary of what was done", summary])


def _share(sizes: Sequence[int], room: int) -> int:
    """The most that each may have so that all of them have room: what the small ones leave is for the large ones."""
    share = room
    for n, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - n)
        if size > share:
            break
        room -= size
        share = size
    return share
