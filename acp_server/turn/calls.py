"""The tool calls of one step of the model, from announcement to end.

Each call is announced once, `pending`, with all that the user needs to judge it; then comes the question,
if the user's policy wants one; then `in_progress`; and last exactly one of `completed`, `failed` and, where
the user cancelled it or its turn, `cancelled`. Reads run beside each other, everything else alone and in the order
it was asked for. Every call gets one result for the model, in the order of the calls.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import anyio
from anyio.abc import TaskGroup

from acp.errors import ConnectionClosed, RequestError
from acp.updates import UNSET, BlockContent, Plan, TerminalRef, TextBlock, ToolCall, ToolCallUpdate, ToolContent

from ..action import Action, Outcome, Report, Shown, ToolProblem
from ..model import ToolResult, ToolSpec, ToolUse
from ..permissions import Option, Permissions
from .announcement import announcement
from .chunks import Emit
from .job import Job, JobStopped

log = logging.getLogger(__name__)

AT_ONCE = 4
"""How many reads run beside each other."""

GRACE = 0.3
"""Seconds a cancelled tool gets to clean up before the turn goes on without it."""

PROGRESS_INTERVAL = 0.1
"""Seconds between two reports of a running tool's output."""

READS = frozenset({"read", "list_directory", "glob", "grep"})
"""Tools whose calls may be prepared while other reads still run: they depend on nothing those do."""

REJECTED = "error: the user rejected this call"
CANCELLED = "error: cancelled by the user"
CUT_SHORT = "error: the turn failed before the call had ended"


class TurnCancelled(Exception):
    """The user answered a question by cancelling the turn."""


class Tools(Protocol):
    """The tools of a session, as a turn sees them."""

    @property
    def specs(self) -> Sequence[ToolSpec]: ...

    async def prepare(self, name: str, arguments: Any) -> Action: ...


Ask = Callable[[ToolCall, Sequence[Option]], Awaitable[str | None]]
"""Asks the user about a call: the id of the option chosen, or None when the user cancelled instead of
choosing.

Raises `RequestError` when the client cannot answer, which counts as a rejection.
"""


@dataclass(slots=True)
class _Open:
    """A call that was announced and has not ended."""

    use: ToolUse
    id: str
    terminal: Shown | None = None
    shown: float = 0.0
    waiting: tuple[ToolContent, ...] | None = None
    ended: anyio.Event = field(default_factory=anyio.Event)


