"""On asyncio: tasks that go on now, and not in the event loop's next round.

A round of the loop asks the operating system what is new, and is a twentieth of a round trip; there were four in one.
The reader of a connection knows which task is next: the one that waits for the answer it has read, or a new one for
the request.

A task cannot run inside another, so the one that runs steps aside meanwhile, by what asyncio has for those who write
tasks of their own ("Extending asyncio", task lifetime support). Each task still runs in its own context, and is
cancelled, and fails, by itself.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from contextvars import Context, copy_context
from typing import Any

Loop = asyncio.AbstractEventLoop
Work = Coroutine[Any, Any, None]


class Wake(asyncio.Future[None]):
    """A future whose one task goes on in the very call that sets it."""

    _task: tuple[Callable[[Any], object], Context | None] | None = None

    def add_done_callback(self, resume: Callable[[Any], object], /, *, context: Context | None = None) -> None:
        self._task = (resume, context)

    def set(self) -> None:
        """Let the task go on, now."""
        if not self.done():
            self.set_result(None)
            if self._task is not None:
                resume, context = self._task
                _run(self.get_loop(), context or copy_context(), resume, self)

    def set_soon(self) -> None:
        """Let the task go on in the loop's next round, as any other future does."""
        if not self.done():
            self.set_result(None)
            self._resume_soon()

    def cancel(self, msg: Any = None) -> bool:
        if not super().cancel(msg):
            return False
        self._resume_soon()
        return True

    def _resume_soon(self) -> None:
        if self._task is not None:
            resume, context = self._task
            self.get_loop().call_soon(resume, self, context=context)


def _run(loop: Loop, context: Context, step: Callable[..., object], *args: object) -> None:
    """Let a task take a step, while the one that runs, if any, steps aside."""
    current = asyncio.current_task(loop)
    if current is None:
        context.run(step, *args)
        return
    asyncio.tasks._leave_task(loop, current)  # pyright: ignore
    try:
        context.run(step, *args)
    finally:
        asyncio.tasks._enter_task(loop, current)  # pyright: ignore


class Beginner:
    """Begins tasks, each of which takes its first step before `begin` returns; it is done if that was its last."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._first: tuple[Callable[[], object], Context] | None = None

    if sys.version_info >= (3, 12):

        def begin(self, work: Work) -> asyncio.Task[None]:
            return asyncio.Task(work, loop=self._loop, eager_start=True)

    else:

        def begin(self, work: Work) -> asyncio.Task[None]:
            loop: Any = self._loop
            try:
                loop.call_soon = self._keep  # a new task asks for its first step, and for nothing else
            except AttributeError:  # a loop that is not Python's own
                return loop.create_task(work)
            try:
                task = loop.create_task(work)
            finally:
                del loop.call_soon
            if self._first is not None:
                (step, context), self._first = self._first, None
                _run(loop, context, step)
            return task

    def _keep(self, step: Callable[[], object], *, context: Context | None = None) -> None:
        self._first = (step, context or copy_context())
