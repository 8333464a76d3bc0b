"""shell: run a command in the workspace."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from anyio import to_thread

from acp.updates import BlockContent, TerminalRef, TextBlock

from ..action import Action, Outcome, Permission, Report, ToolProblem
from ..terminals.background import LONGEST, Shell
from ..terminals.terminals import Terminals
from ..wording import fenced, title, visible
from ..workspace.process import Command, Ended, clean_environment, shell_command, signal_name
from .background import background_of, how_ended
from .prefix import allowed_prefix
from .spec import Context, Parameter, Tool

LONGEST_COMMAND = 100_000
"""Bytes; Linux takes no longer argument than 128 KiB."""
SECONDS = 120
"""How long a command may take that the model waits for, unless its call says otherwise."""
LONGEST_WAIT = 1800
"""The longest that a call may say."""


@dataclass(slots=True)
class _Terminal:
    """Where the user sees the command. One that is `detached` outlives the call."""

    terminals: Terminals
    command: str
    cwd: str
    id: str = ""
    detached: bool = False

    async def announce(self, id: str) -> None:
        self.id = id
        await self.terminals.announce(id, self.command, self.cwd)

    async def leave(self) -> None:
        if not self.detached:
            await self.terminals.leave(self.id)


async def prepare(context: Context, arguments: dict[str, Any]) -> Action:
    text: str = arguments["cmd"]
    in_background: bool = arguments["background"]
    asked: int | None = arguments["timeout_s"]
    seconds = (asked or LONGEST) if in_background else min(asked or SECONDS, LONGEST_WAIT)
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
    if in_background:
        background_of(context).check_room()

    terminal = _Terminal(context.terminals, text, str(context.workspace.jail.roots[0].real))

    async def run(report: Report) -> Outcome:
        command = await _start(context, text, seconds)
        if in_background:
            return await _detach(context, Shell(terminal.id, text, command, seconds), terminal)
        stopped = await context.terminals.watch(terminal.id, command)
        assert command.ended is not None
        return _outcome(command, command.ended, seconds, context.limit, TerminalRef(terminal.id), stopped=stopped)

    prefix = allowed_prefix(text)
    always = f"Always allow `{prefix}` commands this session" if prefix else None
    return Action(
        title(f"`{text}`{' in the background' if in_background else ''}"),
        "execute",
        run,
        Permission("execute", prefix or "", always),
        fenced(visible(text, keep="\n\t"), "bash"),
        terminal=terminal,
    )


async def _start(context: Context, text: str, seconds: int) -> Command:
    root = context.workspace.jail.roots[0]
    try:
        return await to_thread.run_sync(
            lambda: Command(
                shell_command(text),
                cwd=root.real,
                env={**clean_environment(os.environ), "PWD": root.real},
                seconds=seconds,
                keep=4 * context.limit,
            )
        )
    except OSError as error:
        raise ToolProblem(f"the command could not be started: {error.strerror or error}") from error


async def _detach(context: Context, shell: Shell, terminal: _Terminal) -> Outcome:
    """Let the command run on beside the turn."""
    terminal.detached = True  # its end is told by whoever watches it from here on
    try:
        await background_of(context).start(shell)
    except ToolProblem:
        terminal.detached = False
        raise
    text = f"started in the background as shell_id {shell.id}; see shell_status, shell_tail, shell_kill"
    remark = BlockContent(TextBlock(f"Runs in the background as {shell.id}."))
    return Outcome(text, (TerminalRef(shell.id), remark), {"shell_id": shell.id, "background": True})


def _outcome(command: Command, ended: Ended, seconds: int, limit: int, shown: TerminalRef, *, stopped: bool) -> Outcome:
    if ended.problem and ended.code in (None, 127) and not ended.timed_out:
        raise ToolProblem(f"the command could not be run: {ended.problem}")
    output = command.output.text(limit - 80)
    failed = ended.timed_out or ended.code is None
    first = how_ended(ended, seconds)
    notes: list[str] = []
    if stopped:
        notes.append("[stopped by the user]")
    if ended.left_behind:
        notes.append("[processes still running in the background were stopped]")
    raw = {
        "exit_code": None if failed else ended.code,
        "signal": signal_name(ended.code) if ended.code is not None and ended.code < 0 else None,
        "duration_s": round(ended.seconds, 2),
        "truncated": command.output.truncated or len(output) > limit - 80,
        "timed_out": ended.timed_out,
    }
    remarks = "\n".join([*([first] if failed else []), *notes])
    return Outcome(
        "\n".join([first, *([output] if output else []), *notes]),
        (shown, *((BlockContent(TextBlock(remarks)),) if remarks else ())),
        raw,
        failed=failed,
    )


SHELL = Tool(
    "shell",
    "Run a command in a new bash in the workspace. It gets no input; cd and variables do not last.",
    (
        Parameter("cmd", "string", required=True),
        Parameter("description", "string", "What it is for."),
        Parameter("timeout_s", "integer", "Seconds until it is stopped: 120.", least=1, most=LONGEST),
        Parameter("background", "boolean", "Do not wait: for servers and watchers.", default=False),
    ),
    prepare,
)
