"""shell: run a command in the workspace."""

from __future__ import annotations

import os
from typing import Any

import anyio
from anyio import to_thread

from ..action import Action, Outcome, Permission, Report, ToolProblem
from ..wording import fenced, title, visible
from ..workspace.process import Command, Ended, clean_environment, shell_command, signal_name
from .prefix import allowed_prefix
from .spec import Context, Parameter, Tool

LONGEST_COMMAND = 100_000
"""Bytes; Linux takes no longer argument than 128 KiB."""

TICK = 0.1
"""Seconds between two looks at the output of a running command."""

FAREWELL = 0.8
"""Seconds a cancelled command has to be gone before the caller goes on without it."""


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    text: str = arguments["cmd"]
    seconds: int = arguments["timeout_s"]
    if not text.strip():
        raise ToolProblem("cmd is empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ToolProblem("cmd has characters that are not valid text") from error
    if "\0" in text:
        raise ToolProblem("cmd contains a NUL character")
    if size > LONGEST_COMMAND:
        raise ToolProblem(f"cmd is too long ({size} bytes); write a script to a file and run that")

    async def run(report: Report) -> Outcome:
        return await _run(context, text, seconds, report)

    prefix = allowed_prefix(text)
    always = f"Always allow `{prefix}` commands this session" if prefix else None
    return Action(
        title(f"`{text}`"),
        "execute",
        run,
        Permission("execute", prefix or "", always),
        fenced(visible(text, keep="\n\t"), "bash"),
    )


async def _run(context: Context, text: str, seconds: int, report: Report) -> Outcome:
    root = context.workspace.jail.roots[0]
    with_limit = context.limit
    try:
        command = await to_thread.run_sync(
            lambda: Command(
                shell_command(text),
                cwd=root.real,
                env={**clean_environment(os.environ), "PWD": root.real},
                seconds=seconds,
                keep=4 * with_limit,
            )
        )
    except OSError as error:
        raise ToolProblem(f"the command could not be started: {error.strerror or error}") from error
    shown = 0
    try:
        while not await to_thread.run_sync(command.wait, TICK, abandon_on_cancel=True):
            if command.output.size != shown:
                shown = command.output.size
                await report(fenced(command.output.text(with_limit), "console"))
    finally:
        command.stop()
        if command.ended is None:
            with anyio.move_on_after(FAREWELL, shield=True):
                await to_thread.run_sync(command.wait, FAREWELL, abandon_on_cancel=True)
    assert command.ended is not None
    return _outcome(command, command.ended, seconds, with_limit)


def _outcome(command: Command, ended: Ended, seconds: int, limit: int) -> Outcome:
    if ended.problem and ended.code in (None, 127) and not ended.timed_out:
        raise ToolProblem(f"the command could not be run: {ended.problem}")
    output = command.output.text(limit - 80)
    failed = ended.timed_out or ended.code is None
    first = f"timed out after {seconds} s" if failed else f"exit_code: {ended.code}"
    notes: list[str] = []
    if ended.left_behind:
        notes.append("[processes still running in the background were stopped]")
    raw = {
        "exit_code": None if failed else ended.code,
        "signal": signal_name(ended.code) if ended.code is not None and ended.code < 0 else None,
        "duration_s": round(ended.seconds, 2),
        "truncated": command.output.truncated or len(output) > limit - 80,
        "timed_out": ended.timed_out,
    }
    return Outcome(
        "\n".join([first, *([output] if output else []), *notes]),
        fenced("\n".join([*([first] if failed else []), *([output] if output else []), *notes]), "console"),
        raw,
        failed=failed,
    )


SHELL = Tool(
    "shell",
    "Run a command in a new bash in the workspace. It gets no input; cd and variables do not last.",
    (
        Parameter("cmd", "string", required=True),
        Parameter("description", "string", "What it is for."),
        Parameter("timeout_s", "integer", "Seconds until it is stopped.", default=120, least=1, most=1800),
    ),
    prepare,
)
