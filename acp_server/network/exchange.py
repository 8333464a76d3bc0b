"""One request over HTTP and the answer to it, in whatever version of HTTP it came; and the stream it came by."""

from __future__ import annotations

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Protocol, cast

import anyio
from anyio.abc import ByteStream

from acp.errors import AcpError
from acp.transports.remote import Request

LARGEST_HEAD = 32 * 2**10
"""Bytes of a request before its body."""
LINGER = 1.0
"""Seconds that a client gets to read an answer that came before it had said all."""
BROKEN = (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)

# What one reader of a request takes for the end of a line and another does not is how requests are smuggled.
_AMBIGUOUS = re.compile(rb"(?<!\r)\n|\r(?!\n)|\r\n[ \t]")


class Gone(AcpError):
    """The client went away, or took nothing for too long."""


class BadRequest(AcpError):
    """A request that cannot be answered as it is. `status` says why, in HTTP."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


Send = Callable[[bytes], Awaitable[None]]
"""Sends a part of an answer; waits while the client takes none of it. Raises Gone."""


class Exchange(Protocol):
    """A request that waits for its answer, which is given once: by `answer`, or by `stream`."""

    request: Request
    address: str

    async def body(self, most: int) -> bytes:
        """All of the request's body. Raises BadRequest 413 for one that is over `most` bytes and 408, and Gone."""
        ...

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Answer, at once and whole. Raises Gone."""
        ...

    async def stream(self, headers: Mapping[str, str], produce: Callable[[Send], Awaitable[None]]) -> None:
        """Answer 200 with what `produce` sends, until it returns. It is cancelled when the client goes; raises Gone."""
        ...


Answer = Callable[[Exchange], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Seconds: for a request to come; for a kept connection to ask again; of silence, before a client is asked for a
    sign of life; and for it to give one, or to take what we have."""

    opening: float
    idle: float
    heartbeat: float
    stall: float


class HeldStream(ByteStream):
    """A stream of which something was read that is to be read once more."""

    def __init__(self, stream: ByteStream, held: bytes = b"") -> None:
        self._stream, self._held = stream, held

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        return cast("Mapping[Any, Callable[[], Any]]", self._stream.extra_attributes)  # pyright: ignore[reportUnknownMemberType]

    def released(self) -> ByteStream:
        """The stream itself, which may be used in better ways than this one, where nothing is to be read once more."""
        return self if self._held else self._stream

    def unread(self, data: bytes) -> None:
        self._held = data + self._held

    async def receive(self, max_bytes: int = 65536) -> bytes:
        if self._held:
            data, self._held = self._held[:max_bytes], self._held[max_bytes:]
            return data
        return await self._stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        await self._stream.send(item)

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def read_head(self) -> bytes | None:
        """A request up to its body; None where nothing more comes. Raises BadRequest 400, 431, and Gone."""
        head = bytearray()
        while (end := head.find(b"\r\n\r\n")) < 0:
            if len(head) > LARGEST_HEAD:
                raise BadRequest(431, "the request is too large")
            try:
                head += await self.receive()
            except BROKEN as error:
                if head:
                    raise Gone("the client went away in a request") from error
                return None
        self.unread(bytes(head[end + 4 :]))
        head = head[: end + 4].lstrip(b"\r\n")  # RFC 9112 2.2: an empty line before a request is passed over
        if _AMBIGUOUS.search(head):
            raise BadRequest(400, "the request has line ends that can be read in two ways")
        return bytes(head)

    async def linger(self) -> None:
        """Say that no more comes, and take what does: a reset would lose the answer."""
        with suppress(*BROKEN, NotImplementedError), anyio.move_on_after(LINGER):
            await self._stream.send_eof()
            while await self._stream.receive():
                pass


def common_headers() -> list[tuple[str, str]]:
    """What every answer has."""
    return [("date", _date(int(time.time()))), ("x-content-type-options", "nosniff"), ("cache-control", "no-store")]


_dates: dict[int, str] = {}


def _date(now: int) -> str:
    if now not in _dates:
        _dates.clear()
        _dates[now] = formatdate(now, usegmt=True)
    return _dates[now]
