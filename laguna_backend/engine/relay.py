"""From the model's thread to an event loop, asyncio's or trio's, without either waiting for the other.

The thread hands items over while there is `room` and rings; the reader rings back when there is room again, or when he
leaves. An event loop that has ended counts as a reader who left, which the thread finds out when it looks.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from typing import Any, Generic, TypeVar, cast

import anyio
import anyio.lowlevel

T = TypeVar("T")

POLL_SECONDS = 0.1


class Cancelled(Exception):
    """Nobody wants the result any more."""


def caller() -> Callable[[Callable[[], object]], None]:
    """A function that has another one called soon on this task's event loop, from any thread, and never waits.

    It raises RuntimeError once the loop has ended.
    """
    loop = cast(Any, anyio.lowlevel.current_token().native_token)
    return loop.run_sync_soon if hasattr(loop, "run_sync_soon") else loop.call_soon_threadsafe


async def finished(future: Future[T]) -> T:
    """Wait for a future that another thread fills. Cancelling the wait leaves the future alone."""
    event, call = anyio.Event(), caller()

    def ring(_: Future[T]) -> None:
        try:
            call(event.set)
        except RuntimeError:  # the event loop has ended, and the waiting task with it
            return

    future.add_done_callback(ring)
    await event.wait()
    return future.result()


class Relay(Generic[T]):
    """A bounded stream from one thread to one task. Made by the task; `ring_back` is called when it took something."""

    def __init__(self, ahead: int, ring_back: Callable[[], object]) -> None:
        self.cancelled = threading.Event()
        self._ahead = ahead
        self._ring_back = ring_back
        self._items: deque[T] = deque()
        self._ended = False
        self._news = anyio.Event()
        self._call = caller()

    # On the thread

    @property
    def room(self) -> bool:
        """Whether the reader is less than `ahead` items behind."""
        return len(self._items) < self._ahead

    def gone(self) -> bool:
        """Whether nobody reads any more. It looks for a loop that has ended only where that cannot show otherwise."""
        if not self.room:
            with contextlib.suppress(Cancelled):
                self._wake()
        return self.cancelled.is_set()

    def put(self, item: T) -> None:
        """Hand over one item, room or not. Raises Cancelled when nobody reads any more."""
        self._items.append(item)
        self._wake()

    def end(self) -> None:
        """No more items."""
        self._ended = True
        with contextlib.suppress(Cancelled):
            self._wake()

    def _wake(self) -> None:
        try:
            self._call(self._ring)
        except RuntimeError:
            self.cancelled.set()
        if self.cancelled.is_set():
            raise Cancelled

    # On the event loop

    def _ring(self) -> None:
        self._news.set()

    async def items(self) -> AsyncGenerator[T, None]:
        """The items as they come. Closing this, or cancelling the task in it, sets `cancelled`."""
        try:
            while True:
                self._news = anyio.Event()
                while self._items:
                    item = self._items.popleft()
                    self._ring_back()
                    yield item
                if self._ended and not self._items:
                    return
                await self._news.wait()
        finally:
            self.cancelled.set()
            self._ring_back()
