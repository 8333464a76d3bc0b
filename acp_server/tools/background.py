"""shell_status, shell_tail, shell_kill: commands that `shell` left running in the background."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from ..action import Action, Outcome, Report, ToolProblem
from ..terminals.background import Background, Shell
from ..wording import bounded, fenced, plural, title, visible
from ..workspace.process import SURRENDER, Ended, signal_name
from .spec import Context, Parameter, Tool

LONGEST_WAIT = 600
"""Seconds that one look may wait for the end of a command."""


def background_of(context: Context) -> Background:
    """Raises ToolProblem where commands cannot outlive their call."""
    if context.background is None:
        raise ToolProblem("commands cannot run in the background here")
    return context.background


def how_ended(ended: Ended, seconds: int) -> str:
    """How a command ended, in a few words for the model."""
    if ended.timed_out or ended.code is None:
        return f"timed out after {seconds} s"
    return f"exit_code: {ended.code}"


async def _prepare_status(context: Context, arguments: dict[str, Any]) -> Action:
    background, id, seconds = background_of(context), arguments["shell_id"], arguments["wait_s"]
    shells = (background.find(id),) if id else background.all()

    async def run(report: Report) -> Outcome:
        if id and seconds:
            with anyio.move_on_after(seconds):
                await shells[0].ended.wait()
        text = "\n".join(_standing(shell) for shell in shells) or "no command runs in the background"
        return Outcome(text, fenced(text), {"shells": [_facts(shell) for shell in shells]})

    return _looking(f"Look at {id or 'the background'}", run)


async def _prepare_tail(context: Context, arguments: dict[str, Any]) -> Action:
    shell, lines = background_of(context).find(arguments["shell_id"]), arguments["lines"]

    async def run(report: Report) -> Outcome:
        printed = shell.command.output.text(context.limit - 200).splitlines()
        standing, text = _standing(shell), "\n".join(printed[-lines:])
        shown = fenced(text, "console") if text else fenced(standing)
        return Outcome(f"{standing}\n{text}" if text else standing, shown, _facts(shell))

    return _looking(f"Read the output of {shell.id}", run)


async def _prepare_kill(context: Context, arguments: dict[str, Any]) -> Action:
    shell = background_of(context).find(arguments["shell_id"])

    async def run(report: Report) -> Outcome:
        shell.command.stop()
        with anyio.move_on_after(SURRENDER + 1):
            await shell.ended.wait()
        text = _standing(shell)
        return Outcome(text, fenced(text), _facts(shell))

    return Action(title(f"Stop {shell.id}"), "execute", run, content=fenced(visible(shell.text, keep="\n\t"), "bash"))


def _looking(heading: str, run: Callable[[Report], Awaitable[Outcome]]) -> Action:
    return Action(title(heading), "read", run, reads_only=True)


def _standing(shell: Shell) -> str:
    """One line: the command and how it stands."""
    size = plural(shell.command.output.size, "byte")
    about = f"{size} printed: {visible(bounded(shell.text, 200))}"
    if not shell.ended.is_set() or shell.command.ended is None:
        return f"{shell.id}: running for {time.monotonic() - shell.began:.0f} s, {about}"
    ended = shell.command.ended
    return f"{shell.id}: {how_ended(ended, shell.seconds)} after {ended.seconds:.1f} s, {about}"


def _facts(shell: Shell) -> dict[str, Any]:
    ended = shell.command.ended
    code = ended.code if ended is not None else None
    return {
        "shell_id": shell.id,
        "running": ended is None,
        "exit_code": code,
        "signal": signal_name(code) if code is not None and code < 0 else None,
        "printed": shell.command.output.size,
    }


SHELL_STATUS = Tool(
    "shell_status",
    "How commands in the background stand: one, or without shell_id all of them.",
    (
        Parameter("shell_id", "string", default=""),
        Parameter("wait_s", "integer", "Seconds to wait for its end.", default=0, least=0, most=LONGEST_WAIT),
    ),
    _prepare_status,
)
SHELL_TAIL = Tool(
    "shell_tail",
    "Read the last lines that a command in the background has printed.",
    (
        Parameter("shell_id", "string", required=True),
        Parameter("lines", "integer", default=40, least=1, most=2000),
    ),
    _prepare_tail,
)
SHELL_KILL = Tool(
    "shell_kill",
    "Stop a command in the background, and all that it started.",
    (Parameter("shell_id", "string", required=True),),
    _prepare_kill,
)
