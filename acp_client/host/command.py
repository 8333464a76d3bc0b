"""One command, and the end of its output."""

from __future__ import annotations

import codecs
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from uuid import uuid4

import anyio
from anyio.abc import Process, TaskStatus

from .processes import SURRENDER, Family

LINGER = 0.2
"""Seconds that the output of a command that has ended is waited for; something in the background may hold it open."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a command ended: with a code, by a signal (its name), or unseen, with neither."""

    code: int | None = None
    signal: str | None = None


class Tail:
    """The last `limit` bytes of a text that comes as bytes, whole characters only."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._kept = bytearray()
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self.truncated = False

    def add(self, data: bytes, *, final: bool = False) -> str:
        """Take in more; the text that it completes."""
        text = self._decode(data, final)
        self._kept += text.encode()
        surplus = len(self._kept) - self._limit
        if surplus > 0:
            while surplus < len(self._kept) and self._kept[surplus] & 0xC0 == 0x80:
                surplus += 1
            del self._kept[:surplus]
            self.truncated = True
        return text

    @property
    def text(self) -> str:
        return self._kept.decode()


class Command:
    """A command that runs, or ran. `status` is there once it has ended and all it wrote is in `output`.

    It lives as long as its `scope`: when that is cancelled, what is left of it is ended, and then `over` is set.
    """

    def __init__(self, limit: int, heard: Callable[[str], None]) -> None:
        self.output = Tail(limit)
        self.status: ExitStatus | None = None
        self.scope = anyio.CancelScope()
        self.over = anyio.Event()
        self._ended = anyio.Event()
        self._drained = anyio.Event()
        self._family: Family | None = None
        self._heard = heard

    async def ended(self) -> ExitStatus:
        await self._ended.wait()
        return self.status or ExitStatus()

    async def kill(self) -> None:
        """End it with all it started. Takes a bounded time and cannot be cancelled."""
        if self._family is not None:
            await self._family.end()
        with anyio.move_on_after(SURRENDER, shield=True):
            await self._ended.wait()

    def abandon(self) -> None:
        """Nobody waits for its start any more. If it never began, nobody else will say that it is over."""
        self.scope.cancel()
        if self._family is None:
            self.over.set()

    async def run(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str], *, task_status: TaskStatus[None]
    ) -> None:
        """The command's life. Raises OSError or ValueError when it cannot be started."""
        mark = f"ACP_TERMINAL_{uuid4().hex}"
        try:
            with self.scope:
                process, output = await _start(argv, cwd, {**env, mark: "1"})
                self._family = Family(process.pid, mark)
                task_status.started()
                try:
                    await self._live(process, output, self._family)
                finally:
                    os.close(output)
                    await self._end(process, self._family)
        finally:
            self.over.set()

    async def _live(self, process: Process, output: int, family: Family) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(self._read, output)
            code = await process.wait()
            with anyio.move_on_after(LINGER):
                await self._drained.wait()
            family.settle()
            self._has_ended(code)
            await anyio.sleep_forever()  # what it left in the background lives until the terminal is released

    async def _read(self, output: int) -> None:
        data = b"."
        while data:
            await anyio.wait_readable(output)
            data = os.read(output, 65536)
            if text := self.output.add(data, final=not data):
                self._heard(text)
        self._drained.set()

    async def _end(self, process: Process, family: Family) -> None:
        await family.end()
        with anyio.move_on_after(SURRENDER, shield=True):
            await process.wait()
        self._has_ended(process.returncode)

    def _has_ended(self, code: int | None) -> None:
        if self.status is None:
            self.status = ExitStatus(code) if code is None or code >= 0 else ExitStatus(signal=signal_name(-code))
            self._ended.set()


async def _start(argv: Sequence[str], cwd: str, env: Mapping[str, str]) -> tuple[Process, int]:
    """A process, and where its output is read. Cannot be cancelled half way."""
    # A pipe of our own: asyncio's makes the end of a process wait for whoever else holds it.
    output, writing = os.pipe()
    process: Process | None = None
    try:
        with anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=env,
                start_new_session=True,
            )
    except BaseException:
        os.close(output)
        raise
    finally:
        os.close(writing)
    assert process is not None  # a shield swallows nothing
    return process, output


def argv_of(command: str, args: Sequence[str], path: str) -> list[str]:
    """What to run. Many agents give a whole line as the command: one that is no program is a shell's."""
    if args or not any(character.isspace() for character in command) or shutil.which(command, path=path):
        return [command, *args]
    bash = shutil.which("bash")
    return [bash, "--noprofile", "--norc", "-c", command] if bash else ["/bin/sh", "-c", command]


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
