"""Work that runs beside its owner, who can stop waiting before it has finished cleaning up.

A cancelled turn has to be answered within a second, whether or not a child process lingers or a model sits
in a long computation. So those run as jobs in the connection's task group: the owner cancels, gives a
moment of grace and goes on, and the job ends in its own time.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")

log = logging.getLogger(__name__)


class JobStopped(Exception):
    """The job was cancelled before it had a value."""


class Job(Generic[T]):
    """One running coroutine. `wait` gives its value or raises what it raised."""

    def __init__(self, group: TaskGroup, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._scope = anyio.CancelScope()
        self._done = anyio.Event()
        self._values: list[T] = []
        self._error: Exception | None = None
        self._abandoned = False
        group.start_soon(self._run)

    async def _run(self) -> None:
        try:
            with self._scope:
                self._values.append(await self._work())
        except Exception as error:
            self._error = error
            if self._abandoned:
                log.warning("abandoned work failed", exc_info=error)
        finally:
            self._done.set()

    @property
    def done(self) -> bool:
        return self._done.is_set()

    async def wait(self) -> T:
        """The value. Cancelling the wait leaves the job running; `stop` ends it."""
        await self._done.wait()
        if self._error is not None:
            raise self._error
        if not self._values:
            raise JobStopped
        return self._values[0]

    async def stop(self, grace: float) -> None:
        """Cancel and wait at most `grace` seconds, even inside a cancelled scope.

        Afterwards it may still run.
        """
        if self._done.is_set():
            return
        self._abandoned = True
        self._scope.cancel()
        with anyio.move_on_after(grace, shield=True):
            await self._done.wait()
