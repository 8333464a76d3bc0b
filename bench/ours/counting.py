"""A model that counts: to `N` it says the numbers 1 to N, each in an update of its own.

Text and thoughts take turns, for the agent joins text that follows text. To `N RATE` it says so many a second, and
beside each number when it was said: nanoseconds on the clock that all processes share. `acp serve --backend
counting:open_backend` serves it.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Sequence

import anyio

from acp_server.model import Message, ModelInfo, Part, Sampling, Stop, Text, Thought, ToolSpec, Usage, User


class CountingBackend:
    """A `ModelBackend`."""

    async def ready(self) -> ModelInfo:
        return ModelInfo("counting", 1_000_000_000)

    async def generate(
        self, conversation: Sequence[Message], tools: Sequence[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        words = next(message.text for message in reversed(conversation) if isinstance(message, User)).split()
        count, rate = int(words[0]), float(words[1]) if len(words) > 1 else 0.0
        began = anyio.current_time()
        for number in range(1, count + 1):
            said = f"{number} "
            if rate:
                await anyio.sleep_until(began + number / rate)
                said = f"{number}@{time.monotonic_ns()} "
            yield (Text if number % 2 else Thought)(said)
        yield Stop("end_turn", Usage(1, 0, count, 0))

    async def aclose(self) -> None:
        pass


def open_backend(path: str | None = None, **_: object) -> CountingBackend:
    return CountingBackend()
