"""Task groups whose users see exceptions as they were raised, and tasks and events that cost little."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from .at_once import Beginner, Wake


class AnyEvent(Protocol):
    """What `anyio.Event` and `asyncio.Event` have in common."""

    def set(self) -> object: ...

    def is_set(self) -> bool: ...

    async def wait(self) -> object: ...


class Arrival(Protocol):
    """Something that comes once. On asyncio a `set` lets those who wait go on before it returns."""

    def set(self) -> object: ...

    def set_soon(self) -> object: ...

    async def wait(self) -> object: ...


Start = Callable[..., object]
"""Starts `work(*args)` as a task: `start(work, *args)`."""


@asynccontextmanager
async def task_group(*, cancel_at_end: bool = False) -> AsyncGenerator[TaskGroup]:
    """Like `anyio.create_task_group`, but what the block raises comes out bare, and so does a single task's failure.

    An ordinary refusal must not reach the caller of a library wrapped in groups that tell of its insides. With
    `cancel_at_end` the tasks live no longer than the block.
    """
    raised: Exception | None = None
    try:
        async with anyio.create_task_group() as group:
            try:
                yield group
            except Exception as error:
                raised = error
                raise
            finally:
                if cancel_at_end:
                    group.cancel_scope.cancel()
    except BaseExceptionGroup as wrapped:
        if raised is not None:
            raise raised from raised.__cause__
        if len(wrapped.exceptions) == 1:
            raise wrapped.exceptions[0] from None
        raise


def light_start(group: TaskGroup) -> Start:
    """A way to start tasks that catch their own exceptions, and that their owner cancels and waits for by itself.

    A task group's bookkeeping is a quarter of the time in which a request is answered. On asyncio these are bare tasks,
    in which anyio's scopes work as in any other, each with its first step taken when `start` returns. On trio there are
    none, and they are the group's.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return group.start_soon
    running: set[asyncio.Task[None] | None] = set()  # the loop itself holds its tasks weakly

    begin = Beginner(loop).begin

    async def run(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        try:
            await work(*args)
        finally:
            running.discard(asyncio.current_task())  # a callback for it would cost a round of the loop

    def start(work: Callable[..., Coroutine[Any, Any, None]], *args: Any) -> None:
        task = begin(run(work, *args))
        if not task.done():
            running.add(task)

    return start


class Bell:
    """Wakes everybody who waits for its next ring; a ring that nobody waits for is forgotten.

    Waiters look at what they wait for, in a loop, and wait between two looks.
    """

    def __init__(self) -> None:
        self._rung: AnyEvent | None = None

    def ring(self) -> None:
        if self._rung is not None:
            self._rung.set()
            self._rung = None

    async def wait(self) -> None:
        if self._rung is None:
            self._rung = light_event()
        await self._rung.wait()


def light_event() -> AnyEvent:
    """An event, made where an event loop runs: on asyncio its own, which costs a tenth of anyio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return anyio.Event()
    return asyncio.Event()


class _Arrived:
    """`Arrival` on asyncio."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting: list[Wake] = []
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        while self._waiting:
            self._waiting.pop().set()

    def set_soon(self) -> None:
        self._is_set = True
        while self._waiting:
            self._waiting.pop().set_soon()

    async def wait(self) -> None:
        if not self._is_set:
            wake = Wake(loop=self._loop)
            self._waiting.append(wake)
            await wake  # of one that is cancelled, `set` takes no notice


class _TrioArrival:
    """`Arrival` elsewhere."""

    def __init__(self) -> None:
        event = anyio.Event()
        self.set = self.set_soon = event.set
        self.wait = event.wait


def arrival() -> Arrival:
    """Made where an event loop runs."""
    try:
        return _Arrived(asyncio.get_running_loop())
    except RuntimeError:
        return _TrioArrival()
