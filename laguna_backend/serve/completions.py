"""Completions: texts or tokens to go on with, as they are; no template, and nothing read into the answer."""

from __future__ import annotations

import codecs
import secrets
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from acp_server.model import Usage

from ..backend import LagunaBackend
from ..engine.request import Finish, Step
from .asked import TextAsked
from .chat import usage_of
from .logprobs import Alphabet

MOST_TOKENS = 16
"""where nobody says how many, as OpenAI has it"""

Payload = dict[str, Any]


@dataclass
class TextAnswer:
    """One answer to one request: a choice for each prompt, one after the other. Raises ModelError as it goes."""

    backend: LagunaBackend
    asked: TextAsked
    principal: str
    model: str
    alphabet: Alphabet
    usage: Usage = field(default_factory=Usage)

    def __post_init__(self) -> None:
        self.id, self.created = f"cmpl-{secrets.token_hex(12)}", int(time.time())

    async def whole(self) -> Payload:
        """The answer in one piece."""
        choices = list[Payload]()
        for index in range(len(self.asked.prompts)):
            pieces, steps, reason = list[str](), list[Step](), "stop"
            async with aclosing(self.steps(index)) as stream:
                async for text, step, ended in stream:
                    pieces.append(text)
                    reason = ended or reason
                    steps += [step] if step is not None else []
            logprobs = None if self.asked.logprobs is None else self.alphabet.columns(steps, 0)
            choices.append({"index": index, "text": "".join(pieces), "logprobs": logprobs, "finish_reason": reason})
        return {**self.head(), "choices": choices, "usage": usage_of(self.usage)}

    async def chunks(self) -> AsyncGenerator[Payload, None]:
        """The answer as it comes."""
        for index in range(len(self.asked.prompts)):
            written = 0
            async with aclosing(self.steps(index)) as stream:
                async for text, step, reason in stream:
                    told = self.asked.logprobs is not None and step is not None
                    logprobs = self.alphabet.columns([step], written) if told and step else None
                    written += len(text)
                    if text or logprobs or reason:
                        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": reason}
                        yield {**self.head(), "choices": [choice]}
        if self.asked.tells_usage:
            yield {**self.head(), "choices": [], "usage": usage_of(self.usage)}

    async def steps(self, index: int) -> AsyncGenerator[tuple[str, Step | None, str | None], None]:
        """What each token adds to the text, and at last why it ended. Characters are whole."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        sampling = self.asked.sampling(self.principal)
        if sampling.max_tokens is None:
            sampling = replace(sampling, max_tokens=MOST_TOKENS)
        stream = self.backend.complete(self.asked.prompts[index], sampling, self.asked.extras(self.asked.logprobs))
        async with aclosing(stream) as steps:
            async for step in steps:
                if isinstance(step, Finish):
                    self.usage = Usage(
                        self.usage.input + step.prompt,
                        self.usage.cached + step.cached,
                        self.usage.output + step.generated,
                    )
                    yield decoder.decode(b"", final=True), None, step.reason
                else:
                    yield decoder.decode(step.text), step, None

    def head(self) -> Payload:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.model}
