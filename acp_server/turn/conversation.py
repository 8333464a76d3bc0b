"""A session's history, and the part of it that fits the model's context window.

History is append-only, so that the model's cached prefix stays valid. Only when it would overflow are the
oldest tool results replaced by a placeholder, in one pass and for good, and after them the oldest turns
left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from ..model import Assistant, Message, ModelInfo, System, ToolResult, ToolSpec, Usage, User

PLACEHOLDER = "[this result was left out to save room; call the tool again if you need it]"
INTERRUPTED = "[interrupted by the user]"
FAILED = "[cut short by a failure]"
LEFT_OUT = "Earlier messages of this conversation were left out to save room."

OVERHEAD = 8
"""Bytes a message costs beyond its texts: the tags of the chat template."""


class ContextFull(Exception):
    """The conversation cannot be made to fit. `needed` and `available` are tokens, `needed` an estimate."""

    def __init__(self, needed: int, available: int) -> None:
        super().__init__(f"about {needed:,} tokens are needed and {available:,} fit")
        self.needed = needed
        self.available = available


class Conversation:
    """The messages of one session. `system` stays byte for byte the same."""

    def __init__(self, system: str, messages: Sequence[Message] = ()) -> None:
        self.system = System(system)
        self.messages: list[Message] = [*messages]
        self._turn_began = len(self.messages)
        self._first = 0
        self._counted = 0, 0
        self._shown_bytes = 0

    def begin(self, prompt: str) -> None:
        """A turn begins with what the user asked."""
        self._turn_began = len(self.messages)
        self.messages.append(User(prompt))

    def append(self, *messages: Message) -> None:
        self.messages.extend(messages)

    def abandon_turn(self) -> None:
        """Forget the turn that has just begun, if the model said nothing in it."""
        if not any(isinstance(m, Assistant) for m in self.messages[self._turn_began :]):
            del self.messages[self._turn_began :]

    def interrupt(self, text: str, thought: str, mark: str = INTERRUPTED) -> None:
        """Keep what the model had said when it was stopped, and mark it."""
        said = f"{text}\n{mark}" if text else mark
        self.append(Assistant(text=said, thought=thought))

    def counted(self, usage: Usage) -> None:
        """The backend counted the tokens of what `fit` returned last: estimate only what is added to that."""
        if usage.input > 0:
            self._counted = usage.input, self._shown_bytes

    def check(self, prompt: str, info: ModelInfo, tools: Sequence[ToolSpec]) -> None:
        """Raise `ContextFull` if a prompt could not be shown even with nothing before it. Changes nothing."""
        needed = (self._fixed(tools) + _bytes(User(prompt))) / info.bytes_per_token
        if needed > (room := info.context_size - reserve(info)):
            raise ContextFull(int(needed), room)

    def fit(self, info: ModelInfo, tools: Sequence[ToolSpec]) -> list[Message]:
        """The messages to show, leaving room for an answer. Raises `ContextFull`."""
        room = info.context_size - reserve(info)
        total = self._fixed(tools) + sum(map(_bytes, self.messages[self._first :]))
        if self._tokens(total, info) > room:
            # Below the limit by a quarter: the prefix changes once now and not again at the next step.
            too_much = self._tokens(total, info) - room * 3 / 4
            total -= self._prune(too_much * info.bytes_per_token)
            while self._tokens(total, info) > room and (freed := self._drop_oldest_turn()):
                total -= freed
        if (needed := self._tokens(total, info)) > room:
            raise ContextFull(int(needed), room)
        self._shown_bytes = total
        note = [System(LEFT_OUT)] if self._first and not info.compact else []
        return [self.system, *note, *self.messages[self._first :]]

    def _fixed(self, tools: Sequence[ToolSpec]) -> int:
        return _bytes(self.system) + sum(map(_spec_bytes, tools))

    def _tokens(self, total: int, info: ModelInfo) -> float:
        """How many tokens that many bytes are: what was counted, and an estimate for the difference."""
        tokens, known = self._counted
        return tokens + (total - known) / info.bytes_per_token

    def _prune(self, wanted: float) -> int:
        """Leave out the oldest results until that many bytes are freed, sparing the last step's; the bytes freed."""
        freed = 0
        last_step = max((i for i, m in enumerate(self.messages) if isinstance(m, Assistant)), default=0)
        for i in range(self._first, last_step):
            if freed >= wanted:
                break
            message = self.messages[i]
            if isinstance(message, ToolResult) and len(message.text) > len(PLACEHOLDER):
                self.messages[i] = replace(message, text=PLACEHOLDER)
                freed += _bytes(message) - _bytes(self.messages[i])
        return freed

    def _drop_oldest_turn(self) -> int:
        """Show the oldest turn no longer, unless it is the current one; the bytes freed."""
        later = range(self._first + 1, self._turn_began + 1)
        following = next((i for i in later if isinstance(self.messages[i], User)), None)
        if following is None:
            return 0
        freed = sum(map(_bytes, self.messages[self._first : following]))
        self._first = following
        return freed

    def __repr__(self) -> str:
        return f"<Conversation of {len(self.messages)} messages, shown from {self._first}>"


def reserve(info: ModelInfo) -> int:
    """Tokens kept free for the answer: a quarter of the window, at most 8,192."""
    return min(8192, info.context_size // 4)


def result_limit(info: ModelInfo) -> int:
    """Characters one tool result may have: an eighth of the window, at most 32,768."""
    return min(32768, int(0.12 * info.context_size * 3))


def _bytes(message: Message) -> int:
    size = len(message.text.encode("utf-8", "surrogatepass")) + OVERHEAD
    if isinstance(message, Assistant):
        size += len(message.thought.encode("utf-8", "surrogatepass"))
        size += sum(len(use.name) + len(json.dumps(dict(use.arguments))) for use in message.tool_uses)
    return size


def _spec_bytes(tool: ToolSpec) -> int:
    return len(json.dumps({"name": tool.name, "description": tool.description, "p": dict(tool.parameters)}))
