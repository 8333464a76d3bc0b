"""An agent as a child process: its stdin and stdout are the wire, its stderr is kept for error messages."""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import Process

from ..tasks import task_group
from .descriptors import DescriptorTransport
from .lines import LONGEST_LINE, LineBuffer, Oversize

log = logging.getLogger("acp")

LAST_LINES = 50
LONGEST_LOG_LINE = 4096
PATIENCE = 3.0
"""Seconds that a child gets to end by itself once its stdin is closed, and again after SIGTERM."""
LAST_WORDS = 0.5
"""Seconds that a child gets to end, and its stderr to be read, once its stdout has ended."""


class ChildTransport:
    """Lines to and from a running child. Made by `spawn_agent`."""

    def __init__(self, process: Process, wire: DescriptorTransport, *, patience: float = PATIENCE) -> None:
        self.process = process
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._wire = wire
        self._patience = patience
        self._closed = False
        self._drained = anyio.Event()

    async def receive(self) -> bytes | Oversize:
        try:
            return await self._wire.receive()
        except anyio.EndOfStream:
            await self._settle()
            raise

    async def _settle(self) -> None:
        """A child whose stdout ended is about to end; a moment lets its last words and exit status arrive."""
        with anyio.move_on_after(LAST_WORDS):
            await self.process.wait()
            await self._drained.wait()

    async def send(self, *texts: bytes) -> None:
        await self._wire.send(*texts)

    async def write(self, data: bytes) -> None:
        """Bytes as they are, which need be no whole lines."""
        await self._wire.write(data)

    def send_now(self, *texts: bytes) -> bool:
        return self._wire.send_now(*texts)

    def end_input(self) -> None:
        """Close the child's stdin. It may still say something."""
        self._wire.close_write()

    async def drain_stderr(self) -> None:
        """Keep reading the child's stderr, so that it never blocks on a full pipe."""
        lines = LineBuffer(LONGEST_LOG_LINE)
        try:
            if self.process.stderr is not None:
                async for data in self.process.stderr:
                    self._keep(lines.feed(data))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            self._keep(lines.finish())
            self._drained.set()

    def _keep(self, lines: Sequence[bytes | Oversize]) -> None:
        for line in lines:
            text = f"[{line.size} bytes]" if isinstance(line, Oversize) else line.decode(errors="replace")
            self.last_lines.append(text)
            log.debug("agent: %s", text)

    async def aclose(self) -> None:
        """Close stdin, wait, SIGTERM, wait, SIGKILL: the whole process group. Idempotent.

        Takes no longer than three times the patience, and cannot be cancelled.
        """
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            self.end_input()
            for step in (None, signal.SIGTERM, signal.SIGKILL):
                if step is not None:
                    self._signal(step)
                with anyio.move_on_after(self._patience):
                    await self.process.wait()
                if self.process.returncode is not None:
                    break
        self._signal(signal.SIGKILL)  # what the child left behind in its group

    def _signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def epitaph(self) -> str:
        code = self.process.returncode
        ended = "" if code is None else f"it exited with status {code}" if code >= 0 else f"signal {-code} ended it"
        words = "its last lines on stderr:\n  " + "\n  ".join(list(self.last_lines)[-10:]) if self.last_lines else ""
        return "; ".join(filter(None, (ended, words)))


@asynccontextmanager
async def spawn_agent(
    argv: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    limit: int = LONGEST_LINE,
    patience: float = PATIENCE,
) -> AsyncGenerator[ChildTransport]:
    """Start a command and talk to it. Raises FileNotFoundError or PermissionError when it cannot be started.

    The child leads a process group of its own; leaving the block ends that whole group.
    """
    _check_directory(argv[0], cwd)
    process, wire = await _start(argv, cwd, dict(env) if env is not None else None, limit)
    transport = ChildTransport(process, wire, patience=patience)
    async with task_group(cancel_at_end=True) as group:
        group.start_soon(transport.drain_stderr)
        try:
            yield transport
        finally:
            with anyio.CancelScope(shield=True):
                await transport.aclose()
                await wire.aclose()
                await process.aclose()


async def _start(
    argv: Sequence[str], cwd: str | os.PathLike[str] | None, env: dict[str, str] | None, limit: int
) -> tuple[Process, DescriptorTransport]:
    """The child, and our ends of the pipes to it: ours alone, so they need not block."""
    stdin, to_child = os.pipe()
    from_child, stdout = os.pipe()
    try:
        process = await anyio.open_process(
            list(argv), stdin=stdin, stdout=stdout, cwd=cwd, env=env, start_new_session=True
        )
    except BaseException:
        os.close(to_child)
        os.close(from_child)
        raise
    finally:
        os.close(stdin)
        os.close(stdout)
    if hasattr(os, "set_blocking"):
        os.set_blocking(to_child, False)
        os.set_blocking(from_child, False)
    return process, DescriptorTransport(from_child, to_child, limit=limit)


def _check_directory(command: str, cwd: str | os.PathLike[str] | None) -> None:
    """Without this, the operating system's error would blame the command."""
    if cwd is not None and not os.path.isdir(cwd):
        raise NotADirectoryError(f"cannot start {command!r} in {os.fspath(cwd)!r}: no such directory")
