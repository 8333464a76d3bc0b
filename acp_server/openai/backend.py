"""A model behind an OpenAI-compatible endpoint as a `ModelBackend`."""

from __future__ import annotations

import inspect
import logging
import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import anyio

from ..model import Message, ModelError, ModelInfo, Part, Sampling, ToolSpec
from .answer import Answer, Cut, Overlong
from .asking import request_body
from .discovery import discover
from .endpoint import Endpoint, endpoint_of
from .exchange import CLOSED, Broken, Exchange, Refused
from .refusal import Refusal
from .traits import Traits

log = logging.getLogger(__name__)

COMPACT_BELOW = 16_384  # tokens of context: less than this is no place for a long system prompt
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 20.0  # seconds before asking again


class OpenAIBackend:
    """One model of one endpoint. Made at once; the endpoint is first asked when it is first needed."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._exchange = Exchange(endpoint)
        self._traits = Traits(thinking=endpoint.thinking or "template")
        self._info: ModelInfo | None = None
        self._asking = anyio.Lock()
        self._closed = False

    def __repr__(self) -> str:
        return f"<OpenAIBackend {self._info.name if self._info else '(not asked yet)'} at {self.endpoint.url}>"

    async def ready(self) -> ModelInfo:
        try:
            return await self._asked()
        except ModelError as error:
            raise self._fit(error) from None

    async def _asked(self) -> ModelInfo:
        async with self._asking:
            for attempt in range(self.endpoint.retries + 1):
                if self._info is not None:
                    break
                try:
                    found = await discover(self._exchange, self._traits)
                    self._info = ModelInfo(found.name, found.context, compact=found.context < COMPACT_BELOW)
                    if found.bytes_per_token is not None:
                        self._info = replace(self._info, bytes_per_token=found.bytes_per_token)
                except (Broken, Refused) as problem:
                    await self._pause(problem, attempt, self.endpoint.model or "a model")
        assert self._info is not None
        return self._info

    async def generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        try:
            async with aclosing(self._generate(conversation, tools, sampling)) as parts:
                async for part in parts:
                    yield part
        except ModelError as error:
            raise self._fit(error) from None

    def _fit(self, error: ModelError) -> ModelError:
        """The error with words for a client, which is told of no address."""
        return type(error)(str(error), shown=error.shown.replace(self.endpoint.url, "the model's endpoint"))

    async def _generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        model = (await self._asked()).name
        attempt = 0
        while True:
            body = request_body(model, conversation, tools, sampling, self._traits)
            answer, said = Answer(tools), False
            try:
                async with aclosing(self._say(body, answer)) as parts:
                    async for part in parts:
                        said = True
                        yield part
                return
            except Refused as refused:
                if said:
                    raise refused.refusal.error(self.endpoint, model) from None
                if self._traits.learn(refused.refusal, body):
                    log.info("%s refuses a field of the request: %s", self.endpoint.url, refused.refusal.words)
                    continue
                self._shrink(refused.refusal)
                await self._pause(refused, attempt, model)
            except (Broken, Cut) as problem:
                if isinstance(problem, Cut):
                    problem = Broken(f"{self.endpoint.url} ended its answer in the middle")
                if said:
                    raise ModelError(str(problem)) from None
                await self._pause(problem, attempt, model)
            except Overlong:
                raise ModelError(f"{self.endpoint.url} gave an answer that does not end") from None
            attempt += 1

    async def aclose(self) -> None:
        self._closed = True
        await self._exchange.aclose()

    async def _say(self, body: dict[str, Any], answer: Answer) -> AsyncGenerator[Part, None]:
        began, done = time.monotonic(), False
        async with aclosing(self._exchange.stream(body)) as chunks:
            async for chunk in chunks:
                if chunk is None:
                    done = True
                    break
                for part in answer.feed(chunk):
                    yield part
        for part in answer.finish(time.monotonic() - began, done=done):
            yield part
        if answer.thoughts is not None:
            self._traits.thoughts = (answer.thoughts,)

    async def _pause(self, problem: Broken | Refused, attempt: int, model: str) -> None:
        """Wait before asking again. Raises ModelError when there is no sense in it."""
        after = None
        if isinstance(problem, Refused):
            error, after = problem.refusal.error(self.endpoint, model), problem.refusal.after
            passing = problem.refusal.is_passing
        else:
            error, passing = ModelError(str(problem)), True
        if attempt >= self.endpoint.retries or not passing or self._closed:
            raise error from None
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
        # Jitter, so that the clients of a server that was down do not all come back at once.
        seconds = random.uniform(longest / 2, longest) if after is None else after + random.uniform(0, FIRST_PAUSE)
        log.warning("%s; asking again in %.1f s", error, seconds)
        await anyio.sleep(seconds)
        if self._closed:
            raise ModelError(CLOSED)

    def _shrink(self, refusal: Refusal) -> None:
        """A refusal may name a context smaller than what was found: the next turn is cut to that."""
        limit = refusal.limit
        if self._info is not None and limit is not None and 256 <= limit < self._info.context_size:
            log.warning("%s takes %d tokens, not %d", self.endpoint.url, limit, self._info.context_size)
            self._info = replace(self._info, context_size=limit)


def open_backend(path: str | None = None, *, device: str | None = None, **options: str) -> OpenAIBackend:
    """The backend of an endpoint; the options are those of `endpoint_of`. Cheap: nothing is asked before `ready`.

    `path` is the model's name, as `--model` has it. Raises ValueError.
    """
    if device is not None:
        raise ValueError("a model behind an endpoint has no device")
    if path is not None and options.setdefault("model", path) != path:
        raise ValueError(f"the model is {path} and {options['model']}; name one")
    known = [name for name in inspect.signature(endpoint_of).parameters if name != "environment"]
    if unknown := [name for name in options if name not in known]:
        raise ValueError(f"--backend-option {unknown[0]}: the options of the backend openai are: {', '.join(known)}")
    return OpenAIBackend(endpoint_of(**options))
