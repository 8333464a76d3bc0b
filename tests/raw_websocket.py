"""A client of WebSockets made of bytes, which can say what no decent client would."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import anyio
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def request(headers: Mapping[str, str] | None = None, *, path: str = "/acp", more: str = "", host: str = "x") -> bytes:
    """A request that opens a WebSocket; `more` are further lines, as they are."""
    lines = {
        "Host": host,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version": "13",
        **(headers or {}),
    }
    said = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"GET {path} HTTP/1.1\r\n{said}{more}\r\n".encode()


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, rsv1: bool = False, size: int | None = None) -> bytes:
    """A masked frame; `size` is what its head claims."""
    length = len(data) if size is None else size
    first = (0x80 if fin else 0) | (0x40 if rsv1 else 0) | opcode
    if length < 126:
        head = struct.pack("!BB", first, 0x80 | length)
    elif length < 2**16:
        head = struct.pack("!BBH", first, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", first, 0x80 | 127, length)
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))


class Raw:
    """A connection, before and after it is a WebSocket."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream = stream
        self._reader = BufferedByteReceiveStream(stream)

    async def answer(self) -> tuple[int, dict[str, str]]:
        """The status and the headers of the answer to a request."""
        head = (await self._reader.receive_until(b"\r\n\r\n", 2**16)).decode().split("\r\n")
        return int(head[0].split()[1]), {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:])}

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: its opcode and its data."""
        first, length = await self._reader.receive_exactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", await self._reader.receive_exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._reader.receive_exactly(8))
        return first & 15, await self._reader.receive_exactly(length)

    async def close_code(self) -> int:
        """Read to the close frame; its code."""
        while True:
            opcode, data = await self.frame()
            if opcode == CLOSE:
                return int(struct.unpack("!H", data[:2])[0])

    async def wait_gone(self) -> None:
        """Read until the other side has hung up."""
        try:
            while await self.stream.receive():
                pass
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass


@asynccontextmanager
async def raw(port: int) -> AsyncGenerator[Raw]:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield Raw(stream)


@asynccontextmanager
async def opened(port: int, headers: Mapping[str, str] | None = None) -> AsyncGenerator[Raw]:
    """A WebSocket that is open."""
    async with raw(port) as client:
        await client.stream.send(request(headers, host=f"127.0.0.1:{port}"))
        status, _ = await client.answer()
        assert status == 101
        yield client