class Calls:
    """Runs the calls of one step. `results` has what each use returned, None while it has not."""

    def __init__(
        self,
        uses: Sequence[ToolUse],
        tools: Tools,
        permissions: Permissions,
        emit: Emit,
        ask: Ask,
        group: TaskGroup,
        prefix: str,
        *,
        first: int = 1,
    ) -> None:
        self._uses = uses
        self._tools = tools
        self._permissions = permissions
        self._emit = emit
        self._ask = ask
        self._group = group
        self._prefix = prefix
        self._first = first
        self._open: dict[int, _Open] = {}
        self._jobs: dict[int, Job[Any]] = {}
        self._starting: int | None = None
        """The call that is being said to run, and whose job begins then."""
        self.results: list[ToolResult | None] = [None] * len(uses)
        self._cancelled: set[int] = set()
        self.malformed: set[int] = set()
        """The places of uses that were not calls of a tool at all."""

    async def run(self) -> None:
        """Make every call. When it is cancelled, `close` must follow."""
        for n, use in enumerate(self._uses):
            if use.name not in READS:
                await self._drain()
            action = await self._prepare(n, use)
            if action is None:
                continue
            if action.reads_only and self._permissions.allows(action.permission):
                if len(self._jobs) >= AT_ONCE:
                    await self._join(min(self._jobs))
                await self._start(n, action)
            else:
                await self._drain()
                if await self._may_run(n, action):
                    await self._start(n, action)
                    await self._join(n)
        await self._drain()

    async def close(self, *, failed: bool = False) -> None:
        """Stop what still runs and end every open call, as cancelled. For a turn that was cut short.

        With `failed` it was not the user who cut it short.
        """
        jobs = [job for _, job in sorted(self._jobs.items())]
        self._jobs.clear()
        deadline = anyio.current_time() + GRACE
        for job in jobs:
            await job.stop(max(0.0, deadline - anyio.current_time()))
        for n, call in sorted(self._open.items()):
            # What a command had printed stays; for the others the text says why they ended.
            if not failed:
                self._cancelled.add(n)
            await self._fail(n, CUT_SHORT if failed else CANCELLED, shown=() if call.shown else None)

    def cancel(self, id: str) -> bool:
        """Cancel one running call; the others and the turn go on. False if no such call runs."""
        n = next((n for n, call in self._open.items() if call.id == id), None)
        if n is None or n in self._cancelled or not (n in self._jobs or n == self._starting):
            return False
        self._cancelled.add(n)
        if n in self._jobs:
            self._group.start_soon(self._cancel, n, self._open[n], self._jobs[n])
        return True

    async def _cancel(self, n: int, call: _Open, job: Job[Any]) -> None:
        await job.stop(GRACE)  # it may have ended by itself meanwhile, and been forgotten
        with suppress(ConnectionClosed):  # the turn itself will notice
            await self._end(
                n, Outcome(CANCELLED, () if call.shown else (BlockContent(TextBlock(CANCELLED)),), failed=True)
            )
        call.ended.set()

    def result_texts(self) -> list[ToolResult]:
        """One result for each use; those that never ended are said to be cancelled."""
        return [
            result or ToolResult(use.id, use.name, CANCELLED, failed=True)
            for use, result in zip(self._uses, self.results, strict=True)
        ]

    # One call -------------------------------------------------------------------------------------

    async def _prepare(self, n: int, use: ToolUse) -> Action | None:
        """Announce the call.

        None when it cannot be made, which the model and the client have then been told.
        """
        if use.problem is not None:
            self.malformed.add(n)
            await self._announce(n, None)
            await self._fail(n, f"error: {use.problem}")
            return None
        try:
            # A job, for a disk that hangs must not hold up a cancelled turn.
            action = await self._as_job(n, lambda: self._tools.prepare(use.name, use.arguments))
        except Exception as problem:
            if use.name not in {spec.name for spec in self._tools.specs}:
                self.malformed.add(n)
            await self._announce(n, None)
            await self._fail(n, _error(use, problem))
            return None
        if action.plan is None:
            await self._announce(n, action)
        return action

    async def _may_run(self, n: int, action: Action) -> bool:
        permission = action.permission
        if permission is None or self._permissions.allows(permission):
            return True
        call = announcement(self._id(n), self._uses[n], action)
        try:
            chosen = await self._ask(call, self._permissions.options(permission))
        except RequestError as error:
            log.warning("the client could not answer a permission request: %s", error)
            chosen = ""
        if chosen is None:
            raise TurnCancelled
        if self._permissions.decide(permission, chosen):
            return True
        await self._fail(n, REJECTED)
        return False

    async def _start(self, n: int, action: Action) -> None:
        id = self._id(n)
        if action.plan is None:
            if action.terminal is not None:
                self._open[n].shown = anyio.current_time()  # what it shows from here on stays
            content = UNSET if action.terminal is None else (TerminalRef(id),)
            self._starting = n
            await self._emit(ToolCallUpdate(id, status="in_progress", content=content))
            self._starting = None
        job = self._jobs[n] = Job(self._group, lambda: self._finish(n, action, partial(self._progress, n)))
        if n in self._cancelled:  # by a client that had read faster than we wrote
            self._group.start_soon(self._cancel, n, self._open[n], job)

    async def _finish(self, n: int, action: Action, report: Report) -> None:
        """Run the action and end its call. Runs in a job.

        Once `close` has ended the call it changes nothing.
        """
        use = self._uses[n]
        try:
            outcome = await action.run(report)
        except Exception as problem:
            outcome = Outcome(_error(use, problem), failed=True)
        if action.plan is not None:
            self.results[n] = ToolResult(use.id, use.name, outcome.text, outcome.failed)
            if not outcome.failed:
                await self._emit(Plan(action.plan))
        elif outcome.failed and not outcome.content:
            await self._fail(n, outcome.text, outcome.raw_output)
        else:
            await self._end(n, outcome)

    async def _progress(self, n: int, content: tuple[ToolContent, ...]) -> None:
        """Show a running call's content, at most every `PROGRESS_INTERVAL`, the last state always."""
        call = self._open.get(n)
        if call is None:
            return
        wait = call.shown + PROGRESS_INTERVAL - anyio.current_time()
        if call.waiting is None and wait <= 0:
            call.shown = anyio.current_time()
            await self._emit(ToolCallUpdate(call.id, content=content))
        elif call.waiting is None:
            call.waiting = content
            self._group.start_soon(self._show_later, n, call, wait)
        else:
            call.waiting = content

    async def _show_later(self, n: int, call: _Open, wait: float) -> None:
        await anyio.sleep(wait)
        content, call.waiting = call.waiting, None
        if content is not None and self._open.get(n) is call:
            call.shown = anyio.current_time()
            with suppress(ConnectionClosed):  # the turn itself will notice
                await self._emit(ToolCallUpdate(call.id, content=content))

    # Ends -----------------------------------------------------------------------------------------

    async def _announce(self, n: int, action: Action | None) -> None:
        call = announcement(self._id(n), self._uses[n], action)
        self._open[n] = _Open(self._uses[n], call.id, action.terminal if action else None)
        if action is not None and action.terminal is not None:
            await action.terminal.announce(call.id)
        await self._emit(call)

    async def _end(self, n: int, outcome: Outcome) -> None:
        call = self._open.pop(n, None)
        if call is None:
            return
        self.results[n] = ToolResult(call.use.id, call.use.name, outcome.text, outcome.failed)
        end = ToolCallUpdate(
            call.id,
            status="cancelled" if n in self._cancelled else "failed" if outcome.failed else "completed",
            content=outcome.content or UNSET,
            locations=outcome.locations or UNSET,
            raw_output=UNSET if outcome.raw_output is None else outcome.raw_output,
        )
        try:
            if call.terminal is not None:
                await call.terminal.leave()
        finally:
            with anyio.CancelScope(shield=True):  # nobody else will say it: a cancel that comes now is too late
                await self._emit(end)

    async def _fail(
        self, n: int, text: str, raw_output: Any = None, *, shown: tuple[ToolContent, ...] | None = None
    ) -> None:
        """End a call with an error. The text is shown; a diff that was not made is shown no longer."""
        raw = {"error": text} if raw_output is None else raw_output
        content = (BlockContent(TextBlock(text)),) if shown is None else shown
        await self._end(n, Outcome(text, content, raw, failed=True))

    # Jobs -----------------------------------------------------------------------------------------

    async def _as_job(self, n: int, work: Callable[[], Awaitable[Action]]) -> Action:
        job = self._jobs[n] = Job(self._group, work)
        try:
            return await job.wait()
        finally:
            self._forget(n)

    async def _join(self, n: int) -> None:
        call = self._open.get(n)
        try:
            await self._jobs[n].wait()
        except JobStopped:
            if n not in self._cancelled or call is None:
                raise
            await call.ended.wait()
        finally:
            self._forget(n)

    def _forget(self, n: int) -> None:
        """A job that was not waited for to the end stays, for `close` to stop."""
        if self._jobs[n].done:
            del self._jobs[n]

    async def _drain(self) -> None:
        for n in sorted(self._jobs):
            await self._join(n)

    def _id(self, n: int) -> str:
        return f"{self._prefix}.{self._first + n}"


def _error(use: ToolUse, problem: Exception) -> str:
    if isinstance(problem, ToolProblem):
        return f"error: {problem}"
    log.error("tool %s failed unexpectedly", use.name, exc_info=problem)
    return f"error: {use.name} failed unexpectedly; the agent's log says why"
