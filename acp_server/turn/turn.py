"""One prompt turn: the model speaks, its tools run, the model speaks again, until it stops.

Nothing here knows a protocol version, a wire type, a transport or torch. A turn always ends, and says
truthfully how: with a stop reason, or by raising `TurnFailed`. However it ends, the history stays fit for
the next turn: every tool use has its result, and what the model had said when it was cut short is kept and
marked.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import anyio

from acp.errors import AcpError
from acp.updates import ContextUsage

from ..model import ModelError, ModelInfo, Stop, System, TooLong, ToolSpec, Usage
from .calls import Calls, TurnCancelled
from .chunks import Chunks
from .compaction import compact
from .conversation import FAILED, INTERRUPTED, ContextFull, Conversation
from .guard import LoopGuard
from .parts import Parts
from .step import Step, speak

log = logging.getLogger(__name__)

TurnEnd = Literal["end_turn", "max_tokens", "max_turn_requests", "refusal", "cancelled"]
"""How a turn can end. A turn that fails raises instead."""

FAREWELL = 0.3
"""Seconds a cancelled turn has for its last updates, should the client be slow to take them."""

SPARED = 0.25
"""The share of the room that the last steps keep when a conversation that no longer fits is summarised."""

NUDGE = "Your last answer was empty. Call a tool, or answer the user."


class TurnFailed(Exception):
    """The model failed. The message is for the user, who has also been shown it."""


class PromptTooLong(Exception):
    """The prompt alone does not fit the model's context window. The session is as it was before."""


@dataclass(slots=True)
class Spent:
    """What a turn has cost so far. `seconds` is the model's own time."""

    usage: Usage = field(default_factory=Usage)
    seconds: float = 0.0
    steps: int = 0

    def add(self, stop: Stop) -> None:
        total, more = self.usage, stop.usage
        self.usage = Usage(
            total.input + more.input,
            total.cached + more.cached,
            total.output + more.output,
            total.thought + more.thought,
        )
        self.seconds += stop.seconds
        self.steps += 1


