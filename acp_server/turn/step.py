"""One step of the model: shown a conversation, it speaks until it stops."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from ..model import (
    Assistant,
    Message,
    ModelBackend,
    ModelError,
    Part,
    Sampling,
    Stop,
    Text,
    Thought,
    ToolSpec,
    ToolUse,
)
from .chunks import Chunks
from .job import Job

GRACE = 0.3
"""Seconds a cancelled model gets to stop before the turn goes on without it."""


@dataclass(slots=True)
class Step:
    """What the model has said so far; complete once `stop` is there."""

    text: list[str] = field(default_factory=list[str])
    thought: list[str] = field(default_factory=list[str])
    tool_uses: list[ToolUse] = field(default_factory=list[ToolUse])
    stop: Stop | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing the user could see and nothing to do."""
        return not self.tool_uses and not "".join(self.text).strip()

    def message(self) -> Assistant:
        step_id = self.stop.step_id if self.stop else None
        return Assistant("".join(self.text), "".join(self.thought), tuple(self.tool_uses), step_id)


async def speak(
    model: ModelBackend,
    conversation: Sequence[Message],
    tools: Sequence[ToolSpec],
    sampling: Sampling,
    step: Step,
    chunks: Chunks,
    group: TaskGroup,
) -> Stop:
    """Fill `step` with what the model says, passing text on as it comes. Raises what the model raises.

    The model runs as a job, so a flush that falls due never interrupts it and a cancelled turn need not
    wait for it.
    """
    # 16: a slow client makes the model wait instead of filling memory.
    send, receive = anyio.create_memory_object_stream[Part](16)

    async def feed() -> None:
        async with send, aclosing(model.generate(conversation, tools, sampling)) as parts:
            async for part in parts:
                await send.send(part)

    job = Job(group, feed)
    try:
        async with receive:
            while step.stop is None:
                part: Part | None = None
                with anyio.CancelScope(deadline=chunks.due):
                    part = await receive.receive()
                await _take(part, step, chunks)
            with anyio.move_on_after(GRACE):  # let the generator end by itself
                async for _ in receive:
                    pass
    except anyio.EndOfStream:
        await job.wait()
        raise ModelError("the model stopped without saying why") from None
    finally:
        await job.stop(GRACE)
    await chunks.flush()
    return step.stop


async def _take(part: Part | None, step: Step, chunks: Chunks) -> None:
    match part:
        case None:
            await chunks.flush_if_heard()
        case Text(text):
            step.text.append(text)
            await chunks.add("agent", text)
        case Thought(text):
            step.thought.append(text)
            await chunks.add("thought", text)
        case ToolUse():
            step.tool_uses.append(part)
        case Stop():
            step.stop = part
        case _:
            # ToolUseStarted, ToolUseArguments: the call is announced when its arguments are known.
            await chunks.flush()
