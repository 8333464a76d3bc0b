"""The one thread that torch runs on.

Jobs wait in a bounded queue and run one after another; what a job yields goes to its caller through a bounded relay,
so a caller that does not read makes the model wait. A job is cancelled by an event that it looks at between steps.
The thread is a daemon and the first import of torch happens on it: neither the event loop nor the interpreter's exit
ever waits for the model.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

import anyio

from acp_server.model import ModelError, ModelInfo

from .relay import Cancelled, Relay, finished

log = logging.getLogger("laguna")

WAITING_JOBS = 64
PARTS_AHEAD = 64
CLOSING_SECONDS = 2.0

CLOSED = "the model was closed"


class Speaker(Protocol):
    """A loaded model. Only the worker's thread touches it."""

    @property
    def info(self) -> ModelInfo: ...


S = TypeVar("S", bound=Speaker)
T = TypeVar("T")


@dataclass(frozen=True)
class Job(Generic[S]):
    """What to run on the thread, and where what it yields goes. It is told how to see that nobody wants it any more."""

    run: Callable[[S, Callable[[], bool]], Generator[Any, None, None]]
    items: Relay[Any]


class Worker(Generic[S]):
    """Owns a model and the thread it runs on. `load` is called once, on that thread."""

    def __init__(self, load: Callable[[], S]) -> None:
        self.load = load
        self.loaded: Future[ModelInfo] = Future()
        self.ended: Future[None] = Future()
        self.closing = threading.Event()
        self.lock = threading.Lock()  # no job enters the queue once `closing` is set
        self.jobs: queue.Queue[Job[S] | None] = queue.Queue(WAITING_JOBS)
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
            raise ModelError(str(error)) from error  # one of its own: this one would collect tracebacks

    async def stream(self, run: Callable[[S, Callable[[], bool]], Generator[T, None, None]]) -> AsyncGenerator[T, None]:
        """What `run` yields on the thread, as it comes. Closing the generator cancels it.

        `run` is given the speaker and a function that says whether to stop: then it raises Cancelled, soon. Raises
        ModelError, whatever `run` raised.
        """
        await self.ready()
        job = Job(run, Relay[Any](PARTS_AHEAD))
        with self.lock:
            if self.closing.is_set():
                raise ModelError(CLOSED)
            try:
                self.jobs.put_nowait(job)
            except queue.Full as error:
                raise ModelError("the model is busy with too many requests") from error
        async with contextlib.aclosing(job.items.items()) as items:
            async for item in items:
                if isinstance(item, Exception):
                    raise item
                yield item

    async def close(self) -> None:
        """Stop the running step, fail the waiting ones, free the model. Waits two seconds at most. Idempotent."""
        with self.lock:
            self.closing.set()
            with contextlib.suppress(queue.Full):  # full: the thread looks at `closing` before it takes the next
                self.jobs.put_nowait(None)
            started = self.thread is not None
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
            job = self.jobs.get()
            if job is not None:
                self.run(speaker, job)

    def run(self, speaker: S, job: Job[S]) -> None:
        def cancelled() -> bool:
            return job.items.cancelled.is_set() or self.closing.is_set()

        try:
            if not job.items.cancelled.is_set():  # it may have been while it waited
                with contextlib.closing(job.run(speaker, cancelled)) as items:
                    for item in items:
                        job.items.put(item)
        except Cancelled:
            self.fail(job, ModelError(CLOSED))
        except Exception as error:
            self.fail(job, error if isinstance(error, ModelError) else wrapped(error))
        finally:
            job.items.end()

    def fail(self, job: Job[S], error: ModelError) -> None:
        with contextlib.suppress(Cancelled):
            job.items.put(error)

    def drain(self) -> None:
        """Fail the jobs that will not run."""
        while True:
            try:
                job = self.jobs.get_nowait()
            except queue.Empty:
                return
            if job is not None:
                self.fail(job, ModelError(CLOSED))
                job.items.end()


def wrapped(error: BaseException) -> ModelError:
    """An error of the model's own, for the user; its traceback goes to the log."""
    log.error("the model failed", exc_info=error)
    return ModelError(f"the model failed: {type(error).__name__}")
