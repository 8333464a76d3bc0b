"""The terminals of a session: its commands that run, and what each has printed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

import anyio
from anyio import to_thread

from acp.updates import CANCELLABLE, ExitStatus, Terminal, TerminalChunk, Update

from ..workspace.process import Command, signal_name
from .screen import Screen, encoded, left_out, printed

TICK = 0.1
"""Seconds between two looks at the output of a running command."""
FLOW = 16 * 1024
"""Bytes that are told at one look; of more, the last. The end then tells what is kept."""
UNHURRIED = 256 * 1024
"""Bytes of a command's output that are told whatever the flow."""
FAREWELL = 0.8
"""Seconds a cancelled command has to be gone before the caller goes on without it."""


@dataclass(slots=True)
class _Running:
    """A terminal that was told of and has not ended. `command` is there while it runs."""

    screen: Screen
    command: Command | None = None
    seen: int = 0
    left_out: int = 0
    stopped: bool = False
    """Whether the user stopped it."""


Tell = Callable[[Update, Update], Awaitable[None]]
"""Takes an update, and what the session's log is to keep in its place."""


async def _nobody(update: Update, kept: Update) -> None:
    """Takes what nobody wants to know."""


class Terminals:
    """Tells of them by `emit`."""

    def __init__(self, emit: Tell = _nobody) -> None:
        self._emit = emit
        self._open: dict[str, _Running] = {}

    async def announce(self, id: str, command: str, cwd: str) -> None:
        """Tell of a command that may run. `leave` has to follow."""
        running = self._open[id] = _Running(Screen(id))
        await self._say(running, Terminal(id, command, cwd))

    async def watch(self, id: str, command: Command) -> bool:
        """Tell what a command prints until it has ended; whether the user stopped it.

        When this is cancelled, the command is stopped, and what it started too.
        """
        if id not in self._open:  # nobody shows it
            await self.announce(id, "", "")
        running = self._open[id]
        running.command = command
        try:
            await self._say(running, Terminal(id, capabilities=CANCELLABLE))
            while not await to_thread.run_sync(command.wait, TICK, abandon_on_cancel=True):
                await self._tell_new(running)
            await self._tell_new(running)
        finally:
            command.stop()
            with anyio.move_on_after(FAREWELL, shield=True):
                if command.ended is None:
                    await to_thread.run_sync(command.wait, FAREWELL, abandon_on_cancel=True)
                await self.leave(id)
        return running.stopped

    async def leave(self, id: str) -> None:
        """Tell that a terminal has ended, with whatever is known of how. Without one that has not, nothing happens."""
        running = self._open.pop(id, None)
        if running is None:
            return
        ended = running.command.ended if running.command is not None else None
        code = ended.code if ended is not None else None
        exit = ExitStatus(code) if code is None or code >= 0 else ExitStatus(None, signal_name(code))
        end = Terminal(id, exit=exit, capabilities=None)
        if running.command is not None and running.left_out:
            end = replace(end, output=encoded(printed(running.command.output)))
        await self._say(running, end)

    def stop(self, id: str) -> bool:
        """Stop a command that runs; False if none does. That it ended is told by an update."""
        running = self._open.get(id)
        if running is None or running.command is None or running.command.ended is not None:
            return False
        running.stopped = True
        running.command.stop()
        return True

    def now(self) -> list[Terminal]:
        """What the terminals that have not ended have printed, for a client that was not there."""
        return [running.screen.whole() for running in self._open.values()]

    async def _tell_new(self, running: _Running) -> None:
        assert running.command is not None
        output = running.command.output
        most = max(FLOW, UNHURRIED - running.seen)
        data, skipped, running.seen = output.since(running.seen, most)
        if skipped:
            running.left_out += skipped
            data = left_out(skipped) + data
        if data:
            await self._say(running, TerminalChunk(running.screen.about.id, encoded(data)))

    async def _say(self, running: _Running, update: Terminal | TerminalChunk) -> None:
        screen = running.screen
        if isinstance(update, TerminalChunk):
            try:
                await self._emit(update, update)
            finally:
                screen.take(update)  # not before: a replay that comes first would tell it, and then it is told
            return
        screen.take(update)
        # The log keeps a terminal as it began, and once it has ended all of it.
        await self._emit(update, screen.whole() if screen.ended else screen.about)
