"""TCP connections that are read in the event loop's own callback, where the loop is asyncio's.

anyio's stream goes through a transport of asyncio's, a queue and an event, which is a fifth of the time of a round
trip over WebSocket. And a stream that it has accepted reads on from the start, whether or not anybody receives, until
for the first time somebody has to wait: so what a client sends at once has no bound. Here a socket has one reader from
its first byte to its last, and leaves in the network what nobody asks for.

On trio, and where asyncio cannot watch a socket (Windows), the streams are anyio's.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress

import anyio
from anyio.abc import SocketAttribute, SocketListener, SocketStream
from anyio.lowlevel import checkpoint, checkpoint_if_cancelled

from .reading import READ_SIZE, source


async def accept(listener: SocketListener) -> SocketStream:
    """The next connection. Raises OSError."""
    if not _can_watch():
        return await listener.accept()
    raw = listener.extra(SocketAttribute.raw_socket)
    await checkpoint()
    while True:
        try:
            accepted, _ = raw.accept()
        except BlockingIOError:
            await anyio.wait_readable(raw)
        else:
            return TcpStream(accepted)


async def connect_tcp(host: str, port: int) -> SocketStream:
    """A connection to a host. Raises OSError."""
    stream = await anyio.connect_tcp(host, port)
    if not _can_watch():
        return stream
    # What has connected is not reading yet, and will not: it only holds the connection, and is closed with it.
    raw = stream.extra(SocketAttribute.raw_socket)
    return TcpStream(socket.socket(fileno=os.dup(raw.fileno())), stream)


def _can_watch() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return os.name == "posix"


class TcpStream(SocketStream):
    """A connected socket, on asyncio; `holder` is closed with it."""

    def __init__(self, connected: socket.socket, holder: SocketStream | None = None) -> None:
        connected.setblocking(False)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket, self._holder = connected, holder
        self._source = source(connected.fileno())
        self._rest = b""
        self._closed = False

    @property
    def _raw_socket(self) -> socket.socket:
        return self._socket

    async def receive(self, max_bytes: int = READ_SIZE) -> bytes:
        if self._closed:
            raise anyio.ClosedResourceError
        data, self._rest = self._rest, b""
        if not data:
            try:
                data = await self._source.read()
            except OSError as error:
                raise anyio.BrokenResourceError(str(error)) from error
            if not data:
                raise anyio.EndOfStream
        if len(data) > max_bytes:
            data, self._rest = data[:max_bytes], data[max_bytes:]
        return data

    async def send(self, item: bytes) -> None:
        await checkpoint_if_cancelled()
        unsent = memoryview(item)
        while unsent:
            if self._closed:
                raise anyio.ClosedResourceError
            try:
                unsent = unsent[self._socket.send(unsent) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            except OSError as error:
                raise anyio.BrokenResourceError(str(error)) from error

    async def send_eof(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._source.close()
        anyio.notify_closing(self._socket)
        self._socket.close()
        if self._holder is not None:
            await anyio.aclose_forcefully(self._holder)
