"""The thread between an event loop and a model."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterator
from contextlib import aclosing

import anyio
import pytest

from acp_server.model import ModelError, ModelInfo, Part, Stop, Text
from laguna_backend.engine.relay import Cancelled, Relay
from laguna_backend.engine.worker import PARTS_AHEAD, Run, Worker

pytestmark = pytest.mark.anyio

INFO = ModelInfo("counter", 1000)
LIMIT = 10.0


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return request.param


class Counter:
    """Says the numbers from 1 on, as many as it is asked for; what else it does depends on the last word."""

    info = INFO

    def __init__(self) -> None:
        self.full, self.beyond = threading.Event(), threading.Event()
        self.threads: set[int] = set()
        self.finished = threading.Event()

    def step(self) -> bool:
        self.threads.add(threading.get_ident())
        return False

    def say(self, text: str, cancelled: Callable[[], bool]) -> Generator[Part | None, None, None]:
        self.threads.add(threading.get_ident())
        count, *words = text.split()
        try:
            for number in range(1, int(count) + 1):
                if cancelled():
                    raise Cancelled
                if number > PARTS_AHEAD:  # one was read and one is on its way
                    (self.full if number <= PARTS_AHEAD + 2 else self.beyond).set()
                yield Text(str(number))
            match words:
                case ["fail"]:
                    raise ModelError("no more numbers")
                case ["break"]:
                    raise KeyError("secret")
                case ["wait"]:
                    while True:
                        yield None
                case ["sleep"]:
                    while not cancelled():
                        time.sleep(0.001)
                    raise Cancelled
                case _:
                    yield Stop("end_turn")
        finally:
            self.finished.set()


def worker(speaker: Counter | None = None) -> Worker[Counter]:
    return Worker(lambda: speaker or Counter())


def counting(text: str) -> Run[Counter, Part]:
    return lambda speaker, cancelled: speaker.say(text, cancelled)


async def say(of: Worker[Counter], text: str) -> list[Part]:
    with anyio.fail_after(LIMIT):
        async with aclosing(of.stream(counting(text))) as parts:
            return [part async for part in parts]


async def test_parts_come_in_order_and_end() -> None:
    one = worker()
    parts = await say(one, "300")
    assert parts == [*(Text(str(number)) for number in range(1, 301)), Stop("end_turn")]
    await one.close()


async def test_everything_runs_on_one_thread_that_is_not_the_loops() -> None:
    speaker = Counter()
    one = worker(speaker)
    for _ in range(3):
        await say(one, "2")
    assert len(speaker.threads) == 1
    assert threading.get_ident() not in speaker.threads
    await one.close()


async def test_what_is_asked_at_once_is_said_side_by_side() -> None:
    one = worker()
    async with aclosing(one.stream(counting("1 wait"))) as waiting:
        assert await anext(waiting) == Text("1")
        assert len(await say(one, "50")) == 51
    await one.close()


async def test_everything_that_is_asked_at_once_is_answered() -> None:
    one = worker()
    answers: list[list[Part]] = []

    async def ask() -> None:
        answers.append(await say(one, "50"))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(ask)
    assert [len(parts) for parts in answers] == [51] * 5
    await one.close()


async def test_a_slow_reader_makes_the_model_wait() -> None:
    speaker = Counter()
    one = worker(speaker)
    async with aclosing(one.stream(counting("100000"))) as parts:
        assert await anext(parts) == Text("1")
        assert await anyio.to_thread.run_sync(speaker.full.wait, LIMIT)
        assert not await anyio.to_thread.run_sync(speaker.beyond.wait, 0.05)
    await one.close()


async def test_closing_the_generator_stops_the_step() -> None:
    speaker = Counter()
    one = worker(speaker)
    async with aclosing(one.stream(counting("1 wait"))) as parts:
        await anext(parts)
    with anyio.fail_after(LIMIT):
        assert await anyio.to_thread.run_sync(speaker.finished.wait, LIMIT)
    assert len(await say(one, "3")) == 4
    await one.close()


async def test_cancelling_the_task_stops_the_step() -> None:
    speaker = Counter()
    one = worker(speaker)
    with anyio.move_on_after(0.05):
        async for _ in one.stream(counting("1 wait")):
            pass
    assert await anyio.to_thread.run_sync(speaker.finished.wait, LIMIT)
    assert len(await say(one, "3")) == 4
    await one.close()


async def test_cancelling_frees_a_model_that_waits_for_a_slow_reader() -> None:
    speaker = Counter()
    one = worker(speaker)
    async with aclosing(one.stream(counting("100000"))) as parts:
        await anext(parts)
        assert await anyio.to_thread.run_sync(speaker.full.wait, LIMIT)
    begun = time.monotonic()
    await say(one, "3")
    assert time.monotonic() - begun < 10
    await one.close()


async def test_a_model_error_reaches_the_caller_and_the_next_step_works() -> None:
    one = worker()
    with pytest.raises(ModelError, match="no more numbers"):
        await say(one, "3 fail")
    assert len(await say(one, "3")) == 4
    await one.close()


async def test_an_error_of_the_programs_own_is_told_without_its_content(caplog: pytest.LogCaptureFixture) -> None:
    one = worker()
    with pytest.raises(ModelError, match=r"^the model failed: KeyError$"):
        await say(one, "3 break")
    assert "secret" in caplog.text
    assert len(await say(one, "3")) == 4
    await one.close()


async def test_a_model_that_cannot_be_loaded_says_so_every_time() -> None:
    def load() -> Counter:
        raise ModelError("no such directory")

    one = Worker(load)
    for _ in range(2):
        with pytest.raises(ModelError, match="no such directory"):
            await one.ready()
    with pytest.raises(ModelError, match="no such directory"):
        await say(one, "1")
    await one.close()


async def test_ready_can_be_cancelled_and_asked_again() -> None:
    gate = threading.Event()

    def load() -> Counter:
        gate.wait(LIMIT)
        return Counter()

    one = Worker(load)
    with anyio.move_on_after(0.02) as scope:
        await one.ready()
    assert scope.cancelled_caught
    gate.set()
    assert await one.ready() == INFO
    await one.close()


async def test_more_requests_than_the_queue_holds_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("laguna_backend.engine.worker.MOST_JOBS", 3)
    one = worker()
    refused: list[str] = []
    started = anyio.Event()

    async def ask() -> None:
        try:
            async for _ in one.stream(counting("1 wait")):
                started.set()
        except ModelError as error:
            refused.append(str(error))
            group.cancel_scope.cancel()

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            group.start_soon(ask)
            await started.wait()
            for _ in range(3):
                group.start_soon(ask)
    assert refused == ["the model is busy with too many requests"]
    await one.close()


async def test_closing_stops_what_runs_and_fails_what_waits() -> None:
    one = worker()
    errors: list[str] = []

    async def ask() -> None:
        try:
            async for _ in one.stream(counting("1 wait")):
                started.set()
        except ModelError as error:
            errors.append(str(error))

    started = anyio.Event()
    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(ask)
            await started.wait()
            await one.close()
    assert errors == ["the model was closed"] * 3
    with pytest.raises(ModelError, match="closed"):
        await one.ready()
    with pytest.raises(ModelError, match="closed"):
        await say(one, "1")
    await one.close()


async def test_closing_frees_the_model() -> None:
    speaker = Counter()
    gone = weakref.ref(speaker)
    held = [speaker]
    one = Worker(held.pop)
    await one.ready()
    await one.close()
    del speaker
    gc.collect()
    assert gone() is None


async def test_closing_what_never_began_is_nothing() -> None:
    one = worker()
    await one.close()
    await one.close()
    assert one.thread is None


def test_a_loop_that_ended_does_not_hold_the_thread(anyio_backend: str) -> None:
    relays: list[Relay[int]] = []

    async def make() -> None:
        relays.append(Relay(1, print))

    anyio.run(make, backend=anyio_backend)
    with pytest.raises(Cancelled):
        relays[0].put(1)
    relays[0].end()


def test_another_loop_can_use_the_same_worker(anyio_backend: str) -> None:
    one = worker()
    for _ in range(2):
        assert len(anyio.run(say, one, "3", backend=anyio_backend)) == 4


HANGS_WHILE_LOADING = """
import sys, time, anyio
from laguna_backend.engine.worker import PARTS_AHEAD, Worker
async def main():
    with anyio.move_on_after(0.1):
        await Worker(lambda: time.sleep(3600)).ready()
anyio.run(main, backend=sys.argv[1])
print("left")
"""


def test_a_model_that_still_loads_does_not_hold_up_the_interpreters_exit(anyio_backend: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS_WHILE_LOADING, anyio_backend], capture_output=True, text=True, timeout=30
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def numbers() -> Iterator[int]:
    yield from range(3)


async def test_a_relay_gives_what_was_put_before_its_end() -> None:
    relay: Relay[int] = Relay(8, print)

    def fill() -> None:
        for number in numbers():
            relay.put(number)
        relay.end()

    thread = threading.Thread(target=fill)
    thread.start()
    async with aclosing(relay.items()) as items:
        assert [item async for item in items] == [0, 1, 2]
    thread.join(LIMIT)
