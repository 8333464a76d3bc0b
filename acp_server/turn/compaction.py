"""Compaction: the model summarises what it can no longer be shown.

The request is added to the very conversation that the model has been shown, so that its cached prefix serves once more.
The messages stay where they are, in memory and in the log; what changes is from where on they are shown.
"""

from __future__ import annotations

from dataclasses import replace

import anyio

from acp.updates import Compaction, CompactionChunk, ContextUsage, MessageChunk, TextBlock, Update

from ..model import ModelError, Stop, Summary, User
from .chunks import Chunks
from .conversation import reserve
from .parts import Parts
from .step import Step, speak

FAREWELL = 0.3
"""Seconds that the last word of a compaction that was cancelled has, should the client be slow to take it."""

REQUEST = """\
This conversation is about to be shortened: you will see its last steps, what the user has said word for word, and what
you write now. Do not call a tool and do not go on with the task. Write down, in short plain sentences, what you need
to go on with it:
- what the user wants, and what was decided, with the reasons;
- what you have found out: paths, names, commands, versions, numbers, error messages, exactly as they were;
- which files were read or changed, and how;
- what has been tried without success;
- what is done, what is left, and what comes next.
Leave out greetings, and what is no longer true."""


async def compact(parts: Parts, id: str, share: float, hint: str = "") -> Stop | None:
    """Have the model summarise all but the last steps, which keep that share of the room.

    `hint` is what the user wants it to keep in mind. What it has cost; None where there was nothing to summarise. A
    model that fails leaves the conversation as it was, and the user is told.
    """
    conversation, info, tools = parts.conversation, parts.info, parts.tools.specs
    if (first := conversation.spared(info, share)) <= conversation.first:
        return None
    request = User(f"{REQUEST}\nThe user asks you to keep in mind: {hint}" if hint else REQUEST)
    most = reserve(info) // 2
    asked = conversation.past(info, tools, first, request, most)
    sampling = replace(parts.sampling, thinking=False, thinking_budget=None, max_tokens=most)
    step, end, stop = Step(), Compaction(id, "cancelled"), Stop("end_turn")

    async def tell(update: Update) -> None:
        match update:
            case MessageChunk("agent", content):
                await parts.emit(CompactionChunk(id, content))
            case _:
                pass  # what it thinks on the way

    await parts.emit(Compaction(id, "in_progress"))
    try:
        stop = await speak(parts.model, asked, tools, sampling, step, Chunks(tell, id, parts.crowded), parts.group)
        if text := "".join(step.text).strip():
            conversation.summarised(Summary(first, text))
            end = Compaction(id, "completed", (TextBlock(text),))
        else:
            end = Compaction(id, "failed", error="The model wrote no summary.")
    except ModelError as error:
        end = Compaction(id, "failed", error=f"The model failed: {error.told()}")
    finally:
        with anyio.move_on_after(FAREWELL, shield=True):
            await parts.emit(end)
    if end.status == "completed":
        used = int(conversation.tokens(info, tools))
        await parts.emit(ContextUsage(min(used, info.context_size), info.context_size))
    return stop
