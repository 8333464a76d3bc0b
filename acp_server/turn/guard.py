"""Notices when a model goes round in circles.

Three malformed calls in a row, or the same call with the same result five times within a turn, earn one
reminder; the next such trouble ends the turn. Counting over the whole turn catches loops that alternate
between two calls.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Literal

from ..model import ToolResult, ToolUse

FORMAT_ERRORS = 3
REPEATS = 5

REMINDER_FORMAT = "Your last calls could not be read. Write one well-formed call of a tool you were given, or answer."
REMINDER_REPEAT = "You made the same call with the same result several times. Do something else, or answer."


class LoopGuard:
    """Counts the calls of one turn."""

    def __init__(self) -> None:
        self._malformed = 0
        self._seen: Counter[tuple[str, str, str]] = Counter()
        self.reminder = ""

    def note(self, use: ToolUse, result: ToolResult, *, malformed: bool) -> None:
        self._malformed = self._malformed + 1 if malformed else 0
        arguments = json.dumps(dict(use.arguments), sort_keys=True, default=str)
        self._seen[use.name, arguments, result.text] += 1

    def judge(self) -> Literal["go on", "remind", "stop"]:
        """What to do now. `reminder` is the text for the model after "remind"."""
        repeats = max(self._seen.values(), default=0)
        if self._malformed < FORMAT_ERRORS and repeats < REPEATS:
            return "go on"
        if self.reminder:
            return "stop"
        self.reminder = REMINDER_FORMAT if self._malformed >= FORMAT_ERRORS else REMINDER_REPEAT
        self._malformed = 0
        self._seen.clear()
        return "remind"
