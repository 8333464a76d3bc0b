"""Both ends of a conversation in one process, for tests and for an agent inside its client."""

from __future__ import annotations

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from .lines import Oversize


class MemoryTransport:
    """One end of `memory_pair`."""

    def __init__(self, send: MemoryObjectSendStream[bytes], receive: MemoryObjectReceiveStream[bytes]) -> None:
        self._send, self._receive = send, receive

    async def send(self, *texts: bytes) -> None:
        for text in texts:
            await self._send.send(text)

    def send_now(self, *texts: bytes) -> bool:
        return False

    async def receive(self) -> bytes | Oversize:
        return await self._receive.receive()

    async def aclose(self) -> None:
        self._send.close()
        self._receive.close()

    def epitaph(self) -> str:
        return ""


def memory_pair(slots: int = 16) -> tuple[MemoryTransport, MemoryTransport]:
    """Two connected transports; each direction holds `slots` texts that were not received yet."""
    there = anyio.create_memory_object_stream[bytes](slots)
    back = anyio.create_memory_object_stream[bytes](slots)
    return MemoryTransport(there[0], back[1]), MemoryTransport(back[0], there[1])