class Turn:
    """One turn. `id` prefixes the ids of its messages and tool calls; `spent` is true at any time."""

    def __init__(self, parts: Parts, id: str = "t1") -> None:
        self.id = id
        self.spent = Spent()
        self._parts = parts
        self._guard = LoopGuard()
        self._chunks = Chunks(parts.emit, f"{id}.m", parts.crowded)
        self._step: Step | None = None
        self._calls: Calls | None = None
        self._retried = False
        self._shortened = False
        self._number_of_calls = 0
        self._compactions = 0
        self._summarises = not parts.info.compact

    async def run(self, prompt: str) -> TurnEnd:
        """Take the turn. Raises `TurnFailed`. When cancelled, it has tidied up."""
        self._parts.conversation.begin(prompt)
        return await self._to_its_end(self._take_steps)

    async def compact(self, hint: str = "") -> TurnEnd:
        """Do nothing but summarise the conversation, as the user has asked. Ends as `run` does."""
        self._parts.conversation.begin(None)
        return await self._to_its_end(partial(self._summarise, hint))

    async def _to_its_end(self, work: Callable[[], Awaitable[TurnEnd]]) -> TurnEnd:
        conversation = self._parts.conversation
        try:
            return await work()
        except TurnCancelled:
            await self._settle()
            return "cancelled"
        except ContextFull as full:
            await self._tell(f"This conversation no longer fits the model's context window ({full}).")
            return "max_tokens"
        except AcpError:
            await self._settle(failed=True)
            conversation.abandon_turn()
            raise
        except Exception as error:
            raise await self._failed(error) from error
        except BaseException:  # cancelled, in whichever way the event loop says it
            await self._settle()
            raise

    def cancel_call(self, id: str) -> bool:
        """Cancel one running call; the turn goes on. False if no such call runs."""
        return self._calls is not None and self._calls.cancel(id)

    # Steps ----------------------------------------------------------------------------------------

    async def _take_steps(self) -> TurnEnd:
        for _ in range(self._parts.max_steps):
            if (reason := await self._take_step()) is not None:
                return reason
        await self._tell(f"I stopped after {self._parts.max_steps} steps without finishing.")
        return "max_turn_requests"

    async def _take_step(self) -> TurnEnd | None:
        """One step of the model and the calls it asks for; why the turn ends, or None."""
        parts = self._parts
        if not parts.conversation.make_room(parts.info, parts.tools.specs) and self._summarises:
            before = parts.conversation.summary
            await self._compact(SPARED)
            self._summarises = parts.conversation.summary is not before  # a model that cannot is not asked at each step
        messages = parts.conversation.fit(parts.info, parts.tools.specs)
        self._step = step = Step()
        try:
            stop = await speak(
                parts.model, messages, parts.tools.specs, parts.sampling, step, self._chunks, parts.group
            )
        except TooLong:
            if self._shortened:
                raise
            return await self._shorten()
        self.spent.add(stop)
        parts.conversation.counted(stop.usage)
        if stop.usage.input:
            used = stop.usage.input + stop.usage.output
            await parts.emit(ContextUsage(min(used, parts.info.context_size), parts.info.context_size))
        await self._chunks.end_message()
        if step.is_empty and stop.reason in ("end_turn", "tool_use"):
            return await self._empty()
        parts.conversation.append(step.message())
        self._step = None
        if step.tool_uses:
            return await self._call(step)
        return "end_turn" if stop.reason == "tool_use" else stop.reason

    async def _shorten(self) -> None:
        """The context is smaller than it was said to be: go on within what the model says now, or a quarter less."""
        self._step, self._shortened = None, True
        info, now = self._parts.info, await self._parts.model.ready()
        size = now.context_size if now.context_size < info.context_size else info.context_size * 3 // 4
        log.warning("%s holds less than %d tokens; the turn goes on with %d", info.name, info.context_size, size)
        self._parts = replace(self._parts, info=replace(info, context_size=size))

    async def _empty(self) -> TurnEnd | None:
        """The model said nothing: ask once more, then say so."""
        self._step = None
        if self._retried:
            await self._tell("The model gave no answer.")
            return "end_turn"
        self._retried = True
        self._parts.conversation.append(System(NUDGE))
        return None

    async def _call(self, step: Step) -> TurnEnd | None:
        parts = self._parts
        calls = Calls(
            step.tool_uses,
            parts.tools,
            parts.permissions,
            parts.emit,
            parts.ask,
            parts.group,
            self.id,
            first=self._number_of_calls + 1,
        )
        self._number_of_calls += len(step.tool_uses)
        self._calls = calls
        await calls.run()
        self._calls = None
        results = calls.result_texts()
        parts.conversation.append(*results)
        for n, (use, result) in enumerate(zip(step.tool_uses, results, strict=True)):
            self._guard.note(use, result, malformed=n in calls.malformed)
        match self._guard.judge():
            case "stop":
                await self._tell("I stopped because I kept making the same calls without getting further.")
                return "max_turn_requests"
            case "remind":
                parts.conversation.append(System(self._guard.reminder))
            case "go on":
                pass
        return None

    # Compaction -----------------------------------------------------------------------------------

    async def _summarise(self, hint: str) -> TurnEnd:
        if not self._summarises:
            await self._tell(f"{self._parts.info.name} is too small to summarise a conversation.")
        elif not await self._compact(0.0, hint):
            await self._tell("There is nothing to summarise yet.")
        return "end_turn"

    async def _compact(self, share: float, hint: str = "") -> bool:
        self._compactions += 1
        stop = await compact(self._parts, f"{self.id}.s{self._compactions}", share, hint)
        if stop is not None:
            self.spent.add(stop)
        return stop is not None

    # Ends -----------------------------------------------------------------------------------------

    async def _failed(self, error: Exception) -> TurnFailed:
        """Tell the user that the model failed, and why if that is fit to be told."""
        if isinstance(error, ModelError):
            text = f"The model failed: {error.told()}"
        else:
            reference = uuid.uuid4().hex[:8]
            log.error("turn %s failed (%s)", self.id, reference, exc_info=error)
            text = f"The model failed unexpectedly (see {reference} in the agent's log)."
        await self._settle(failed=True)
        self._parts.conversation.abandon_turn()
        await self._tell(text)
        return TurnFailed(text)

    async def _settle(self, *, failed: bool = False) -> None:
        """Leave nothing open: calls end, results are there, partial speech is kept. Takes under a second."""
        conversation = self._parts.conversation
        with anyio.move_on_after(FAREWELL, shield=True):
            try:
                await self._chunks.end_message()
            except AcpError:
                log.debug("nobody is left to take the last words of turn %s", self.id)
        if self._step is not None:
            step, self._step = self._step, None
            if step.text or not failed:
                conversation.interrupt("".join(step.text), "".join(step.thought), FAILED if failed else INTERRUPTED)
        if self._calls is not None:
            calls, self._calls = self._calls, None
            with anyio.move_on_after(2 * FAREWELL, shield=True):
                try:
                    await calls.close(failed=failed)
                except AcpError:
                    log.debug("nobody is left to be told how the calls of turn %s ended", self.id)
            conversation.append(*calls.result_texts())

    async def _tell(self, text: str) -> None:
        """Say something to the user in the agent's own name."""
        await self._chunks.end_message()
        await self._chunks.add("agent", text)
        await self._chunks.end_message()


def check_room(conversation: Conversation, prompt: str, info: ModelInfo, tools: Sequence[ToolSpec]) -> None:
    """Raise PromptTooLong for a prompt that could not be shown even with nothing before it, before its turn begins."""
    try:
        conversation.check(prompt, info, tools)
    except ContextFull as full:
        raise PromptTooLong(
            f"The prompt is too long: about {full.needed:,} tokens, and {info.name} has room for {full.available:,}."
        ) from full
