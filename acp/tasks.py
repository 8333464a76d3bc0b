"""A task group whose users see exceptions as they were raised."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


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
