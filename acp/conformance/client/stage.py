"""Where a client meets the agent that the checker plays: a client's process, and the wire to it.

The client's command has `{agent}` where it takes the agent's command line (as one word; `{agent:words}` as words of
their own) and may have `{cwd}`, the directory that it is started in. What it starts is `actor.py`.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import struct
import sys
import tempfile
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self

import anyio
from anyio.abc import SocketListener, SocketStream

from ...tasks import task_group
from ...transports import Oversize
from ...transports.child import ChildTransport, spawn_agent
from ...transports.lines import LineBuffer

HEADER = struct.Struct(">cI")
ACTOR = Path(__file__).with_name("actor.py")
LARGEST_FRAME = 2**20


class NotStarted(Exception):
    """The client did not start the agent."""


class Wire(Protocol):
    """Texts to and from a client, and what else an agent's process can do to it. One task receives."""

    async def receive(self) -> bytes | Oversize:
        """The client's next line. Raises anyio.EndOfStream once it has closed the agent's stdin."""
        ...

    async def send(self, *texts: bytes) -> None:
        """Lines to the client. Raises anyio.BrokenResourceError."""
        ...

    async def write(self, data: bytes) -> None:
        """Bytes to the client, as they are."""
        ...

    async def write_apart(self, data: bytes) -> None:
        """Bytes to the client, which reads them before more comes."""
        ...

    async def complain(self, data: bytes) -> None:
        """Bytes to the agent's stderr; waits until they are written."""
        ...

    async def exit(self, status: int) -> None:
        """End the agent's process."""
        ...


class Player(Protocol):
    """A client under test, as a process."""

    @property
    def returncode(self) -> int | None: ...

    async def ended(self, seconds: float) -> bool:
        """Has the client ended, within so many seconds?"""
        ...

    def interrupt(self) -> None:
        """What Ctrl-C does to it."""
        ...

    def epitaph(self) -> str:
        """How the client ended, or that it did not; and its last words."""
        ...


class SocketWire:
    """The wire to a client's process, by way of the actor that it started."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._frames = b""
        self._lines = LineBuffer()
        self._waiting: deque[bytes | Oversize] = deque()
        self._acknowledged = 0
        self._ended = False
        self.pid = 0

    async def receive(self) -> bytes | Oversize:
        while not self._waiting:
            if self._ended:
                raise anyio.EndOfStream
            await self._pump()
        return self._waiting.popleft()

    async def send(self, *texts: bytes) -> None:
        await self.write(b"\n".join([*texts, b""]))

    async def write(self, data: bytes) -> None:
        for start in range(0, len(data), LARGEST_FRAME):
            await self._order(b"O", data[start : start + LARGEST_FRAME])

    async def write_apart(self, data: bytes) -> None:
        await self._order(b"S", data)
        await self._acknowledgement()

    async def complain(self, data: bytes) -> None:
        for start in range(0, len(data), LARGEST_FRAME):
            await self._order(b"E", data[start : start + LARGEST_FRAME])
            await self._acknowledgement()

    async def exit(self, status: int) -> None:
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._order(b"X", bytes([status]))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """End the agent's process, whatever it does."""
        with anyio.CancelScope(shield=True):
            await self._stream.aclose()
        if self.pid:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self.pid, signal.SIGKILL)

    async def greeted(self) -> None:
        """Wait for the agent's process to say which it is."""
        while not self.pid and not self._ended:
            await self._pump()

    async def _order(self, operation: bytes, data: bytes) -> None:
        await self._stream.send(HEADER.pack(operation, len(data)) + data)

    async def _acknowledgement(self) -> None:
        while not self._acknowledged:
            if self._ended:
                raise anyio.BrokenResourceError
            await self._pump()
        self._acknowledged -= 1

    async def _pump(self) -> None:
        """Take in what came from the agent's process."""
        try:
            self._frames += await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            self._end()
            return
        while len(self._frames) >= HEADER.size:
            operation, size = HEADER.unpack_from(self._frames)
            if len(self._frames) < HEADER.size + size:
                return
            data, self._frames = self._frames[HEADER.size : HEADER.size + size], self._frames[HEADER.size + size :]
            if operation == b"P":
                self.pid = int(data)
            elif operation == b"A":
                self._acknowledged += 1
            elif operation == b"F":
                self._end()
            else:
                self._waiting.extend(self._lines.feed(data))

    def _end(self) -> None:
        if not self._ended:
            self._ended = True
            self._waiting.extend(self._lines.finish())


