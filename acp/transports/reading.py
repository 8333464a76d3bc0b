"""Bytes of a descriptor as they come, on any event loop.

`anyio.wait_readable` registers with the event loop for each wait, which is half of a round trip's time. On asyncio a
descriptor is registered once (`Registered`) and read in the loop's own callback; everywhere else, and for what an
event loop cannot watch, the plain way (`Waited`) does the same.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from typing import Protocol

import anyio
import anyio.to_thread

from ..at_once import Wake

READ_SIZE = 2**16
AHEAD = 2
"""Pieces that are read before anybody asks for them."""


class Source(Protocol):
    async def read(self) -> bytes:
        """The next bytes; none at the end. Raises OSError, anyio.ClosedResourceError."""
        ...

    def close(self) -> None:
        """Whoever reads is woken. The descriptor is its owner's to close, after this."""
        ...


def source(fd: int) -> Source:
    """The fastest way to read a descriptor here. Call it where an event loop runs."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:  # trio
        return Waited(fd)
    try:
        return Registered(loop, fd)
    except (NotImplementedError, OSError, ValueError):  # Windows; a file, which no loop watches
        return Waited(fd)


class Waited:
    """Waits until the descriptor is readable, or in a thread where that cannot be known, and reads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pollable = True

    async def read(self) -> bytes:
        while self._pollable:
            try:
                await anyio.wait_readable(self._fd)
                return self._take()
            except BlockingIOError:
                continue
            except (NotImplementedError, PermissionError, ValueError):  # a file, or Windows
                self._pollable = False
        return await anyio.to_thread.run_sync(self._take, abandon_on_cancel=True)

    def _take(self) -> bytes:
        return os.read(self._fd, READ_SIZE)

    def close(self) -> None:
        anyio.notify_closing(self._fd)


class Registered:
    """Reads as soon as the event loop finds something, at most `AHEAD` pieces before they are wanted."""

    def __init__(self, loop: asyncio.AbstractEventLoop, fd: int) -> None:
        self._loop, self._fd = loop, fd
        self._pieces: deque[bytes] = deque()
        self._waiter: Wake | None = None
        self._error: Exception | None = None
        self._watching = False
        self._watch()

    async def read(self) -> bytes:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            self._watch()
            self._waiter = Wake(loop=self._loop)
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._pieces.popleft()

    def close(self) -> None:
        self._error = self._error or anyio.ClosedResourceError()
        self._pieces.clear()
        self._rest()
        self._loop.call_soon(self._wake)  # who closes is a task

    def _found(self) -> None:
        piece = b""
        try:
            piece = os.read(self._fd, READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._error = error
        else:
            self._pieces.append(piece)
        if self._error is not None or not piece or len(self._pieces) >= AHEAD:
            self._rest()
        self._wake()

    def _watch(self) -> None:
        if not self._watching:
            self._loop.add_reader(self._fd, self._found)
            self._watching = True

    def _rest(self) -> None:
        """Be told of nothing more until somebody reads."""
        if self._watching:
            self._loop.remove_reader(self._fd)
            self._watching = False

    def _wake(self) -> None:
        if self._waiter is not None:
            self._waiter.set()
