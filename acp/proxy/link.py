"""One hop's connection: whole messages out, in order and bounded."""

from __future__ import annotations

from collections import deque

import anyio

from ..json_text import dumps
from ..tasks import Bell
from ..transports import Transport
from .wrapping import Message

UNSENT_TEXTS, UNSENT_BYTES = 64, 2**20
"""Unsent texts, and bytes of them, above which whoever sends more waits."""
STALL = 60.0
"""Seconds that a hop may read nothing while somebody waits; then the chain ends."""

CLOSING = 10.0
"""Seconds that a transport gets to close."""


class Stalled(Exception):
    """A hop does not read."""


class Link:
    """What is on its way to one hop."""

    def __init__(self, name: str, transport: Transport) -> None:
        self.name, self.transport = name, transport
        self._texts: deque[bytes] = deque()
        self._bytes = 0
        self._wake, self._sent = anyio.Event(), Bell()
        self.broken = False

    async def send(self, message: Message) -> None:
        """Send a message; wait while much is unsent. Raises Stalled."""
        self.put(message)
        while (len(self._texts) > UNSENT_TEXTS or self._bytes > UNSENT_BYTES) and not self.broken:
            before = self._bytes
            with anyio.move_on_after(STALL) as limit:
                await self._sent.wait()
            if limit.cancelled_caught and self._bytes >= before:
                raise Stalled(f"{self.name} has read nothing for {STALL:g} s")

    def put(self, message: Message) -> None:
        """Send a message without waiting."""
        if not self.broken:
            text = dumps(message)
            self._texts.append(text)
            self._bytes += len(text)
            self._wake.set()

    async def flush(self) -> None:
        """Wait until everything is sent."""
        while self._texts and not self.broken:
            await self._sent.wait()

    async def write(self) -> None:
        """The task that sends; ends when the hop no longer reads."""
        try:
            while True:
                await self._wake.wait()
                self._wake = anyio.Event()
                while self._texts:
                    text = self._texts[0]
                    await self.transport.send(text)
                    self._texts.popleft()
                    self._bytes -= len(text)
                    self._sent.ring()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            pass  # its reader learns why
        finally:
            self.broken = True
            self._sent.ring()

    async def aclose(self) -> None:
        """Close the transport; takes ten seconds at most and cannot be cancelled."""
        with anyio.move_on_after(CLOSING, shield=True):
            await self.transport.aclose()
