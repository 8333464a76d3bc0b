"""What an endpoint streams, as parts: every server's way to say a thought, a call and an end."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from ..model import Arguments, Part, Stop, StopReason, Text, Thought, ToolSpec, ToolUse, ToolUseStarted, Usage
from ..spelled.coercion import load_json
from .raw import CUT_OFF, RawText
from .shapes import count, items, mapping, text
from .traits import THOUGHTS

LARGEST_ANSWER = 2**26
"""Characters of one answer, thoughts and arguments included."""

ENDS: Mapping[str, StopReason] = {
    "length": "max_tokens",
    "max_tokens": "max_tokens",
    "content_filter": "refusal",
    "refusal": "refusal",
}
"""Finish reasons that mean something else than that the model was done."""


class Cut(Exception):
    """The answer stopped before it was over."""


class Overlong(Exception):
    """The answer has more than `LARGEST_ANSWER` characters."""


@dataclass(slots=True)
class _Call:
    """A call as far as it has come. `given` is the endpoint's own id of it."""

    id: str
    given: str = ""
    name: str = ""
    written: list[str] = field(default_factory=list[str])
    started: bool = False

    @property
    def arguments(self) -> str:
        return "".join(self.written)


@dataclass(slots=True)
class Answer:
    """One answer. Chunks go in, parts come out; `thoughts` is what the endpoint calls thoughts, once it had some."""

    tools: Sequence[ToolSpec]
    thoughts: str | None = None
    usage: Usage = field(default_factory=Usage)
    _raw: RawText = field(init=False)
    _calls: list[_Call] = field(default_factory=list[_Call])
    _places: dict[int, _Call] = field(default_factory=dict[int, _Call])
    _reason: str | None = None
    _refused: bool = False
    _size: int = 0

    def __post_init__(self) -> None:
        self._raw = RawText(self.tools, lambda: secrets.token_hex(8))

    def feed(self, chunk: Mapping[str, Any]) -> list[Part]:
        """The parts in one chunk of a stream, or in a whole answer at once. Raises Overlong."""
        self._count(chunk)
        choice = next(map(mapping, items(chunk.get("choices"))), mapping(None))
        self._reason = text(choice.get("finish_reason")) or self._reason
        return self._delta(mapping(choice.get("delta") or choice.get("message")))

    def finish(self, seconds: float, *, done: bool) -> list[Part]:
        """The last parts, `Stop` among them. `done`: the endpoint said that the answer is over. Raises Cut."""
        if self._reason == "error" or (self._reason is None and not done):
            raise Cut
        cut_off = self._reason in ("length", "max_tokens")
        parts = self._raw.finish(cut_off=cut_off)
        for n, call in enumerate(self._calls):
            parts += self._start(call)
            last = n == len(self._calls) - 1
            arguments, problem = arguments_of(call.arguments)
            if not call.name:
                problem = "the call has no name of a tool"
            elif problem and cut_off and last:
                problem = CUT_OFF
            parts.append(ToolUse(call.id, call.name, arguments, problem))
        called = self._calls or self._raw.calls
        reason: StopReason = "refusal" if self._refused else "tool_use" if called else "end_turn"
        return [*parts, Stop(ENDS.get(self._reason or "", reason), self.usage, seconds)]

    # Deltas --------------------------------------------------------------------------------------------

    def _delta(self, delta: Mapping[str, Any]) -> list[Part]:
        parts: list[Part] = []
        # One name, never both: some servers send the same thought under either.
        name = next((name for name in THOUGHTS if text(delta.get(name))), None)
        if name is not None:
            self.thoughts = name
            parts.append(Thought(self._grown(delta[name])))
        parts += self._content(delta.get("content"))
        if refusal := text(delta.get("refusal")):
            self._refused = True
            parts.append(Text(self._grown(refusal)))
        for piece in map(mapping, items(delta.get("tool_calls"))):
            parts += self._piece(piece) if piece else []
        return parts

    def _content(self, content: Any) -> list[Part]:
        if isinstance(content, str):
            return self._raw.feed(self._grown(content)) if content else []
        parts: list[Part] = []
        for block in map(mapping, items(content)):
            if said := text(block.get("text")):
                parts += self._raw.feed(self._grown(said))
            thinking = block.get("thinking")
            thought = text(thinking) or "".join(text(mapping(inner).get("text")) for inner in items(thinking))
            parts += [Thought(self._grown(thought))] if thought else []
        return parts

    def _piece(self, piece: Mapping[str, Any]) -> list[Part]:
        function = mapping(piece.get("function"))
        given, name, written = text(piece.get("id")), text(function.get("name")), function.get("arguments")
        more = written if isinstance(written, str) else "" if written is None else json.dumps(written)
        call, parts = self._call(piece.get("index"), given, name), list[Part]()
        call.given = call.given or given
        if name and not call.written and name != call.name:
            call.name += name
        if more:
            call.written.append(self._grown(more))
            parts += self._start(call)
        return parts

    def _call(self, index: Any, given: str, name: str) -> _Call:
        """The call that a piece belongs to, a new one if need be.

        Servers leave out the index, use one for all calls of an answer, or repeat id and name in every piece.
        """
        placed = isinstance(index, int)
        call = self._places.get(index) if placed else self._calls[-1] if self._calls else None
        if call is None or self._begins_another(call, given, name, placed=placed):
            call = _Call(secrets.token_hex(8))
            self._calls.append(call)
            if placed:
                self._places[index] = call
        return call

    def _begins_another(self, call: _Call, given: str, name: str, *, placed: bool) -> bool:
        """Whether a piece that could belong to `call` is the beginning of another one."""
        if given and call.given and given != call.given:
            return not placed or self._is_whole(call, name)
        return not placed and not given and self._is_whole(call, name)

    def _is_whole(self, call: _Call, name: str) -> bool:
        """Whether nothing is missing from the call, now that a name comes, which pieces of a call seldom repeat."""
        if not name or not call.name:
            return False
        if call.written:
            return arguments_of(call.arguments)[1] is None
        return {name, call.name} <= {tool.name for tool in self.tools}

    def _start(self, call: _Call) -> list[Part]:
        if call.started or not call.name:
            return []
        call.started = True
        return [ToolUseStarted(call.id, call.name)]

    # Counts --------------------------------------------------------------------------------------------

    def _grown(self, more: str) -> str:
        self._size += len(more)
        if self._size > LARGEST_ANSWER:
            raise Overlong
        return more

    def _count(self, chunk: Mapping[str, Any]) -> None:
        if usage := mapping(chunk.get("usage")):
            read, said = mapping(usage.get("prompt_tokens_details")), mapping(usage.get("completion_tokens_details"))
            self.usage = Usage(
                count(usage.get("prompt_tokens")),
                count(read.get("cached_tokens")),
                count(usage.get("completion_tokens")),
                count(said.get("reasoning_tokens")),
            )


def arguments_of(written: str) -> tuple[Arguments, str | None]:
    """A call's arguments, and what is wrong with them."""
    if not written.strip():
        return {}, None
    try:
        value = load_json(written)
        if isinstance(value, str):  # encoded twice
            value = load_json(value)
    except ValueError:
        return {}, "the arguments are not valid JSON"
    if value is None:
        return {}, None
    if not isinstance(value, dict):
        return {}, "the arguments are not a JSON object"
    return cast("dict[str, Any]", value), None
