"""The one thread that torch runs on.

Jobs wait in a bounded queue and run one after another; what a job yields goes to its caller through a bounded stream,
so a caller that does not read makes the model wait. A job is cancelled by an event that it looks at between steps.
Torch is imported here, on the thread, so that the event loop never waits for it.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
from anyio.streams.memory import MemoryObjectSendStream

from acp_server.model import Message, ModelError, Part, Sampling, ToolSpec

if TYPE_CHECKING:
    from .loading import Speaker

log = logging.getLogger("laguna")

WAITING_JOBS = 64
PARTS_AHEAD = 64


@dataclass
class Job:
    """One step to say: what to run, where its parts go, and whether anybody still wants them."""

    conversation: list[Message]
    tools: list[ToolSpec]
    sampling: Sampling
    parts: MemoryObjectSendStream[Part | Exception]
    loop: Any
    cancelled: threading.Event = field(default_factory=threading.Event)


class Worker:
    """Owns a loaded model and the thread it runs on. `load` is called once, on that thread."""

    def __init__(self, load: Callable[[], Speaker]) -> None:
        self.load = load
        self.loaded: Future[Speaker] = Future()
        self.jobs: queue.Queue[Job | None] = queue.Queue(WAITING_JOBS)
        self.thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to load, if that has not begun. A daemon thread: it never keeps the process alive."""
        if self.thread is None:
            self.thread = threading.Thread(target=self.work, name="laguna", daemon=True)
            self.thread.start()

    async def ready(self) -> Speaker:
        """Wait for the model. Raises what loading raised."""
        self.start()
        return await anyio.to_thread.run_sync(self.loaded.result, abandon_on_cancel=True)

    async def say(
        self, conversation: list[Message], tools: list[ToolSpec], sampling: Sampling
    ) -> AsyncGenerator[Part, None]:
        """Run one step on the thread; its parts as they come. Closing the generator cancels the step."""
        await self.ready()
        send, receive = anyio.create_memory_object_stream[Part | Exception](PARTS_AHEAD)
        job = Job(conversation, tools, sampling, send, anyio.lowlevel.current_token())
        try:
            self.jobs.put_nowait(job)
        except queue.Full as error:
            raise ModelError("the model is busy with too many requests") from error
        try:
            async for part in receive:
                if isinstance(part, Exception):
                    raise part
                yield part
        finally:
            job.cancelled.set()
            receive.close()

    def close(self) -> None:
        """Let the thread end after the job it is at."""
        if self.thread is not None:
            try:
                self.jobs.put_nowait(None)
            except queue.Full:
                log.warning("the model's queue is full; its thread ends with the process")

    # On the thread ---------------------------------------------------------------------------------------

    def work(self) -> None:
        try:
            speaker = self.load()
        except BaseException as error:
            self.loaded.set_exception(error if isinstance(error, ModelError) else wrapped(error))
            return
        self.loaded.set_result(speaker)
        while (job := self.jobs.get()) is not None:
            self.run(speaker, job)

    def run(self, speaker: Speaker, job: Job) -> None:
        from .engine import Cancelled

        try:
            parts: Iterator[Part] = speaker.say(job.conversation, job.tools, job.sampling, job.cancelled.is_set)
            for part in parts:
                if job.cancelled.is_set():
                    break
                self.give(job, part)
        except (Cancelled, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        except Exception as error:
            try:
                self.give(job, error if isinstance(error, ModelError) else wrapped(error))
            except (anyio.BrokenResourceError, anyio.ClosedResourceError, RuntimeError):
                log.debug("nobody waits for the error", exc_info=True)
        finally:
            self.end(job)

    def give(self, job: Job, part: Part | Exception) -> None:
        """Hand a part to the caller's event loop; waits while the caller is 64 parts behind."""
        anyio.from_thread.run(job.parts.send, part, token=job.loop)

    def end(self, job: Job) -> None:
        try:
            anyio.from_thread.run_sync(job.parts.close, token=job.loop)
        except RuntimeError:  # the event loop is gone
            log.debug("the caller's event loop has ended")


def wrapped(error: BaseException) -> ModelError:
    """An error of the model's own, for the user; its traceback goes to the log."""
    log.error("the model failed", exc_info=error)
    return ModelError(f"the model failed: {type(error).__name__}")
