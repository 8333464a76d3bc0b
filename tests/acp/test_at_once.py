"""Tasks that go on at once are tasks like any others: their own context, their own scopes, their own failures."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import anyio
import pytest

from acp.at_once import Beginner, Wake

pytestmark = pytest.mark.anyio

word: ContextVar[str] = ContextVar("word", default="")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def beginner() -> Beginner:
    return Beginner(asyncio.get_running_loop())


async def test_a_task_takes_its_first_step_before_it_is_given_back() -> None:
    seen: list[object] = []

    async def work() -> None:
        seen.append((word.get(), asyncio.current_task()))
        word.set("theirs")
        await asyncio.sleep(0)
        seen.append(word.get())

    word.set("ours")
    here = asyncio.current_task()
    task = beginner().begin(work())
    assert seen == [("ours", task)]
    assert (word.get(), asyncio.current_task()) == ("ours", here)
    await task
    assert seen[1:] == ["theirs"]


async def test_a_task_that_waits_for_nothing_is_done_and_one_that_fails_does_so_by_itself() -> None:
    async def work(fail: bool) -> None:
        if fail:
            raise ValueError("by itself")

    assert beginner().begin(work(False)).done()
    failed = beginner().begin(work(True))
    assert str(failed.exception()) == "by itself"


async def test_a_task_begins_tasks_of_its_own_in_its_first_step() -> None:
    order: list[str] = []

    async def inner() -> None:
        order.append("inner")
        await asyncio.sleep(0)
        order.append("inner again")

    async def outer() -> None:
        ours = beginner().begin(inner())
        order.append("outer")
        await ours

    await beginner().begin(outer())
    assert order == ["inner", "outer", "inner again"]


async def test_scopes_that_begin_in_the_first_step_end_in_a_later_one() -> None:
    caught: list[bool] = []

    async def work() -> None:
        with anyio.move_on_after(0.01) as scope:
            await anyio.sleep_forever()
        caught.append(scope.cancelled_caught)

    task = beginner().begin(work())
    with anyio.fail_after(60):
        await task
    assert caught == [True]


async def test_whoever_waits_goes_on_before_the_setter_does_and_as_another_task() -> None:
    wake, order = Wake(loop=asyncio.get_running_loop()), list[object]()

    async def wait() -> None:
        await wake
        order.append(asyncio.current_task())

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    wake.set()
    wake.set()
    order.append(asyncio.current_task())
    assert order == [task, asyncio.current_task()]
    await task


async def test_a_wait_that_was_cancelled_is_not_woken() -> None:
    wake = Wake(loop=asyncio.get_running_loop())
    with anyio.move_on_after(0.01) as scope:
        await wake
    assert scope.cancelled_caught
    wake.set()
    wake.set_soon()


async def test_set_soon_lets_the_setter_go_on_first() -> None:
    wake, order = Wake(loop=asyncio.get_running_loop()), list[str]()

    async def wait() -> None:
        await wake
        order.append("woken")

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    wake.set_soon()
    order.append("set")
    await task
    assert order == ["set", "woken"]
