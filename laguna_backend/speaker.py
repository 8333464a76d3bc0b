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
from .chat.tokenizer import ASSISTANT_END, TokenBytes
from .engine.engine import ContextOverflow, Engine, Stats
from .engine.sampler import Rule

DEFAULT_MAX_TOKENS = 8192


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
        try:
            yield from self.step(conversation, tools, sampling, cancelled)
        except (ContextOverflow, TemplateFailure, FloatingPointError) as error:
            raise ModelError(str(error)) from error
        except (RuntimeError, MemoryError) as error:  # torch says RuntimeError of everything, out of memory included
            self.engine.forget()
            raise ModelError(f"the model failed: {(str(error) or type(error).__name__).splitlines()[0]}") from error

    def step(
        self,
        conversation: Sequence[Message],
        tools: Sequence[ToolSpec],
        sampling: Sampling,
        cancelled: Callable[[], bool],
    ) -> Generator[Part, None, None]:
        thinking = sampling.thinking is not False
        rule = chosen(self.rule, sampling)
        step_id = f"{self.name}.{next(self.steps)}"
        numbers = itertools.count(1)
        parser = ReplyParser(self.token_bytes, tools, lambda: f"{step_id}.{next(numbers)}", thinking=thinking)
        prompt = self.chat.prompt(conversation, tools, thinking=thinking)
        stats, tokens, thought_tokens = Stats(), list[int](), 0
        said: list[Part] = []
        limit = sampling.max_tokens or DEFAULT_MAX_TOKENS
        for token in self.engine.generate(prompt.ids, rule, max_tokens=limit, stats=stats, cancelled=cancelled):
            tokens.append(token)
            thought_tokens += parser.thinking
            parts = parser.feed(token)
            said += parts
            yield from parts
            if parser.done:
                break
        last = parser.finish(cut_off=stats.stopped == "length")
        said += last
        yield from last
        if tokens and tokens[-1] == ASSISTANT_END:
            self.chat.remember(prompt, message_of(said, step_id), tokens)
        usage = Usage(stats.prompt, stats.reused, stats.generated, thought_tokens)
        reason = "max_tokens" if stats.stopped == "length" else "tool_use" if parser.tool_uses else "end_turn"
        yield Stop(reason, usage, stats.prefill_seconds + stats.decode_seconds, step_id)


def message_of(parts: Sequence[Part], step_id: str) -> Assistant:
    """The parts of a step as the message that will come back."""
    return Assistant(
        "".join(part.text for part in parts if isinstance(part, Text)),
        "".join(part.text for part in parts if isinstance(part, Thought)),
        tuple(part for part in parts if isinstance(part, ToolUse)),
        step_id,
    )


def chosen(default: Rule, sampling: Sampling) -> Rule:
    """The model's own rule with what the caller set. Raises ModelError."""
    given = {
        name: value
        for name in ("temperature", "top_k", "top_p", "min_p", "seed")
        if (value := getattr(sampling, name)) is not None
    }
    try:
        return replace(default, **given)
    except ValueError as error:
        raise ModelError(f"sampling: {error}") from error
