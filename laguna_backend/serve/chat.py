"""Chat completions: a conversation in, and what the model thinks, says and calls out, whole or in deltas."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from acp_server.model import Part, Stop, Text, Thought, ToolUse, ToolUseArguments, ToolUseStarted, Usage

from ..backend import LagunaBackend
from ..chat.arguments import arguments_json
from ..engine.request import Step
from ..speaker import Spoken, message_of
from .asked import ChatAsked
from .logprobs import Alphabet
from .recollection import Recollection

REASONS = {"end_turn": "stop", "max_tokens": "length", "tool_use": "tool_calls"}

Payload = dict[str, Any]


@dataclass
class ChatAnswer:
    """One answer to one request. Raises Refused when it is made, and ModelError as it goes."""

    backend: LagunaBackend
    asked: ChatAsked
    principal: str
    model: str
    alphabet: Alphabet
    recollection: Recollection

    def __post_init__(self) -> None:
        asked = self.asked
        self.conversation = self.recollection.recognised(self.principal, asked.conversation())
        self.tools = asked.offered()
        self.sampling = replace(
            asked.sampling(self.principal),
            max_tokens=asked.max_completion_tokens or asked.max_tokens,
            thinking=asked.thinking,
            thinking_budget=asked.thinking_budget,
        )
        self.extras = replace(
            asked.extras(asked.alternatives),
            must_call=asked.must_call,
            one_call=asked.parallel_tool_calls is False,
        )
        self.id, self.created = f"chatcmpl-{secrets.token_hex(12)}", int(time.time())

    async def spoken(self) -> AsyncGenerator[Spoken, None]:
        """What the model says; that it said it is remembered."""
        parts = list[Part]()
        async with aclosing(self.backend.speak(self.conversation, self.tools, self.sampling, self.extras)) as spoken:
            async for one in spoken:
                parts += one.parts
                yield one
        if parts and isinstance(stop := parts[-1], Stop) and stop.step_id:
            self.recollection.remember(self.principal, self.conversation, message_of(parts, stop.step_id))

    async def whole(self) -> Payload:
        """The answer in one piece."""
        text, thought, calls, written = list[str](), list[str](), list[Payload](), dict[str, str]()
        steps, stop = list[Step](), Stop("end_turn")
        async with aclosing(self.spoken()) as spoken:
            async for one in spoken:
                if isinstance(one.step, Step):
                    steps.append(one.step)
                for part in one.parts:
                    match part:
                        case Text():
                            text.append(part.text)
                        case Thought():
                            thought.append(part.text)
                        case ToolUseArguments(id, more):
                            written[id] = written.get(id, "") + more
                        case ToolUse():
                            calls.append(whole_call(part, written.get(part.id)))
                        case Stop():
                            stop = part
                        case _:
                            pass
        message: Payload = {"role": "assistant", "content": "".join(text) or (None if calls else "")}
        if thought:
            message["reasoning_content"] = "".join(thought)
        if calls:
            message["tool_calls"] = calls
        reason = REASONS.get(stop.reason, "stop")
        choice = {"index": 0, "message": message, "logprobs": self.logprobs(steps), "finish_reason": reason}
        return {**self.head("chat.completion"), "choices": [choice], "usage": usage_of(stop.usage)}

    async def chunks(self) -> AsyncGenerator[Payload, None]:
        """The answer as it comes."""
        numbers: dict[str, int] = {}
        usage = Usage()
        begun = False  # not before the model has begun: until then what is wrong has a status of its own
        async with aclosing(self.spoken()) as spoken:
            async for one in spoken:
                if not begun:
                    begun = True
                    yield self.chunk({"role": "assistant", "content": ""})
                logprobs = self.logprobs([one.step]) if isinstance(one.step, Step) else None
                for delta in deltas_of(one.parts, numbers):
                    yield self.chunk(delta, logprobs=logprobs)
                    logprobs = None
                if logprobs is not None and logprobs["content"]:
                    yield self.chunk({}, logprobs=logprobs)
                for part in one.parts:
                    if isinstance(part, Stop):
                        usage = part.usage
                        yield self.chunk({}, REASONS.get(part.reason, "stop"))
        if self.asked.tells_usage:
            yield {**self.head("chat.completion.chunk"), "choices": [], "usage": usage_of(usage)}

    def logprobs(self, steps: Sequence[Step]) -> Payload | None:
        if self.asked.alternatives is None:
            return None
        return {"content": [self.alphabet.entry(step) for step in steps if step.logprob is not None]}

    def chunk(self, delta: Payload, reason: str | None = None, logprobs: Payload | None = None) -> Payload:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return {**self.head("chat.completion.chunk"), "choices": [choice]}

    def head(self, kind: str) -> Payload:
        return {"id": self.id, "object": kind, "created": self.created, "model": self.model}


def deltas_of(parts: Sequence[Part], numbers: dict[str, int]) -> list[Payload]:
    """Parts as deltas. `numbers` has the index of each call that was begun."""
    deltas = list[Payload]()
    for part in parts:
        match part:
            case Text():
                deltas.append({"content": part.text})
            case Thought():
                deltas.append({"reasoning_content": part.text})
            case ToolUseStarted():
                deltas.append(opening(part.id, part.name, numbers))
            case ToolUseArguments():
                deltas.append(more_of(part.text, numbers[part.id]))
            case ToolUse() if part.id not in numbers:  # nothing was told of it before
                deltas.append(opening(part.id, part.name, numbers))
                deltas.append(more_of(arguments_json(part.arguments, part.problem), numbers[part.id]))
            case _:
                pass
    return deltas


def opening(id: str, name: str, numbers: dict[str, int]) -> Payload:
    numbers[id] = len(numbers)
    function = {"name": name, "arguments": ""}
    return {"tool_calls": [{"index": numbers[id], "id": id, "type": "function", "function": function}]}


def more_of(arguments: str, number: int) -> Payload:
    return {"tool_calls": [{"index": number, "function": {"arguments": arguments}}]}


def whole_call(use: ToolUse, written: str | None) -> Payload:
    """`written`: its arguments, where they were told as they came."""
    arguments = arguments_json(use.arguments, use.problem) if written is None else written
    return {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": arguments}}


def usage_of(usage: Usage) -> Payload:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {"cached_tokens": usage.cached},
        "completion_tokens_details": {"reasoning_tokens": usage.thought},
    }
