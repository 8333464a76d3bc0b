"""Joins what a model says into message chunks: at most thirty a second, the first at once, nothing lost.

While whoever hears it has much to read yet, the model goes on, and what it says becomes one chunk: up to
`MOST_PENDING`, and then it waits too.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Literal

import anyio

from acp.updates import MessageChunk, TextBlock, Update

INTERVAL = 1 / 30
"""Seconds between two chunks of one message."""

MOST_PENDING = 64 * 2**10
"""Characters that are joined while the receiver is behind."""

Emit = Callable[[Update], Awaitable[None]]
"""Reports an update. Waits while the receiver is slow."""


class Chunks:
    """Text and thoughts on their way out. Each run of one role is one message with its own id."""

    def __init__(self, emit: Emit, prefix: str, crowded: Callable[[], bool] = lambda: False) -> None:
        self._emit = emit
        self._crowded = crowded
        self._prefix = prefix
        self._messages = 0
        self._role: Literal["agent", "thought"] | None = None
        self._pending = ""
        self._next_at = -math.inf

    @property
    def due(self) -> float:
        """When `flush_if_heard` should be called, on the event loop's clock; infinity when nothing is pending."""
        return self._next_at if self._pending else math.inf

    async def add(self, role: Literal["agent", "thought"], text: str) -> None:
        if not text:
            return
        if role != self._role:
            if self._pending:
                await self.flush()
            self._role, self._messages, self._next_at = role, self._messages + 1, -math.inf
        self._pending += text
        if self._next_at == -math.inf or anyio.current_time() >= self._next_at:
            await self.flush_if_heard()

    async def flush_if_heard(self) -> None:
        """Send what is pending, unless the receiver is behind and there is room for more; then try again later."""
        if len(self._pending) < MOST_PENDING and self._crowded():
            self._next_at = anyio.current_time() + INTERVAL
        else:
            await self.flush()

    async def flush(self) -> None:
        """Send what is pending now."""
        if self._pending and self._role is not None:
            text, self._pending = self._pending, ""
            self._next_at = anyio.current_time() + INTERVAL
            await self._emit(MessageChunk(self._role, TextBlock(text), f"{self._prefix}.{self._messages}"))

    async def end_message(self) -> None:
        """Send what is pending; whatever follows is another message."""
        await self.flush()
        self._role = None
