"""What a model says, on its way to the turn: in order and bounded, from one writer to one reader.

Neither takes a round of the event loop for a part that can be had, or kept, at once: a model that says much in one go
is heard in one go.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

import anyio
import anyio.lowlevel

from acp.tasks import Bell

T = TypeVar("T")


class Handover(Generic[T]):
    """Keeps up to `most` parts that were not taken yet."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: deque[T] = deque()
        self._changed = Bell()
        self._ended = self._drops = False

    async def put(self, part: T) -> None:
        """Waits while there is no room."""
        while len(self._kept) >= self._most and not self._drops:
            await self._changed.wait()
        if self._drops:
            await anyio.lowlevel.checkpoint()  # or a writer who waits for nothing would never let anybody else run
            return
        self._kept.append(part)
        self._changed.ring()

    def end(self) -> None:
        """The writer has said all."""
        self._ended = True
        self._changed.ring()

    def take_now(self) -> T | None:
        """The next part, None if it has not come yet."""
        if not self._kept:
            return None
        self._changed.ring()
        return self._kept.popleft()

    async def take(self) -> T:
        """The next part. Raises anyio.EndOfStream after the last one."""
        while not self._kept:
            if self._ended:
                raise anyio.EndOfStream
            await self._changed.wait()
        self._changed.ring()
        return self._kept.popleft()

    def close(self) -> None:
        """Nobody takes any more: what is kept, and what still comes, is dropped."""
        self._drops = True
        self._kept.clear()
        self._changed.ring()

    async def drain(self) -> None:
        """Take no more, and wait until the writer has said all."""
        self.close()
        while not self._ended:
            await self._changed.wait()
