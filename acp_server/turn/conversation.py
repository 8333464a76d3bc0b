"""A session's history, and the part of it that fits the model's context window.

History is append-only, so that the model's cached prefix stays valid. Only when it would overflow are the
oldest tool results replaced by a placeholder, in one pass and for good. If that is not enough, a summary of the model's
own (`compaction`) comes in the place of all but the last steps, or, where there is none, the oldest turns are left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from ..model import Assistant, Message, ModelInfo, Summary, System, ToolResult, ToolSpec, Usage, User
from .carried import carried

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
    """The messages of one session. `system` stays byte for byte the same.

    `summary` is what the model made of the messages before the first that is shown, if it was asked to.
    """

    def __init__(self, system: str, messages: Sequence[Message] = (), summary: Summary | None = None) -> None:
        self.system = System(system)
        self.messages: list[Message] = [*messages]
        self.summary = summary
        self._turn_began = len(self.messages)
        self._first = summary.first if summary else 0
        self._counted = 0, 0
        self._shown_bytes = 0
        self._carried = User("")
        self._carried_for: tuple[int, Summary, ModelInfo] | None = None

    def begin(self, prompt: str | None) -> None:
        """A turn begins, with what the user asked of the model, if anything."""
        self._turn_began = len(self.messages)
        if prompt is not None:
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

    def make_room(self, info: ModelInfo, tools: Sequence[ToolSpec]) -> bool:
        """If the messages do not fit, leave out results that are not needed any more; whether they fit then."""
        room = info.context_size - reserve(info)
        if (tokens := self.tokens(info, tools)) <= room:
            return True
        # Below the limit by a quarter: the prefix changes once now and not again at the next step.
        self._prune((tokens - room * 3 / 4) * info.bytes_per_token)
        return self.tokens(info, tools) <= room

    def fit(self, info: ModelInfo, tools: Sequence[ToolSpec]) -> list[Message]:
        """The messages to show, leaving room for an answer. Raises `ContextFull`."""
        room = info.context_size - reserve(info)
        if not self.make_room(info, tools):
            while self.tokens(info, tools) > room and self._drop_oldest_turn():
                pass
        if (needed := self.tokens(info, tools)) > room:
            raise ContextFull(int(needed), room)
        self._shown_bytes = self._total(info, tools)
        return [self.system, *self._head(info), *self.messages[self._first :]]

    def tokens(self, info: ModelInfo, tools: Sequence[ToolSpec]) -> float:
        """How many tokens what is shown is: what was counted, and an estimate for what came since.

        Of what was counted, a part of the bytes is that part of the tokens.
        """
        (tokens, known), total = self._counted, self._total(info, tools)
        return tokens * total / known if total < known else tokens + (total - known) / info.bytes_per_token

    # A summary -----------------------------------------------------------------------------------

    @property
    def first(self) -> int:
        """The number of the first message that is shown as it was said."""
        return self._first

    def spared(self, info: ModelInfo, share: float) -> int:
        """The first message that a summary should not cover: of the last ones a share of the room stays as it is.

        At least the last step, or the prompt, stays. `first` when there is nothing before that.
        """
        spare = share * (info.context_size - reserve(info)) * info.bytes_per_token
        first = len(self.messages)
        for i in range(len(self.messages) - 1, self._first, -1):
            spare -= _bytes(self.messages[i])
            if spare < 0 and first < len(self.messages):
                break
            if isinstance(self.messages[i], User | Assistant):
                first = i
        return first if first < len(self.messages) else self._first

    def past(self, info: ModelInfo, tools: Sequence[ToolSpec], end: int, request: User, answer: int) -> list[Message]:
        """The messages before `end` and a request about them, with room for an answer of so many tokens.

        Where not all of them fit, the oldest are left out.
        """
        first, head = self._first, [self.system, *self._head(info)]
        tokens, known = self._counted
        per_token = min(info.bytes_per_token, known / tokens) if tokens else info.bytes_per_token
        room = (info.context_size - answer) * per_token
        size = self._fixed(tools) + sum(map(_bytes, (*head[1:], *self.messages[first:end], request)))
        while size > room and first < end:
            size -= _bytes(self.messages[first])
            first += 1
            while first < end and isinstance(self.messages[first], ToolResult):  # it goes with its call
                size -= _bytes(self.messages[first])
                first += 1
        return [*head, *self.messages[first:end], request]

    def summarised(self, summary: Summary) -> None:
        """From here on a summary is shown in the place of what is before its first message."""
        self.summary = summary
        self._first = summary.first

    def _head(self, info: ModelInfo) -> list[Message]:
        """What stands for the messages that are not shown."""
        if self.summary is not None:
            key = self._first, self.summary, info
            if key != self._carried_for:
                room = (info.context_size - reserve(info)) / 4 * info.bytes_per_token
                self._carried = User(carried(self.messages[: self._first], self.summary.text, int(room)))
                self._carried_for = key
            return [self._carried]
        return [System(LEFT_OUT)] if self._first and not info.compact else []

    def _fixed(self, tools: Sequence[ToolSpec]) -> int:
        return _bytes(self.system) + sum(map(_spec_bytes, tools))

    def _total(self, info: ModelInfo, tools: Sequence[ToolSpec]) -> int:
        return self._fixed(tools) + sum(map(_bytes, (*self._head(info), *self.messages[self._first :])))

    def _prune(self, wanted: float) -> None:
        """Leave out the oldest results until that many bytes are freed, sparing the last step's."""
        freed = 0
        last_step = max((i for i, m in enumerate(self.messages) if isinstance(m, Assistant)), default=0)
        for i in range(self._first, last_step):
            if freed >= wanted:
                break
            message = self.messages[i]
            if isinstance(message, ToolResult) and len(message.text) > len(PLACEHOLDER):
                self.messages[i] = replace(message, text=PLACEHOLDER)
                freed += _bytes(message) - _bytes(self.messages[i])

    def _drop_oldest_turn(self) -> bool:
        """Show the oldest turn no longer, unless it is the current one; whether there was one."""
        later = range(self._first + 1, self._turn_began + 1)
        following = next((i for i in later if isinstance(self.messages[i], User)), None)
        if following is not None:
            self._first = following
        return following is not None

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
