"""Lines over a pair of file descriptors: pipes, sockets, terminals or files."""

from __future__ import annotations

import os
import select
import socket
import stat
from collections import deque

import anyio
import anyio.to_thread

from .lines import LONGEST_LINE, LineBuffer, Oversize
from .reading import Source, source

SAFE_WRITE = select.PIPE_BUF if hasattr(select, "PIPE_BUF") else 512
"""Bytes that a pipe takes whole or not at all, and without blocking when it polls as writable (POSIX)."""


class DescriptorTransport:
    """Texts as lines over two descriptors, which may be one and the same. Owns both.

    A descriptor in blocking mode stays in it, for that belongs to everybody who shares it.
    """

    def __init__(self, read: int, write: int, *, limit: int = LONGEST_LINE) -> None:
        self._read, self._write = read, write
        self._source: Source | None = None
        self._lines = LineBuffer(limit)
        self._waiting: deque[bytes | Oversize] = deque()
        self._out = _Out(write)
        self._closed = self._ended = self._sending = False

    async def receive(self) -> bytes | Oversize:
        while not self._waiting:
            if self._ended or self._closed:
                raise anyio.EndOfStream
            if self._source is None:
                self._source = source(self._read)
            data = await self._source.read()
            self._waiting.extend(self._lines.feed(data) if data else self._lines.finish())
            self._ended = not data
        return self._waiting.popleft()

    async def send(self, *texts: bytes) -> None:
        await self.write(b"\n".join([*texts, b""]))

    async def write(self, data: bytes) -> None:
        """Send bytes as they are, which need be no whole lines."""
        rest = memoryview(data)
        self._sending = True
        try:
            while rest:
                if self._write < 0:
                    raise anyio.ClosedResourceError
                rest = rest[self._out.put(rest) or await self._out.put_when_ready(rest) :]
        finally:
            self._sending = False

    def send_now(self, *texts: bytes) -> bool:
        data = b"\n".join([*texts, b""])
        return not self._sending and self._write >= 0 and self._out.put_whole(data)

    def close_write(self) -> None:
        """Say that nothing more will come; what the other side still says is received. Idempotent."""
        if self._write >= 0 and self._write != self._read:
            anyio.notify_closing(self._write)
            os.close(self._write)
        self._write = -1

    async def aclose(self) -> None:
        if not self._closed:
            self._closed = True
            if self._source is not None:
                self._source.close()
            self.close_write()
            os.close(self._read)

    def epitaph(self) -> str:
        return ""


class _Out:
    """Writes to a descriptor, never more than it takes at once."""

    def __init__(self, fd: int) -> None:
        mode = os.fstat(fd).st_mode
        self._fd = fd
        self._pollable = True
        self._is_pipe = stat.S_ISFIFO(mode)
        self._is_socket = stat.S_ISSOCK(mode)
        self._never_blocks = hasattr(os, "get_blocking") and not os.get_blocking(fd)
        self._poll = None
        if hasattr(select, "poll"):
            self._poll = select.poll()
            self._poll.register(fd, select.POLLOUT)

    def put(self, data: memoryview | bytes) -> int:
        """How much of it was taken without waiting; 0 if nothing, or if that cannot be known. Raises OSError."""
        try:
            if self._is_socket:
                return _send(self._fd, data)
            if self._never_blocks:
                return os.write(self._fd, data)
            return os.write(self._fd, data[:SAFE_WRITE]) if self._polls_writable() else 0
        except BlockingIOError:  # full; or somebody else filled the pipe between the poll and the write
            return 0

    def put_whole(self, data: bytes) -> bool:
        """Whether all of it was taken, at once; if not, nothing was."""
        try:
            return self._is_pipe and len(data) <= SAFE_WRITE and self.put(data) > 0
        except OSError:
            return False  # who sends it in earnest will learn why

    async def put_when_ready(self, data: memoryview) -> int:
        """Wait, and write some. In a thread, where the event loop cannot watch the descriptor."""
        if self._pollable:
            try:
                await anyio.wait_writable(self._fd)
                return self.put(data)
            except (NotImplementedError, PermissionError, ValueError):  # a file, or Windows
                self._pollable = False
        piece = bytes(data[:SAFE_WRITE])
        return await anyio.to_thread.run_sync(os.write, self._fd, piece, abandon_on_cancel=True)

    def _polls_writable(self) -> bool:
        if self._poll is None or not self._pollable:
            return False
        return any(event & select.POLLOUT for _, event in self._poll.poll(0))


def _send(fd: int, data: memoryview | bytes) -> int:
    """Write as much as a socket takes: one that polls as writable may take less than a pipe."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        return sock.send(data, socket.MSG_DONTWAIT)
