"""Commands that run beside the turns of a session: a server, a watcher, a long build."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup

from acp.errors import AcpError

from ..action import ToolProblem
from ..workspace.process import Command
from .terminals import Terminals

log = logging.getLogger(__name__)

MOST = 8
"""Commands of one session that run in the background at a time."""
REMEMBERED = 16
"""Commands that can be asked about, those that ended among them; the last ones."""
LONGEST = 86_400
"""Seconds after which a command in the background is stopped, unless its call says otherwise."""


@dataclass(eq=False, slots=True)
class Shell:
    """One of them. `id` is that of its terminal; `seconds` is how long it may run."""

    id: str
    text: str
    command: Command
    seconds: int
    began: float = field(default_factory=time.monotonic)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class Background:
    """One session's. They run in the group, and end with it or with `close`, whatever their turn did.

    `listed` has the client told that one more runs.
    """

    def __init__(self, terminals: Terminals, group: TaskGroup, listed: Callable[[str], Awaitable[None]]) -> None:
        self._terminals = terminals
        self._group = group
        self._listed = listed
        self._shells: dict[str, Shell] = {}
        self._closed = False

    def check_room(self) -> None:
        """Raises ToolProblem when no more can run."""
        if len(self._running()) >= MOST:
            raise ToolProblem(f"{MOST} commands run in the background already; end one with shell_kill")

    async def start(self, shell: Shell) -> None:
        """Let a command that has just begun run on. Raises ToolProblem; then, and when cancelled, it is stopped."""
        try:
            self.check_room()
            if self._closed:
                raise ToolProblem("the session is being closed")
        except ToolProblem:
            shell.command.stop()
            raise
        self._shells[shell.id] = shell
        self._group.start_soon(self._watch, shell)
        try:
            await self._listed(shell.id)
        except BaseException:
            shell.command.stop()
            raise
        self._forget()

    def find(self, id: str) -> Shell:
        """Raises ToolProblem."""
        if (shell := self._shells.get(id)) is None:
            known = ", ".join(self._shells) or "there are none"
            raise ToolProblem(f"no command runs in the background as {id!r} ({known}); it ended with its session")
        return shell

    def all(self) -> Sequence[Shell]:
        """Those that can be asked about, the oldest first."""
        return tuple(self._shells.values())

    async def close(self) -> None:
        """End them all, and wait until that has been told. Takes about a second at most."""
        self._closed = True
        for shell in self._running():
            shell.scope.cancel()
        for shell in self._running():
            await shell.ended.wait()

    async def _watch(self, shell: Shell) -> None:
        try:
            with shell.scope:
                await self._terminals.watch(shell.id, shell.command)
        except AcpError:
            log.info("nobody is left to be told of command %s; it is stopped", shell.id)
        finally:
            shell.ended.set()

    def _running(self) -> list[Shell]:
        return [shell for shell in self._shells.values() if not shell.ended.is_set()]

    def _forget(self) -> None:
        over = [shell for shell in self._shells.values() if shell.ended.is_set()]
        for shell in over[: max(0, len(self._shells) - REMEMBERED)]:
            del self._shells[shell.id]
