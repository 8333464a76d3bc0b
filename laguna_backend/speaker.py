"""A loaded Laguna that speaks: conversation in, parts out. Owned by one thread."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar

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
    TooLong,
    ToolSpec,
    ToolUse,
    Usage,
)

from .chat.calling import CallFirst
from .chat.constrained import CallGrammars
from .chat.encoding import Chat
from .chat.parser import ReplyParser
from .chat.template import TemplateFailure
from .chat.thinking import ThinkingBudget
from .chat.tokenizer import BOS, TOOL_CALL, TokenBytes
from .engine.engine import Engine
from .engine.generation import Generation, never
from .engine.request import ContextOverflow, Extras, Finish, Refusal, Request, Rule, Step

T = TypeVar("T")

DEFAULT_MAX_TOKENS = 8192
REFUSALS = (Refusal, TemplateFailure, FloatingPointError)
FAILURES = (RuntimeError, MemoryError, OSError)  # torch says RuntimeError of everything


@dataclass(frozen=True, slots=True)
class Spoken:
    """One token, or the end, and the parts that it completed."""

    step: Step | Finish
    parts: tuple[Part, ...]


@dataclass
class LagunaSpeaker:
    """Speaks with one loaded Laguna, in as many conversations at a time as are asked for.

    Whoever owns it calls `step`; the generators give None where they wait for one. Tool uses and steps are named so
    that no two processes give the same name.
    """

    info: ModelInfo
    engine: Engine
    chat: Chat
    token_bytes: TokenBytes
    rule: Rule
    name: str = field(default_factory=lambda: secrets.token_hex(4))
    steps: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    @cached_property
    def calls(self) -> CallGrammars | None:
        """What keeps calls well-formed, where the template writes them as Laguna's do."""
        spelling, size = self.chat.spelling, self.chat.tokenizer.get_vocab_size()
        return CallGrammars(spelling, size, self.chat.encode, self.token_bytes) if spelling else None

    def step(self) -> bool:
        """Go on with all that is under way by one pass of the model; False: nothing could be gone on with."""
        return self.engine.step()

    def say(
        self,
        conversation: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        cancelled: Callable[[], bool] = never,
    ) -> Generator[Part | None, None, None]:
        """The parts of one step, ending with `Stop`. Raises ModelError, and Cancelled when asked to stop."""
        for spoken in self.speak(conversation, tools, sampling, Extras(), cancelled):
            if spoken is None:
                yield None
            else:
                yield from spoken.parts

    def speak(
        self,
        conversation: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        extras: Extras,
        cancelled: Callable[[], bool] = never,
    ) -> Generator[Spoken | None, None, None]:
        """The same, token by token. Raises ModelError, and Cancelled when asked to stop.

        Where no tools are offered the token that begins a call cannot come: the model answers in words.
        """
        with told():
            thinking = sampling.thinking is not False
            step_id = f"{self.name}.{next(self.steps)}"
            numbers = itertools.count(1)
            parser = ReplyParser(self.token_bytes, tools, lambda: f"{step_id}.{next(numbers)}", thinking=thinking)
            prompt = self.chat.prompt(conversation, tools, thinking=thinking)
            constraints = extras.constraints
            if sampling.thinking_budget is not None:
                budget = ThinkingBudget(sampling.thinking_budget, self.chat.thought_ends, thinking=thinking)
                constraints = (budget, *constraints)
            if extras.must_call:
                constraints = (*constraints, CallFirst(thinking=thinking))
            if tools and self.calls is not None:
                constraints = (*constraints, self.calls.of(tools))
            barred = () if tools else (TOOL_CALL,)
            request = self.request(prompt.ids, sampling, replace(extras, constraints=constraints), barred)
            one = self.engine.begin(request, cancelled=cancelled)
            tokens, thought_tokens = list[int](), 0
            said: list[Part] = []
            with closing(self.steps_of(one)) as steps:
                for step in steps:
                    if step is None:
                        yield None
                    elif isinstance(step, Step):
                        tokens.append(step.token)
                        thought_tokens += parser.thinking
                        parts = parser.feed(step.token, step.text if step.cut else None)
                        said += parts
                        yield Spoken(step, tuple(parts))
                        if parser.done or (extras.one_call and parser.tool_uses):
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
            yield Spoken(finish, (*last, stop))

    def complete(
        self,
        prompt: str | Sequence[int],
        sampling: Sampling,
        extras: Extras,
        cancelled: Callable[[], bool] = never,
    ) -> Generator[Step | Finish | None, None, None]:
        """Go on with a text, after the token that begins every sequence, or with tokens. Raises as `speak` does."""
        with told():
            ids = [BOS, *self.chat.encode(prompt)] if isinstance(prompt, str) else prompt
            request = self.request(ids, sampling, extras)
            yield from self.steps_of(self.engine.begin(request, cancelled=cancelled))

    def steps_of(self, one: Generation) -> Generator[Step | Finish | None, None, None]:
        """What the engine answers, and None while it does not. Closing it, or its end, lets go of the request."""
        try:
            while True:
                yield from one.take()
                if one.error is not None:
                    raise one.error
                if not one.over:
                    yield None
                elif not one.said:
                    return
        finally:
            self.engine.drop(one)

    def request(
        self, prompt: Sequence[int], sampling: Sampling, extras: Extras, barred: tuple[int, ...] = ()
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
                constraints=extras.constraints,
                barred=barred,
                session=extras.session or sampling.session,
            )
        except ValueError as error:
            raise ModelError(f"sampling: {error}") from error


@contextmanager
def told() -> Generator[None, None, None]:
    """Whatever goes wrong is told as a ModelError. `Cancelled` passes."""
    try:
        yield
    except ContextOverflow as error:
        raise TooLong(str(error)) from error
    except REFUSALS as error:
        raise ModelError(str(error)) from error
    except FAILURES as error:
        raise ModelError(f"the model failed: {(str(error) or type(error).__name__).splitlines()[0]}") from error


def alone(speaker: LagunaSpeaker, items: Generator[T | None, None, None]) -> Generator[T, None, None]:
    """What a generator of the speaker gives, for somebody who has no thread for it: takes the steps by itself."""
    for item in items:
        if item is not None:
            yield item
        elif not speaker.step():
            raise RuntimeError("this answer waits for another one, which nobody reads")


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
