"""A loaded Laguna that speaks: conversation in, parts out. Owned by one thread."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

from acp_server.model import (
    Assistant,
    Message,
    ModelError,
    ModelInfo,
    Part,
    Sampling,
    Stop,
    Text,
    Thought,
    ToolSpec,
    ToolUse,
    Usage,
)

from .chat.encoding import Chat
from .chat.parser import ReplyParser
from .chat.template import TemplateFailure
from .chat.thinking import ThinkingBudget
from .chat.tokenizer import BOS, TokenBytes
from .engine.engine import Engine
from .engine.request import Constraint, Extras, Finish, Refusal, Request, Rule, Step

DEFAULT_MAX_TOKENS = 8192
REFUSALS = (Refusal, TemplateFailure, FloatingPointError)
FAILURES = (RuntimeError, MemoryError)  # torch says RuntimeError of everything, out of memory included


@dataclass(frozen=True, slots=True)
class Said:
    """One token, or the end, and the parts that it completed."""

    step: Step | Finish
    parts: tuple[Part, ...]


@dataclass
class LagunaSpeaker:
    """Speaks with one loaded Laguna. Tool uses and steps are named so that no two processes give the same name."""

    info: ModelInfo
    engine: Engine
    chat: Chat
    token_bytes: TokenBytes
    rule: Rule
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    steps: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def say(
        self,
        conversation: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        cancelled: Callable[[], bool],
    ) -> Generator[Part, None, None]:
        """The parts of one step, ending with `Stop`. Raises ModelError, and Cancelled when asked to stop."""
        for said in self.speak(conversation, tools, sampling, Extras(), cancelled):
            yield from said.parts

    def speak(
        self,
        conversation: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        extras: Extras,
        cancelled: Callable[[], bool],
    ) -> Generator[Said, None, None]:
        """The same, token by token. Raises ModelError, and Cancelled when asked to stop."""
        try:
            yield from self.step(conversation, tools, sampling, extras, cancelled)
        except REFUSALS as error:
            raise ModelError(str(error)) from error
        except FAILURES as error:
            self.engine.forget()
            raise failed(error) from error

    def step(
        self,
        conversation: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        extras: Extras,
        cancelled: Callable[[], bool],
    ) -> Generator[Said, None, None]:
        thinking = sampling.thinking is not False
        step_id = f"{self.name}.{next(self.steps)}"
        numbers = itertools.count(1)
        parser = ReplyParser(self.token_bytes, tools, lambda: f"{step_id}.{next(numbers)}", thinking=thinking)
        prompt = self.chat.prompt(conversation, tools, thinking=thinking)
        constraints = extras.constraints
        if sampling.thinking_budget is not None:
            budget = ThinkingBudget(sampling.thinking_budget, self.chat.thought_ends, thinking=thinking)
            constraints = (budget, *constraints)
        one = self.engine.begin(self.request(prompt.ids, sampling, extras, constraints))
        tokens, thought_tokens = list[int](), 0
        said: list[Part] = []
        for step in self.engine.answers(one, cancelled=cancelled):
            if isinstance(step, Finish):
                continue
            tokens.append(step.token)
            thought_tokens += parser.thinking
            parts = parser.feed(step.token, step.text if step.cut else None)
            said += parts
            yield Said(step, tuple(parts))
            if parser.done:
                one.end("stop")
        finish = one.finish
        assert finish is not None
        last = parser.finish(cut_off=finish.reason == "length")
        said += last
        if tokens:
            self.chat.remember(prompt, message_of(said, step_id), tokens)
        usage = Usage(finish.prompt, finish.cached, finish.generated, thought_tokens)
        reason = "max_tokens" if finish.reason == "length" else "tool_use" if parser.tool_uses else "end_turn"
        stop = Stop(reason, usage, finish.prefill_seconds + finish.decode_seconds, step_id)
        yield Said(finish, (*last, stop))

    def request(
        self, prompt: Sequence[int], sampling: Sampling, extras: Extras, constraints: tuple[Constraint, ...] = ()
    ) -> Request:
        """What the engine is asked. Raises ModelError for what makes no sense."""
        try:
            return Request(
                prompt=tuple(prompt),
                max_tokens=DEFAULT_MAX_TOKENS if sampling.max_tokens is None else sampling.max_tokens,
                rule=chosen(self.rule, sampling),
                stop=extras.stop,
                stop_ids=extras.stop_ids,
                logprobs=extras.logprobs,
                constraints=constraints or extras.constraints,
                session=extras.session,
            )
        except ValueError as error:
            raise ModelError(f"sampling: {error}") from error

    def complete(
        self,
        prompt: str | Sequence[int],
        sampling: Sampling,
        extras: Extras,
        cancelled: Callable[[], bool],
    ) -> Generator[Step | Finish, None, None]:
        """Go on with a text, after the token that begins every sequence, or with tokens. Raises as `speak` does."""
        try:
            ids = [BOS, *self.chat.encode(prompt)] if isinstance(prompt, str) else prompt
            yield from self.engine.generate(self.request(ids, sampling, extras), cancelled=cancelled)
        except REFUSALS as error:
            raise ModelError(str(error)) from error
        except FAILURES as error:
            self.engine.forget()
            raise failed(error) from error


def failed(error: BaseException) -> ModelError:
    return ModelError(f"the model failed: {(str(error) or type(error).__name__).splitlines()[0]}")


def message_of(parts: Sequence[Part], step_id: str) -> Assistant:
    """The parts of a step as the message that will come back."""
    return Assistant(
        "".join(part.text for part in parts if isinstance(part, Text)),
        "".join(part.text for part in parts if isinstance(part, Thought)),
        tuple(part for part in parts if isinstance(part, ToolUse)),
        step_id,
    )


def chosen(default: Rule, sampling: Sampling) -> Rule:
    """The model's own rule with what the caller set. Raises ValueError."""
    given = {
        name: value
        for name in ("temperature", "top_k", "top_p", "min_p", "seed")
        if (value := getattr(sampling, name)) is not None
    }
    return replace(default, **given)
