"""From a model to its turn: every part once and in order, never more than a few ahead, and nobody left waiting."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from acp.tasks import task_group
from acp_server.turn.handover import Handover

pytestmark = pytest.mark.anyio

MOST = 3


async def test_parts_come_in_order_and_the_writer_is_never_further_ahead_than_it_may() -> None:
    handover, put = Handover[int](MOST), 0

    async def write() -> None:
        nonlocal put
        for n in range(100):
            await handover.put(n)
            put = n + 1
        handover.end()

    with anyio.fail_after(60):
        async with task_group() as group:
            group.start_soon(write)
            taken: list[int] = []
            while len(taken) < 100:
                part = handover.take_now() if len(taken) % 7 else None
                taken.append(await handover.take() if part is None else part)
                assert put - len(taken) <= MOST
            with pytest.raises(anyio.EndOfStream):
                await handover.take()
    assert taken == [*range(100)]


async def test_what_can_be_had_at_once_takes_no_round_of_the_loop() -> None:
    handover, rounds = Handover[int](MOST), 0

    async def count() -> None:
        nonlocal rounds
        while True:
            await anyio.lowlevel.checkpoint()
            rounds += 1

    async with task_group(cancel_at_end=True) as group:
        group.start_soon(count)
        await anyio.lowlevel.checkpoint()
        before = rounds
        for n in range(MOST):
            await handover.put(n)
        assert [handover.take_now(), await handover.take(), handover.take_now(), handover.take_now()] == [0, 1, 2, None]
        assert rounds == before


async def test_a_writer_who_waits_is_cancelled_and_the_reader_hears_of_the_end() -> None:
    handover = Handover[int](MOST)

    async def write() -> None:
        try:
            for n in range(MOST + 1):
                await handover.put(n)
            raise AssertionError("there was no room")
        finally:
            handover.end()

    with anyio.fail_after(60):
        async with task_group() as group:
            group.start_soon(write)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
    assert [await handover.take() for _ in range(MOST)] == [0, 1, 2]
    with pytest.raises(anyio.EndOfStream):
        await handover.take()


async def test_whoever_drains_waits_for_the_end_and_a_writer_who_never_rests_starves_nobody() -> None:
    handover, said = Handover[int](MOST), 0

    async def write() -> None:
        nonlocal said
        while True:
            await handover.put(said)
            said += 1

    with anyio.fail_after(60):
        async with task_group() as group:
            group.start_soon(write)
            await handover.take()
            drained = False

            async def drain() -> None:
                nonlocal drained
                await handover.drain()
                drained = True

            group.start_soon(drain)
            for _ in range(50):
                await anyio.lowlevel.checkpoint()
            assert not drained
            assert handover.take_now() is None
            group.cancel_scope.cancel()
    assert said > MOST
