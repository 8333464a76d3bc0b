"""The updates of one turn that were not read yet: bounded, in order, one writer and one reader."""

from __future__ import annotations

import logging
from collections import deque

import anyio

from acp.tasks import Bell
from acp.updates import Update

log = logging.getLogger("acp")

UNREAD_UPDATES = 256
"""Updates that may wait for their reader before the connection stalls."""
STALL = 1.0
"""Seconds of stalling before the log says whose updates nobody reads."""


class Inbox:
    """Lossless: a full inbox makes `put` wait, and with it the reader of the connection and the agent behind it."""

    def __init__(self, name: str, limit: int = UNREAD_UPDATES) -> None:
        self.name = name
        self._limit = limit
        self._unread: deque[Update] = deque()
        self._changed = Bell()
        self._reading = False
        self._finished = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._unread)

    async def put(self, update: Update) -> bool:
        """Add an update, when there is room; False if nobody will read it here any more."""
        told = False
        while len(self._unread) >= self._limit and not self._closed:
            with anyio.move_on_after(STALL) as patience:
                await self._changed.wait()
            if patience.cancelled_caught and not told:
                told = True
                log.warning("%s: nobody reads its updates; the connection waits", self.name)
        if self._finished or self._closed:
            return False
        self._unread.append(update)
        self._changed.ring()
        return True

    async def take(self) -> Update:
        """The next update. Raises anyio.EndOfStream after the last one."""
        while not self._unread:
            if self._finished or self._closed:
                raise anyio.EndOfStream
            self._reading = True
            self._changed.ring()
            try:
                await self._changed.wait()
            finally:
                self._reading = False
        update = self._unread.popleft()
        self._changed.ring()
        return update

    async def caught_up(self) -> None:
        """Wait until every update was taken and the reader has come back for more."""
        while not (self._closed or self._finished or (self._reading and not self._unread)):
            await self._changed.wait()

    def finish(self) -> None:
        """No more updates will come; those that wait can still be taken."""
        self._finished = True
        self._changed.ring()

    def close(self) -> None:
        """Nobody will read any more: what waits is dropped, and nothing waits for room."""
        self._closed = True
        self._unread.clear()
        self._changed.ring()
