"""One step of the model: shown a conversation, it speaks until it stops."""

from __future__ import annotations

import math
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
from .handover import Handover
from .job import Job

GRACE = 0.3
"""Seconds a cancelled model gets to stop before the turn goes on without it."""
MOST_AHEAD = 16
"""Parts that a model may be ahead of the client: a slow one makes it wait instead of filling memory."""


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
    said = Handover[Part](MOST_AHEAD)

    async def feed() -> None:
        try:
            async with aclosing(model.generate(conversation, tools, sampling)) as parts:
                async for part in parts:
                    await said.put(part)
        finally:
            said.end()

    job = Job(group, feed)
    try:
        while step.stop is None:
            part = said.take_now()
            if part is None and chunks.due == math.inf:
                part = await said.take()
            elif part is None:
                with anyio.CancelScope(deadline=chunks.due):
                    part = await said.take()
            await _take(part, step, chunks)
        with anyio.move_on_after(GRACE):  # let the generator end by itself
            await said.drain()
    except anyio.EndOfStream:
        await job.wait()
        raise ModelError("the model stopped without saying why") from None
    finally:
        said.close()
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
