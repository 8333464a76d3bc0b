"""A bell wakes everybody who waits, however many they are, and nobody who comes later."""

from __future__ import annotations

import anyio
import pytest

from acp.tasks import Bell

pytestmark = pytest.mark.anyio


async def test_a_ring_wakes_everybody_who_waits() -> None:
    bell, woken = Bell(), list[int]()

    async def wait(name: int) -> None:
        await bell.wait()
        woken.append(name)

    async with anyio.create_task_group() as group:
        for name in range(3):
            group.start_soon(wait, name)
            await anyio.wait_all_tasks_blocked()
        bell.ring()
    assert sorted(woken) == [0, 1, 2]


async def test_a_waiter_that_is_cancelled_takes_no_ring_from_the_others() -> None:
    bell = Bell()
    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(bell.wait)
            await anyio.wait_all_tasks_blocked()
            with anyio.CancelScope() as scope:
                scope.cancel()
                await bell.wait()
            bell.ring()


async def test_a_ring_before_the_wait_is_forgotten() -> None:
    bell = Bell()
    bell.ring()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(bell.wait)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    assert scope.cancelled_caught
