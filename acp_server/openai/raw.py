"""Thoughts and calls that a server left in the text, because it has no parser for its model: found while it streams.

Only what cannot be meant otherwise counts: a thought opens the answer; a call is `<tool_call>` and the name of a tool
that was offered, and stands in no code block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from ..model import Part, Text, Thought, ToolSpec, ToolUse, ToolUseStarted
from ..spelled.call import CALL_ENDS, NAME_ENDS, inside_a_value, parse_call

CUT_OFF = "the call was cut off; write long values in several calls"

THINK, THINK_END, CALL, FENCE = "<think>", "</think>", "<tool_call>", "```"


class RawText:
    """Turns increments of text into parts. `new_id` names a call; `calls` counts them."""

    def __init__(self, tools: Sequence[ToolSpec], new_id: Callable[[], str]) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._new_id = new_id
        self._held = ""
        self._body: str | None = None
        self._searched = 0
        self._fences = 0
        self._line = ""
        self._state: Literal["opening", "thought", "after a tag", "text"] = "opening"
        self.calls = 0

    def feed(self, text: str) -> list[Part]:
        """The parts that more text completes."""
        parts: list[Part] = []
        if self._body is not None:
            self._body += text
        else:
            self._held += text
        while self._advance(parts):
            pass
        return parts

    def finish(self, *, cut_off: bool = False) -> list[Part]:
        """The text is over: what is held is said, a call that was left open is reported."""
        parts: list[Part] = []
        if self._body is not None:
            parts += self._call(self._body, complete=False, cut_off=cut_off)
        elif self._held:
            parts.append(Thought(self._held) if self._state == "thought" else Text(self._held))
        self._held, self._body = "", None
        return parts

    # How it goes on ------------------------------------------------------------------------------------

    def _advance(self, parts: list[Part]) -> bool:
        """Say what is certain. Whether there may be more."""
        if self._body is not None:
            return self._advance_call(parts)
        match self._state:
            case "opening":
                begun = self._held.lstrip()
                if THINK.startswith(begun) and begun != THINK:
                    return False
                if begun.startswith(THINK):
                    self._state, self._held = "thought", begun.removeprefix(THINK)
                else:
                    self._state = "text"
                return True
            case "thought":
                return self._advance_thought(parts)
            case "after a tag":
                self._held = self._held.lstrip("\n")
                self._state = "text" if self._held else "after a tag"
                return bool(self._held)
            case "text":
                return self._advance_text(parts)

    def _advance_thought(self, parts: list[Part]) -> bool:
        end = self._held.find(THINK_END)
        certain = end if end >= 0 else len(self._held) - _undecided(self._held, THINK_END)
        if certain:
            parts.append(Thought(self._held[:certain]))
        self._held = self._held[certain:]
        if end < 0:
            return False
        self._state, self._held = "after a tag", self._held.removeprefix(THINK_END)
        return True

    def _advance_text(self, parts: list[Part]) -> bool:
        begin = self._held.find(CALL) if self._tools else -1
        if begin < 0:
            hold = _undecided(self._held, CALL) if self._tools else 0
            self._say(len(self._held) - hold, parts)
            return False
        self._say(begin, parts)
        rest = self._held[len(CALL) :]
        begins = False if self._fences % 2 else self._begins_call(rest)
        if begins is None:
            return False
        if begins:
            self._held, self._body, self._searched = "", rest, 0
        else:
            self._say(len(CALL), parts)
        return True

    def _advance_call(self, parts: list[Part]) -> bool:
        body = self._body or ""
        at = body.find(CALL_ENDS, self._searched)
        while at >= 0 and inside_a_value(body[:at]):
            at = body.find(CALL_ENDS, at + 1)
        if at < 0:
            self._searched = max(0, len(body) - len(CALL_ENDS))
            return False
        parts += self._call(body[:at], complete=True, cut_off=False)
        self._body, self._held, self._state = None, body[at + len(CALL_ENDS) :], "after a tag"
        return True

    def _call(self, body: str, *, complete: bool, cut_off: bool) -> list[Part]:
        name, arguments, problem = parse_call(body, self._tools, complete=complete)
        if cut_off:
            problem = CUT_OFF
        self.calls += 1
        id = self._new_id()
        return [ToolUseStarted(id, name), ToolUse(id, name, arguments, problem)]

    def _begins_call(self, rest: str) -> bool | None:
        """Whether what follows `<tool_call>` is a call of a tool that was offered; None: too early to say."""
        rest = rest.lstrip("\n ")
        if rest.startswith("{"):  # {"name": …}, as other models write it
            return True
        starts = [name + end for name in self._tools for end in (*NAME_ENDS, "{", " {")]
        if any(rest.startswith(start) for start in starts):
            return True
        return None if any(start.startswith(rest) for start in starts) else False

    def _say(self, size: int, parts: list[Part]) -> None:
        if not size:
            return
        text, self._held = self._held[:size], self._held[size:]
        *lines, rest = (self._line + text).split("\n")
        self._fences += sum(line.lstrip().startswith(FENCE) for line in lines)
        self._line = rest[:80]
        parts.append(Text(text))


def _undecided(text: str, tag: str) -> int:
    """Length of the text's tail that may yet become the tag."""
    return next((size for size in range(min(len(text), len(tag) - 1), 0, -1) if tag.startswith(text[-size:])), 0)
