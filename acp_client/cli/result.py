"""How a run of `acp exec` ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from acp.updates import MessageChunk, TextBlock, ToolCall, Update

from ..surface import Usage

TURN_META = "acp-laguna/turn"
"""Key in a turn's `_meta` under which our own agent says how long its model took."""
LONGEST_TEXT = 2**20
"""Characters of the agent's words that are kept; of more, the last."""


class Exit(IntEnum):
    """Exit statuses of `acp exec`."""

    DONE = 0
    ERROR = 1
    USAGE = 2
    PERMISSION = 3
    REFUSED = 4
    LIMIT = 5
    TIMEOUT = 124
    HANGUP = 129
    INTERRUPTED = 130
    PIPE = 141
    TERMINATED = 143

    @classmethod
    def of(cls, stop_reason: str) -> Exit:
        """The status of a turn that nobody stopped."""
        return _BY_REASON.get(stop_reason, cls.ERROR)

    @property
    def status(self) -> str:
        """A word for it."""
        return self.name.lower()


_BY_REASON = {
    "end_turn": Exit.DONE,
    "refusal": Exit.REFUSED,
    "max_tokens": Exit.LIMIT,
    "max_turn_requests": Exit.LIMIT,
}


@dataclass(frozen=True, slots=True)
class Result:
    """What there is to say at the end. `seconds` is the turn's; `text` is what the agent said last."""

    exit: Exit
    stop_reason: str | None = None
    text: str = ""
    usage: Usage | None = None
    seconds: float = 0.0
    tokens_per_second: float | None = None
    error: str | None = None


def tokens_per_second(usage: Usage | None, meta: Mapping[str, Any], seconds: float) -> float | None:
    """By the time of the agent's model where the agent says it, otherwise by the time of the whole turn."""
    if usage is None or not usage.output:
        return None
    cost: Any = meta.get(TURN_META)
    spent: Any = cost.get("modelSeconds") if isinstance(cost, Mapping) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    spent = spent if isinstance(spent, int | float) and spent > 0 else seconds
    return round(usage.output / spent, 1) if spent > 0 else None


class LastWords:
    """What the agent said since its last tool call."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._size = 0

    def update(self, update: Update) -> None:
        match update:
            case ToolCall():
                self._words, self._size = [], 0
            case MessageChunk("agent", TextBlock(text)):
                self._words.append(text)
                self._size += len(text)
                if self._size > 2 * LONGEST_TEXT:
                    self._words = [self.text]
                    self._size = len(self._words[0])
            case _:
                pass

    @property
    def text(self) -> str:
        return "".join(self._words)[-LONGEST_TEXT:]