class Stage:
    """Waits for clients that start our agent."""

    def __init__(self, listener: SocketListener, path: str) -> None:
        self._listener = listener
        self.command = [sys.executable, "-I", "-S", str(ACTOR), path]

    async def enter(self) -> SocketWire:
        """The wire to the next client."""
        stream = await self._listener.accept()
        assert isinstance(stream, SocketStream)
        wire = SocketWire(stream)
        await wire.greeted()
        return wire


@asynccontextmanager
async def open_stage(path: str | None = None) -> AsyncGenerator[Stage]:
    """A place to wait for clients, at a path or at one that nobody else can reach. Raises OSError."""
    folder = None if path else tempfile.mkdtemp(prefix="acp-")
    path = path or os.path.join(str(folder), "agent")
    try:
        async with await anyio.create_unix_listener(path, mode=0o600) as listener:
            yield Stage(listener, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(path)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


class ProcessPlayer:
    """A client's process on a stage."""

    def __init__(self, process: ChildTransport, stage: Stage) -> None:
        self._process, self._stage = process, stage

    @property
    def returncode(self) -> int | None:
        return self._process.process.returncode

    async def enter(self, seconds: float) -> SocketWire:
        """The wire to the client, once it has started its agent. Raises NotStarted."""
        wires: list[SocketWire] = []
        with anyio.move_on_after(seconds):
            async with anyio.create_task_group() as group:

                async def accept() -> None:
                    wires.append(await self._stage.enter())
                    group.cancel_scope.cancel()

                group.start_soon(accept)
                await self._process.process.wait()
                with anyio.move_on_after(0.2):  # a wrapper may have ended and left the client to run
                    await anyio.sleep_forever()
                group.cancel_scope.cancel()
        if not wires:
            raise NotStarted(f"the client did not start the agent; {self.epitaph()}")
        return wires[0]

    async def ended(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._process.process.wait()
        return self.returncode is not None

    def interrupt(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.process.pid, signal.SIGINT)

    def epitaph(self) -> str:
        words = self._process.epitaph()
        return words if self.returncode is not None else "; ".join(filter(None, ["it still runs", words]))


@asynccontextmanager
async def start_client(
    argv: Sequence[str], stage: Stage, *, cwd: str, env: Mapping[str, str], says: str | None = None
) -> AsyncGenerator[ProcessPlayer]:
    """Start a client in a directory; `says` goes to its stdin, which else is closed. Raises OSError."""
    filled = with_agent(argv, stage.command, cwd)
    async with spawn_agent(filled, cwd=cwd, env={**os.environ, **env}, patience=0.3) as process:
        if says is None:
            process.end_input()
        else:
            with suppress(OSError):
                await process.write(says.encode())
        async with task_group(cancel_at_end=True) as group:
            group.start_soon(_drain, process)
            yield ProcessPlayer(process, stage)


async def _drain(process: ChildTransport) -> None:
    """Read what the client prints, so that it never blocks; its last lines may tell why it ended."""
    with suppress(anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
        while True:
            line = await process.receive()
            process.last_lines.append(str(line) if isinstance(line, Oversize) else line.decode(errors="replace")[:400])


class Reach(Protocol):
    """A way to have a client start our agent."""

    def __call__(self, cwd: str, seconds: float) -> AbstractAsyncContextManager[tuple[Player, Wire]]:
        """Start the client in a directory, and wait for it so long. Raises NotStarted, OSError."""
        ...


@dataclass(frozen=True, slots=True)
class Command:
    """A client that is started by a command with `{agent}` in it. `says` goes to its stdin, which else is closed."""

    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    says: str | None = None

    @asynccontextmanager
    async def __call__(self, cwd: str, seconds: float) -> AsyncGenerator[tuple[Player, Wire]]:
        async with (
            open_stage() as stage,
            start_client(self.argv, stage, cwd=cwd, env=self.env, says=self.says) as player,
            await player.enter(seconds) as wire,
        ):
            yield player, wire

    def __str__(self) -> str:
        return shlex.join(self.argv)


def with_agent(argv: Sequence[str], agent: Sequence[str], cwd: str) -> list[str]:
    """The client's command with the agent's in it. Raises ValueError where it has no place for one."""
    if not any("{agent}" in word or word == "{agent:words}" for word in argv):
        raise ValueError("the client's command has no {agent} in it")
    filled: list[str] = []
    for word in argv:
        if word == "{agent:words}":
            filled += agent
        else:
            filled.append(word.replace("{agent}", shlex.join(agent)).replace("{cwd}", cwd))
    return filled
