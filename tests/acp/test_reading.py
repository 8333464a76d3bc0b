"""Reading a descriptor as bytes come: the fast way on asyncio, and its plain twin everywhere."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import Callable, Generator
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from acp.transports.reading import AHEAD, READ_SIZE, Registered, Source, Waited, source

pytestmark = pytest.mark.anyio


def registered(fd: int) -> Source:
    return Registered(asyncio.get_running_loop(), fd)


@pytest.fixture(params=["as found", "plain", "registered"])
def make(request: pytest.FixtureRequest, anyio_backend_name: str) -> Callable[[int], Source]:
    if request.param == "registered" and anyio_backend_name != "asyncio":
        pytest.skip("only asyncio has it")
    return {"as found": source, "plain": Waited, "registered": registered}[request.param]


@pytest.fixture
def pipe() -> Generator[tuple[int, int]]:
    read, write = os.pipe()
    os.set_blocking(write, False)
    yield read, write
    os.close(read)
    os.close(write)


async def test_bytes_come_in_order_and_then_the_end(make: Callable[[int], Source]) -> None:
    read, write = os.pipe()
    found = make(read)
    with anyio.fail_after(60):
        os.write(write, b"one")
        assert await found.read() == b"one"
        heard: list[bytes] = []

        async def hear() -> None:
            heard.append(await found.read())

        async with anyio.create_task_group() as group:
            group.start_soon(hear)
            await anyio.wait_all_tasks_blocked()
            os.write(write, b"two")
        assert heard == [b"two"]
        os.close(write)
        assert await found.read() == b""
        assert await found.read() == b""
    found.close()
    os.close(read)


async def test_a_reader_that_is_cancelled_loses_nothing(make: Callable[[int], Source], pipe: tuple[int, int]) -> None:
    found = make(pipe[0])
    got: list[bytes] = []

    async def hear() -> None:
        got.append(await found.read())

    with anyio.fail_after(60):
        for number in range(20):
            async with anyio.create_task_group() as group:
                group.start_soon(hear)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
                if number % 2:
                    os.write(pipe[1], b"x")  # in the very round in which the reader is cancelled
            await anyio.lowlevel.checkpoint()
        while len(b"".join(got)) < 10:
            await hear()
    assert b"".join(got) == b"x" * 10
    found.close()


async def test_closing_wakes_the_reader(make: Callable[[int], Source], pipe: tuple[int, int]) -> None:
    found = make(pipe[0])

    async def read() -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await found.read()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            group.start_soon(read)
            await anyio.wait_all_tasks_blocked()
            found.close()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_no_more_is_read_ahead_than_allowed(pipe: tuple[int, int]) -> None:
    found = registered(pipe[0])
    written = 0
    while select.select([], [pipe[1]], [], 0)[1]:  # until nobody takes any more
        written += os.write(pipe[1], b"x" * READ_SIZE)
        for _ in range(4):
            await anyio.lowlevel.checkpoint()
    left = 0
    while select.select([pipe[0]], [], [], 0)[0]:
        left += len(os.read(pipe[0], READ_SIZE))
    ahead = [len(await found.read()) for _ in range(AHEAD)]
    assert sum(ahead) <= AHEAD * READ_SIZE
    assert sum(ahead) + left == written, "the rest had stayed in the pipe"
    assert left
    found.close()


async def test_a_file_is_read_though_no_event_loop_can_watch_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"lines")
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    found = source(fd)
    with anyio.fail_after(60):
        assert await found.read() == b"lines"
        assert await found.read() == b""
    found.close()
    os.close(fd)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_reader_goes_on_in_the_round_in_which_its_bytes_came(pipe: tuple[int, int]) -> None:
    found = registered(pipe[0])
    order: list[str] = []

    async def hear() -> None:
        await found.read()
        order.append("heard")

    async with anyio.create_task_group() as group:
        group.start_soon(hear)
        await anyio.wait_all_tasks_blocked()
        os.write(pipe[1], b"x")
        loop = asyncio.get_running_loop()
        # The loop polls, runs what it found, and then what was asked for in the meantime.
        loop.call_soon(lambda: loop.call_soon(order.append, "next round"))
        await anyio.wait_all_tasks_blocked()
    assert order == ["heard", "next round"]
    found.close()
