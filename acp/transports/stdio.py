"""Our own stdin and stdout as a transport.

stdout belongs to the wire: its descriptor is moved away, and descriptor 1 then leads to stderr. So a stray `print`, in
Python, in a C library or in a child process, lands in the log and can tear no message.
"""

from __future__ import annotations

import os
import select
import socket
import stat
import sys
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
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
    """Lines over a pair of file descriptors: pipes, sockets, terminals or files. Owns both.

    The descriptors stay in blocking mode, for that belongs to everybody who shares them.
    """

    def __init__(self, read: int, write: int, *, limit: int = LONGEST_LINE) -> None:
        self._read, self._write = read, write
        self._lines = LineBuffer(limit)
        self._waiting: deque[bytes | Oversize] = deque()
        self._pollable = {read: True, write: True}
        self._put = _put_socket if stat.S_ISSOCK(os.fstat(write).st_mode) else os.write
        self._poll = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(write, select.POLLOUT)
        self._closed = False
        self._ended = False

    async def receive(self) -> bytes | Oversize:
        while not self._waiting:
            if self._ended or self._closed:
                raise anyio.EndOfStream
            data = await self._when_ready(self._read, anyio.wait_readable, lambda: os.read(self._read, READ_SIZE))
            self._waiting.extend(self._lines.feed(data) if data else self._lines.finish())
            self._ended = not data
        return self._waiting.popleft()

    async def send(self, *texts: bytes) -> None:
        rest = memoryview(b"\n".join([*texts, b""]))
        while rest:
            if self._closed:
                raise anyio.ClosedResourceError
            try:
                if self._writable_now():
                    written = self._put(self._write, rest[:SAFE_WRITE])
                else:
                    written = await self._send_when_ready(rest[:SAFE_WRITE])
            except BlockingIOError:
                continue  # somebody else filled the pipe between the poll and the write
            rest = rest[written:]

    async def _send_when_ready(self, piece: memoryview) -> int:
        return await self._when_ready(self._write, anyio.wait_writable, lambda: self._put(self._write, piece))

    async def _when_ready(self, fd: int, wait: Callable[[int], Awaitable[None]], act: Callable[[], T]) -> T:
        """Act once the descriptor is ready; in a thread where the event loop cannot watch it."""
        if self._pollable[fd]:
            try:
                while True:
                    await wait(fd)
                    try:
                        return act()
                    except BlockingIOError:
                        continue
            except (NotImplementedError, PermissionError, ValueError):  # a file, or Windows
                self._pollable[fd] = False
        return await anyio.to_thread.run_sync(act, abandon_on_cancel=True)

    def _writable_now(self) -> bool:
        if self._poll is None or not self._pollable[self._write]:
            return False
        return any(event & select.POLLOUT for _, event in self._poll.poll(0))

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            for fd in {self._read, self._write}:
                anyio.notify_closing(fd)
                os.close(fd)

    def epitaph(self) -> str:
        return ""


def _put_socket(fd: int, data: memoryview) -> int:
    """Write as much as a socket takes without blocking: one that polls as writable may take less than a pipe."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.send(data, socket.MSG_DONTWAIT)


@asynccontextmanager
async def stdio_transport(*, limit: int = LONGEST_LINE) -> AsyncGenerator[DescriptorTransport]:
    """This process's stdin and stdout, which nothing else may use while the block lasts.

    A stdin that is closed reads as ended; a stdout that is closed swallows what is sent.
    """
    _flush_stdout()
    nothing = os.open(os.devnull, os.O_RDWR)
    # Python has no stream for what was closed at the start; that number may belong to another file by now.
    standard = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    has_stdin, has_stdout, has_stderr = (stream is not None for stream in standard)
    reading = os.dup(0 if has_stdin else nothing)
    writing = os.dup(1 if has_stdout else nothing)
    kept = os.dup(writing)
    if has_stdin:
        os.dup2(nothing, 0)  # children and stray input() calls read nothing, not the wire
    if has_stdout:
        os.dup2(2 if has_stderr else nothing, 1)
    os.close(nothing)
    transport = DescriptorTransport(reading, writing, limit=limit)
    try:
        yield transport
    finally:
        await transport.aclose()
        _flush_stdout()
        if has_stdout:
            os.dup2(kept, 1)
        os.close(kept)


def _flush_stdout() -> None:
    if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout.flush()
