"""Commands that the client runs for an agent that speaks version 1."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Protocol, Self
from uuid import uuid4

import anyio
from anyio.abc import TaskGroup

from acp.environment import clean_environment

from .command import Command, ExitStatus, argv_of

log = logging.getLogger("acp")

DEFAULT_LIMIT = 2**20
"""Bytes of output that are kept where the agent does not say how many."""
LARGEST_LIMIT = 16 * 2**20
MOST_TERMINALS = 32


class UnknownTerminal(LookupError):
    """There never was such a terminal, or it was released."""


class Terminals(Protocol):
    """The editor's terminals. An id is known until it is released; of others, every method raises LookupError."""

    async def create(
        self,
        session_id: str,
        command: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        output_byte_limit: int | None = None,
    ) -> str:
        """Start a command, in an absolute directory; the id of its terminal. Raises OSError."""
        ...

    async def output(self, id: str) -> tuple[str, bool, ExitStatus | None]:
        """The output so far, whether its beginning is missing, and how the command ended if it has."""
        ...

    async def wait(self, id: str) -> ExitStatus:
        """Wait until the command has ended."""
        ...

    async def kill(self, id: str) -> None:
        """End the command, and keep the terminal."""
        ...

    async def release(self, id: str) -> None:
        """End the command if it still runs, and forget the terminal."""
        ...

    async def close_session(self, session_id: str) -> None:
        """Release all of a session's terminals."""
        ...


class LocalTerminals:
    """`Terminals` on this machine: `async with LocalTerminals(root) as terminals`.

    A command starts in `root` unless the agent names another directory; which commands may be run is not judged here.
    It has no keyboard and a clean copy of our environment, and it may leave something in the background. Kill and
    release end that too, as does leaving the block in any way: SIGTERM, and SIGKILL two seconds later. `on_output`
    hears of all output in the event loop's thread, with the terminal's id.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        on_output: Callable[[str, str], None] | None = None,
        most: int = MOST_TERMINALS,
    ) -> None:
        self.root = Path(root).resolve(strict=True)
        self._on_output = on_output
        self._most = most
        self._commands: dict[str, tuple[str, Command]] = {}  # with the session
        self._group: TaskGroup | None = None
        self._exits = AsyncExitStack()

    def __repr__(self) -> str:
        running = sum(command.status is None for _, command in self._commands.values())
        return f"<LocalTerminals in {self.root} [{len(self._commands)} terminals, {running} running]>"

    async def __aenter__(self) -> Self:
        self._group = await self._exits.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
        await self._exits.aclose()

    async def aclose(self) -> None:
        """Release every terminal; none can be created any more."""
        self._group = None
        await self._release(list(self._commands))

    # What the agent asks for -------------------------------------------------------------------------

    async def create(
        self,
        session_id: str,
        command: str,
        args: Sequence[str] = (),
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        output_byte_limit: int | None = None,
    ) -> str:
        if self._group is None:
            raise OSError("no terminals can be created any more, or yet")
        if len(self._commands) >= self._most:
            raise OSError(f"{self._most} terminals are open; release one")
        where = str(self.root) if cwd is None else cwd
        if not _is_directory(where):
            raise NotADirectoryError(f"cannot start {command!r} in {where!r}: not the absolute path of a directory")
        environment = clean_environment(os.environ) | {"PWD": where} | dict(env or {})
        limit = DEFAULT_LIMIT if output_byte_limit is None else max(0, min(output_byte_limit, LARGEST_LIMIT))
        id = f"term-{uuid4().hex}"
        running = Command(limit, partial(self._heard, id))
        self._commands[id] = session_id, running
        try:
            await self._group.start(running.run, argv_of(command, args, environment["PATH"]), where, environment)
        except BaseException as error:
            self._commands.pop(id, None)
            running.abandon()
            if isinstance(error, ValueError):  # a NUL somewhere, a "=" in a variable's name
                raise OSError(f"cannot start {command!r}: {error}") from error
            raise
        return id

    async def output(self, id: str) -> tuple[str, bool, ExitStatus | None]:
        command = self._find(id)
        return command.output.text, command.output.truncated, command.status

    async def wait(self, id: str) -> ExitStatus:
        return await self._find(id).ended()

    async def kill(self, id: str) -> None:
        await self._find(id).kill()

    async def release(self, id: str) -> None:
        self._find(id)
        await self._release([id])

    async def close_session(self, session_id: str) -> None:
        await self._release([id for id, (session, _) in self._commands.items() if session == session_id])

    async def _release(self, ids: Iterable[str]) -> None:
        """All at once, so that many take no longer than one. Cannot be cancelled."""
        released = [self._commands.pop(id)[1] for id in ids]
        for command in released:
            command.scope.cancel()
        with anyio.CancelScope(shield=True):
            for command in released:
                await command.over.wait()

    def _find(self, id: str) -> Command:
        try:
            return self._commands[id][1]
        except KeyError:
            raise UnknownTerminal(f"there is no terminal {id!r}") from None

    def _heard(self, id: str, text: str) -> None:
        if self._on_output is not None:
            try:
                self._on_output(id, text)
            except Exception:
                log.exception("nothing more is shown of the terminals")
                self._on_output = None


def _is_directory(path: str) -> bool:
    return os.path.isabs(path) and os.path.isdir(path)
