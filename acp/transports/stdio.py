"""Our own stdin and stdout as a transport.

stdout belongs to the wire: its descriptor is moved away, and descriptor 1 then leads to stderr. So a stray `print`, in
Python, in a C library or in a child process, lands in the log and can tear no message.
"""

from __future__ import annotations

import os
import select
import sys
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread

from .lines import LONGEST_LINE, LineBuffer, Oversize

T = TypeVar("T")

READ_SIZE = 2**16
SAFE_WRITE = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512
"""Bytes that a pipe which polls as writable takes without blocking (POSIX)."""


class DescriptorTransport:
    """Lines over a pair of file descriptors: pipes, sockets, terminals or files. Owns both."""

    def __init__(self, read: int, write: int, *, limit: int = LONGEST_LINE) -> None:
        self._read, self._write = read, write
        self._lines = LineBuffer(limit)
        self._waiting: list[bytes | Oversize] = []
        self._pollable = {read: True, write: True}
        self._closed = False
        self._ended = False

    async def receive(self) -> bytes | Oversize:
        while not self._waiting:
            if self._ended or self._closed:
                raise anyio.EndOfStream
            data = await self._when_ready(self._read, anyio.wait_readable, lambda: os.read(self._read, READ_SIZE))
            self._waiting = self._lines.feed(data) if data else self._lines.finish()
            self._ended = not data
        return self._waiting.pop(0)

    async def send(self, text: bytes) -> None:
        rest = memoryview(text + b"\n")
        while rest:
            if self._closed:
                raise anyio.ClosedResourceError
            piece = rest[:SAFE_WRITE]
            if self._writable_now():
                written = os.write(self._write, piece)
            else:
                # Bound now: the thread must not see the next piece.
                written = await self._when_ready(
                    self._write, anyio.wait_writable, lambda piece=piece: os.write(self._write, piece)
                )
            rest = rest[written:]

    async def _when_ready(self, fd: int, wait: Callable[[int], object], act: Callable[[], T]) -> T:
        """Act once the descriptor is ready; in a thread where the event loop cannot watch it."""
        if self._pollable[fd]:
            try:
                await wait(fd)  # type: ignore[misc]
                return act()
            except (NotImplementedError, PermissionError, ValueError):  # a file, or Windows
                self._pollable[fd] = False
        return await anyio.to_thread.run_sync(act, abandon_on_cancel=True)

    def _writable_now(self) -> bool:
        if not hasattr(select, "poll") or not self._pollable[self._write]:
            return False
        poll = select.poll()
        poll.register(self._write, select.POLLOUT)
        return any(event & select.POLLOUT for _, event in poll.poll(0))

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            for fd in (self._read, self._write):
                anyio.notify_closing(fd)
                os.close(fd)

    def epitaph(self) -> str:
        return ""


@asynccontextmanager
async def stdio_transport(*, limit: int = LONGEST_LINE) -> AsyncGenerator[DescriptorTransport]:
    """This process's stdin and stdout, which nothing else may use while the block lasts."""
    sys.stdout.flush()
    reading, writing = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # children and stray input() calls read nothing, not the wire
    os.close(nothing)
    os.dup2(2, 1)
    kept = os.dup(writing)
    transport = DescriptorTransport(reading, writing, limit=limit)
    try:
        yield transport
    finally:
        await transport.aclose()
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
