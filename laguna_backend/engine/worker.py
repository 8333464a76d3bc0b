"""The one thread that torch runs on.

Jobs run side by side on it: each is a generator that gives items, and None where it has to wait for the model. Between
their turns the model takes one step for all of them. What a job gives goes to its caller through a bounded relay; while
that is full the job gets no turn, so a caller who does not read makes his own job wait and nobody else's.

The thread is a daemon and the first import of torch happens on it: neither the event loop nor the interpreter's exit
ever waits for the model.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import anyio

from acp_server.model import ModelError, ModelInfo

from .relay import POLL_SECONDS, Cancelled, Relay, finished
from .request import Busy

log = logging.getLogger("laguna")

MOST_JOBS = 64
"""that run or wait at a time"""
PARTS_AHEAD = 64
CLOSING_SECONDS = 2.0

CLOSED = "the model was closed"


class Speaker(Protocol):
    """A loaded model. Only the worker's thread touches it."""

    @property
    def info(self) -> ModelInfo: ...

    def step(self) -> bool:
        """Go on with all that is under way by one step, a second at the most; False: nothing could be gone on with."""
        ...


S = TypeVar("S", bound=Speaker)
T = TypeVar("T")

Run = Callable[[S, Callable[[], bool]], Generator[T | None, None, None]]
"""A job: given the speaker and a function that says whether to stop, it gives items, and None to wait for a step.

It is closed when nobody wants it any more. The function is for what takes long within a step: that raises Cancelled.
"""


@dataclass(eq=False)
class Job(Generic[S]):
    """What to run on the thread, how far it is, and where its items go."""

    run: Run[S, Any]
    items: Relay[Any]
    turns: Generator[Any, None, None] | None = None


class Worker(Generic[S]):
    """Owns a model and the thread it runs on. `load` is called once, on that thread."""

    def __init__(self, load: Callable[[], S]) -> None:
        self.load = load
        self.loaded: Future[ModelInfo] = Future()
        self.ended: Future[None] = Future()
        self.closing = threading.Event()
        self.news = threading.Event()  # a new job, room in a relay, a reader who left, the end
        self.lock = threading.Lock()  # over `new`; no job enters it once `closing` is set
        self.new: deque[Job[S]] = deque()
        self.jobs: list[Job[S]] = []  # the thread's own
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to load, if that has not begun. Raises ModelError after `close`."""
        with self.lock:
            if self.closing.is_set():
                raise ModelError(CLOSED)
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, name="laguna", daemon=True)
                self.thread.start()

    async def ready(self) -> ModelInfo:
        """Wait for the model. Raises ModelError as often as it is asked, when loading failed."""
        self.start()
        try:
            return await finished(self.loaded)
        except ModelError as error:
            # One of its own: this one would collect tracebacks.
            raise ModelError(str(error), shown=error.shown) from error

    async def stream(self, run: Run[S, T]) -> AsyncGenerator[T, None]:
        """What a job gives, as it comes. Closing the generator ends the job. Raises ModelError, whatever `run` did."""
        await self.ready()
        job = Job(run, Relay[Any](PARTS_AHEAD, self.news.set))
        with self.lock:
            if self.closing.is_set():
                raise ModelError(CLOSED)
            if len(self.new) + len(self.jobs) >= MOST_JOBS:
                raise ModelError("the model is busy with too many requests") from Busy()
            self.new.append(job)
        self.news.set()
        async with contextlib.aclosing(job.items.items()) as items:
            async for item in items:
                if isinstance(item, Exception):
                    raise item
                yield item

    async def close(self) -> None:
        """Stop the running jobs, free the model. Waits two seconds at most. Idempotent."""
        with self.lock:
            self.closing.set()
            started = self.thread is not None
        self.news.set()
        if started:
            with anyio.move_on_after(CLOSING_SECONDS):
                await finished(self.ended)

    # On the thread ---------------------------------------------------------------------------------------

    def work(self) -> None:
        try:
            self.serve()
        finally:
            self.drain()
            self.ended.set_result(None)

    def serve(self) -> None:
        try:
            speaker = self.load()
            info = speaker.info
        except BaseException as error:
            self.loaded.set_exception(error if isinstance(error, ModelError) else wrapped(error))
            return
        self.loaded.set_result(info)
        while not self.closing.is_set():
            self.news.clear()
            self.take_new(speaker)
            gave = [self.turn(job) for job in tuple(self.jobs)]
            if not self.step(speaker) and not any(gave):
                # Of an event loop that has ended, no reader will ever say so.
                self.news.wait(POLL_SECONDS if self.jobs else None)

    def take_new(self, speaker: S) -> None:
        with self.lock:
            new = list(self.new)
            self.new.clear()
            self.jobs += new
        for job in new:

            def cancelled(job: Job[S] = job) -> bool:
                return job.items.cancelled.is_set() or self.closing.is_set()

            try:
                job.turns = job.run(speaker, cancelled)
            except Exception as error:
                self.end(job, wrapped(error))

    def step(self, speaker: S) -> bool:
        try:
            return speaker.step()
        except Exception as error:  # no job's own: each is told
            for job in tuple(self.jobs):
                self.end(job, wrapped(error))
            return True

    def turn(self, job: Job[S]) -> bool:
        """Let a job give items until it waits for the model or its reader; whether it gave any or ended."""
        assert job.turns is not None
        gave = False
        try:
            if job.items.gone():
                raise Cancelled
            while job.items.room:
                item = next(job.turns)
                if item is None:
                    return gave
                gave = True
                job.items.put(item)
        except StopIteration:
            self.end(job)
        except Cancelled:
            self.end(job, ModelError(CLOSED))
        except Exception as error:
            self.end(job, error if isinstance(error, ModelError) else wrapped(error))
        else:
            return gave
        return True

    def end(self, job: Job[S], error: ModelError | None = None) -> None:
        """The job is over, one way or the other."""
        if job.turns is not None:
            try:
                job.turns.close()
            except Exception as failure:
                log.error("a job did not end as it should", exc_info=failure)
        with contextlib.suppress(Cancelled):
            if error is not None:
                job.items.put(error)
        job.items.end()
        with self.lock:
            if job in self.jobs:
                self.jobs.remove(job)

    def drain(self) -> None:
        """Fail the jobs that are left."""
        with self.lock:
            left = [*self.jobs, *self.new]
            self.new.clear()
        for job in left:
            self.end(job, ModelError(CLOSED))


def wrapped(error: BaseException) -> ModelError:
    """An error of the model's own, for the user; its traceback goes to the log."""
    log.error("the model failed", exc_info=error)
    return ModelError(f"the model failed: {type(error).__name__}", shown="the model failed unexpectedly")
