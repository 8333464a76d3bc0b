"""`acp exec`: one prompt to an agent, without an editor.

Exit status: 0 the turn ended by itself; 1 error; 2 wrong usage; 3 a permission was needed and nobody could be asked;
4 the agent refused; 5 it ran into a limit; 124 --timeout; 130 interrupted; 143 terminated.
"""

from __future__ import annotations

import argparse
import logging
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, cast

import anyio
import anyio.to_thread

from acp.errors import AcpError
from acp.tasks import task_group
from acp.updates import Update

from .client import connect
from .console import JsonView, TerminalView, View
from .host import Ask, Host, PermissionRequest, allow_all, allow_edits
from .session import Session

DONE, ERROR, USAGE, PERMISSION, REFUSED, LIMIT, TIMEOUT, INTERRUPTED, TERMINATED = 0, 1, 2, 3, 4, 5, 124, 130, 143
STATUS = {"end_turn": DONE, "refusal": REFUSED, "max_tokens": LIMIT, "max_turn_requests": LIMIT}
LAST_CHANCE = 2.0
"""Seconds that a cancelled turn gets to end once the user has interrupted it."""


class Tee:
    """Two views as one."""

    def __init__(self, first: View, second: View) -> None:
        self._views = (first, second)

    def update(self, update: Update) -> None:
        for view in self._views:
            view.update(update)

    def result(self, stop_reason: str, meta: Mapping[str, Any]) -> None:
        for view in self._views:
            view.result(stop_reason, meta)

    def error(self, message: str) -> None:
        for view in self._views:
            view.error(message)


class Asker:
    """Asks the user on the terminal; without one it rejects, and remembers that it had to."""

    def __init__(self, view: TerminalView | None) -> None:
        self._view = view
        self.needed = False

    async def __call__(self, request: PermissionRequest) -> str | None:
        if self._view is None or not sys.stdin.isatty():
            self.needed = True
            return request.choose("reject_once", "reject_always")
        self._view.line(f"May the agent do this? {request.call.title or request.call.id}")
        for number, option in enumerate(request.options, 1):
            self._view.line(f"  {number}. {option.name}")
        while True:
            self._view.write("> ")
            answer = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
            if not answer:
                self.needed = True
                return request.choose("reject_once", "reject_always")
            if answer.strip().isdigit() and 0 < int(answer) <= len(request.options):
                return request.options[int(answer) - 1].id


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="acp exec", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    made.add_argument("prompt", nargs="?", metavar="PROMPT", help="what to do; - reads it from stdin")
    made.add_argument("-f", "--file", metavar="FILE", help="read the prompt from a file")
    made.add_argument("--agent", metavar="CMD", help="the agent's command line (default: our own, `acp agent`)")
    made.add_argument("--cwd", default=".", metavar="DIR", help="the workspace (default: the current directory)")
    made.add_argument("--allow", choices=("ask", "edits", "all"), default="ask", help="what goes without asking")
    made.add_argument("--json", action="store_true", help="one JSON event a line instead of text")
    made.add_argument("--log-json", metavar="FILE", help="write the JSON events to a file as well")
    made.add_argument("--timeout", type=float, metavar="S", help="give up after S seconds")
    made.add_argument("--backend", metavar="NAME", help="of our own agent: laguna or scripted")
    made.add_argument("--model", metavar="DIR", help="of our own agent: a checkpoint directory")
    made.add_argument("--device", metavar="D", help="of our own agent: cuda, mps or cpu")
    made.add_argument("--verbose", action="store_true", help="show the agent's log")
    return made


def prompt_text(options: argparse.Namespace) -> str:
    """The prompt, wherever it comes from. Raises OSError, UnicodeDecodeError, ValueError."""
    if options.file is not None:
        return Path(options.file).read_text(encoding="utf-8")
    if options.prompt == "-":
        return sys.stdin.buffer.read().decode("utf-8")
    if options.prompt is None:
        raise ValueError("no prompt: give one, or -f FILE, or - to read stdin")
    return options.prompt


def agent_command(options: argparse.Namespace) -> list[str]:
    if options.agent is not None:
        return shlex.split(options.agent)
    command = [sys.executable, "-m", "acp_server", "--allow", options.allow]
    for name in ("backend", "model", "device"):
        value: str | None = getattr(options, name)
        if value is not None:
            command += [f"--{name}", value if name != "model" else os.path.abspath(value)]
    return [*command, *(["--verbose"] if options.verbose else [])]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    made = parser()
    options = made.parse_args(argv)
    try:
        text = prompt_text(options)
        if not text.strip():
            raise ValueError("the prompt is empty")
        if not Path(options.cwd).is_dir():
            raise ValueError(f"--cwd: there is no directory {options.cwd}")
        log = open(options.log_json, "w", encoding="utf-8") if options.log_json else None  # noqa: SIM115
    except (OSError, ValueError) as error:
        made.error(str(error))
    logging.basicConfig(level=logging.DEBUG if options.verbose else logging.ERROR, format="%(name)s: %(message)s")
    out = cast("TextIOWrapper", sys.stdout)
    out.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks is escaped
    try:
        return anyio.run(_run, options, text, log)
    except BrokenPipeError:
        # Nobody reads any more. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ERROR
    finally:
        if log is not None:
            log.close()


async def _run(options: argparse.Namespace, text: str, log: TextIO | None) -> int:
    terminal = None if options.json else TerminalView(sys.stdout)
    view: View = terminal or JsonView(sys.stdout)
    if log is not None:
        view = Tee(view, JsonView(log))
    asker = Asker(terminal)
    ask: Ask = {"all": allow_all, "edits": _edits_or(asker), "ask": asker}[options.allow]
    status = ERROR
    try:
        with anyio.fail_after(options.timeout):
            async with connect(agent_command(options), host=Host(ask=ask)) as client:
                session = await client.new_session(options.cwd)
                status = await _turn(session, text, view)
    except TimeoutError:
        view.error(f"no end after {options.timeout:g} s")
        return TIMEOUT
    except AcpError as error:
        view.error(str(error))
    return PERMISSION if asker.needed and status == DONE else status


def _edits_or(asker: Asker) -> Ask:
    async def ask(request: PermissionRequest) -> str | None:
        return await (allow_edits if request.call.kind == "edit" else asker)(request)

    return ask


async def _turn(session: Session, text: str, view: View) -> int:
    """Take the turn and show it; a first signal cancels it, and the turn gets two seconds to end."""
    stopped: list[int] = []
    async with task_group() as group, session.prompt(text) as turn:
        group.start_soon(_cancel_on_signal, session, stopped, group.cancel_scope)
        async for update in turn:
            view.update(update)
        view.result(turn.stop_reason or "cancelled", turn.meta)
        group.cancel_scope.cancel()
        return _status(turn.stop_reason, stopped)
    return _status("cancelled", stopped)


def _status(stop_reason: str | None, stopped: list[int]) -> int:
    if stopped:
        return TERMINATED if stopped[0] == signal.SIGTERM else INTERRUPTED
    return STATUS.get(stop_reason or "", ERROR)


async def _cancel_on_signal(session: Session, stopped: list[int], scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            stopped.append(number)
            if len(stopped) == 1:
                await session.cancel()
                scope.deadline = anyio.current_time() + LAST_CHANCE
            else:
                scope.cancel()


if __name__ == "__main__":
    sys.exit(main())
