"""`acp exec`: one prompt to an agent, without an editor. `options.DESCRIPTION` lists the exit statuses.

Whatever stops it stops it the same way: the turn is cancelled, gets two seconds to end by itself, and so does
the agent.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from io import TextIOWrapper
from typing import BinaryIO, Protocol

import anyio
from anyio.abc import TaskGroup

from acp.errors import AcpError, ErrorCode, RequestError
from acp.tasks import task_group
from acp.updates import Update

from ..client import Client, connect
from ..host.host import Ask, Host, PermissionRequest, allow_all, allow_edits_or
from ..reconnect import ConnectionState
from ..turn import Turn
from .asking import Quit, TerminalAsk
from .console import Console
from .events import EventLog
from .forms import TerminalForms
from .keyboard import has_terminal
from .options import Options, parse
from .result import Exit, LastWords, Result, tokens_per_second
from .target import refused_options
from .visible import visible

LAST_CHANCE = 2.0
"""Seconds that a stopped turn, and then its agent, get to end by themselves."""
SIGNALS = {
    signal.SIGINT: Exit.INTERRUPTED,
    signal.SIGTERM: Exit.TERMINATED,
    signal.SIGHUP: Exit.HANGUP,
}


class View(Protocol):
    """Shows a run."""

    def update(self, update: Update) -> None: ...

    def finished(self, result: Result) -> None: ...


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    _open_standard_descriptors()
    options = parse(argv)
    level = logging.DEBUG if options.verbose else logging.ERROR
    logging.basicConfig(level=level, format="acp exec: %(message)s", stream=sys.stderr)
    try:
        with nullcontext() if options.log_json is None else open(options.log_json, "wb") as log:
            status = anyio.run(_run, options, log)
    except BrokenPipeError:
        # Nobody reads any more; Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return Exit.PIPE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except OSError as error:
        _complain(str(error))
        return Exit.ERROR
    return status


def _open_standard_descriptors() -> None:
    """Give a closed stdin, stdout or stderr to /dev/null, lest a pipe to the agent get its number."""
    while os.open(os.devnull, os.O_RDWR) <= 2:
        pass
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # what the terminal's encoding lacks is escaped


async def _run(options: Options, log: BinaryIO | None) -> int:
    console = None if options.json else Console(sys.stdout)
    outs = ([sys.stdout.buffer] if options.json else []) + ([log] if log else [])
    return await Run(options, console, [EventLog(out) for out in outs]).run()


def _complain(message: str) -> None:
    with suppress(OSError):
        print(f"acp exec: {visible(message)}", file=sys.stderr, flush=True)


def _tell_state(state: ConnectionState) -> None:
    if state.state == "reconnecting":
        _complain(f"{state.reason}; connecting again")


class Run:
    """One run: connects, takes the turn, shows it, and knows how it ended."""

    def __init__(self, options: Options, console: Console | None, logs: Sequence[EventLog]) -> None:
        self._options = options
        self._logs = logs
        self._views: list[View] = [*([console] if console else []), *logs]
        one_at_a_time = anyio.Lock()
        self._terminal = TerminalAsk(console, one_at_a_time=one_at_a_time)
        self._elicit = TerminalForms(console, one_at_a_time=one_at_a_time) if has_terminal() else None
        self._words = LastWords()
        self._client: Client | None = None
        self._turn: Turn | None = None
        self._began = time.monotonic()
        self._stopped: Exit | None = None
        self._error: str | None = None
        self._wrong_use = False
        self._reported: Result | None = None
        self._done = anyio.Event()
        self._scope = anyio.CancelScope()
        self._group: TaskGroup

    async def run(self) -> int:
        """The exit status. Raises OSError when what happens cannot be shown."""
        async with task_group(cancel_at_end=True) as self._group:
            self._group.start_soon(self._watch_signals)
            if self._options.timeout is not None:
                self._group.start_soon(self._watch_clock, self._options.timeout)
            try:
                with self._scope:
                    await self._converse()
            except RequestError as error:
                self._error = _explained(error)
            except AcpError as error:
                refused = refused_options(self._options.target, error)
                self._wrong_use, self._error = refused is not None, refused or str(error)
            self._done.set()
            return self._report().exit

    async def _converse(self) -> None:
        options = self._options
        host = Host(ask=self._policy(), elicit=self._elicit)
        target = options.target
        async with connect(
            target.agent, host=host, headers=target.headers, insecure=target.insecure, on_state=_tell_state
        ) as client:
            self._client = client
            session = await client.new_session(options.cwd)
            for log in self._logs:
                log.started(client.info, session.id, session.cwd)
            self._began = time.monotonic()
            async with session.prompt(options.prompt) as self._turn:
                async for update in self._turn:
                    self._words.update(update)
                    for view in self._views:
                        view.update(update)
            self._report()

    def _report(self) -> Result:
        """Say how it ended, once."""
        if self._reported is None:
            self._reported = result = self._result()
            for view in self._views:
                view.finished(result)
            if result.error is not None:
                _complain(result.error)
        return self._reported

    def _result(self) -> Result:
        turn, seconds = self._turn, time.monotonic() - self._began
        reason = turn.stop_reason if turn else None
        status = self._stopped or (Exit.ERROR if self._error or reason is None else Exit.of(reason))
        if self._wrong_use and self._stopped is None:
            status = Exit.USAGE
        error = self._error
        if status is Exit.ERROR and error is None:
            error = f"the agent ended the turn with {reason!r}"
        if self._stopped not in (None, Exit.PERMISSION):
            error = None  # it ended because we wanted it to
        return Result(
            exit=status,
            stop_reason=reason,
            text=self._words.text,
            usage=turn.usage if turn else None,
            seconds=seconds,
            tokens_per_second=tokens_per_second(turn.usage, turn.meta, seconds) if turn else None,
            error=error,
        )

    # Permission ------------------------------------------------------------------------------------

    def _policy(self) -> Ask:
        """Who answers: our own agent allows edits by itself and knows better which; of others we have to judge."""
        decide: Ask = self._ask_user
        if self._options.allow == "all":
            decide = allow_all
        elif self._options.allow == "edits" and not self._options.target.is_own:
            decide = allow_edits_or(self._ask_user)

        async def ask(request: PermissionRequest) -> str | None:
            answer = await decide(request)
            for log in self._logs:
                log.answered(request, answer)
            return answer

        return ask

    async def _ask_user(self, request: PermissionRequest) -> str | None:
        if not has_terminal():
            what = request.call.title or request.call.id
            self._error = f"permission needed: {what} (run it on a terminal, or with --allow edits or --allow all)"
            self._group.start_soon(self._stop, Exit.PERMISSION)
            return None
        try:
            return await self._terminal(request)
        except Quit:
            self._group.start_soon(self._stop, Exit.INTERRUPTED)
            return None

    # Stopping --------------------------------------------------------------------------------------

    async def _watch_signals(self) -> None:
        with anyio.open_signal_receiver(*SIGNALS) as signals:
            async for number in signals:
                self._group.start_soon(self._stop, SIGNALS[number])

    async def _watch_clock(self, seconds: float) -> None:
        await anyio.sleep(seconds)
        await self._stop(Exit.TIMEOUT)

    async def _stop(self, status: Exit) -> None:
        """Cancel the turn and end; asked a second time, end at once."""
        if self._stopped is not None:
            if status is not Exit.PERMISSION:
                self._end()
            return
        self._stopped = status
        if self._turn is None:
            self._scope.cancel()
            return
        with anyio.move_on_after(LAST_CHANCE):
            await self._turn.cancel()
            await self._turn.wait_ended()
        with anyio.move_on_after(LAST_CHANCE if self._turn.has_ended else 0):
            await self._done.wait()
        self._end()

    def _end(self) -> None:
        if self._client is not None:
            self._client.kill()
        self._scope.cancel()


def _explained(error: RequestError) -> str:
    if error.code == ErrorCode.AUTH_REQUIRED:
        return f"the agent wants you to log in first: {error.message}"
    detail = f": {error.data}" if error.data is not None else ""
    return f"{error}{detail}"


if __name__ == "__main__":
    sys.exit(main())
