"""HTTP/2, a server's side: many requests at a time on one connection. What is said is `h2`'s (RFC 9113).

One task reads, one writes, and each request has its own. The reader waits for no request and for no writer, so nobody
who is slow with one delays another. What a client sends is taken up to a stream's window until somebody asks for the
body; what it does not take waits in the request that has it to say. What is unsent on the connection is bounded: a
client that makes us talk and does not read is cut off, and so is one that opens requests only to reset them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import cast

import anyio
from anyio.abc import TaskGroup
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, ProtocolError
from h2.settings import SettingCodes

from acp.tasks import Bell, task_group
from acp.transports.remote import Request, keep_silent

from .exchange import BROKEN, LARGEST_HEAD, Answer, BadRequest, Gone, HeldStream, HttpLimits, Send, common_headers

keep_silent("hpack")

PREFACE = b"PRI * HTTP/2.0\r\n\r\n"
"""How a connection of HTTP/2 begins, as far as it looks like a request."""
WHOLE_PREFACE = len(PREFACE) + len(b"SM\r\n\r\n")
LONGEST_FRAME = 2**14
"""Bytes of a frame without its head, as we let the client send them; RFC 9113 4.2."""
STREAMS = 1200
"""Requests at a time: those of a connection with a stream for each of its sessions."""
UNSENT = 128 * 2**10
"""Bytes that may be unsent before whoever has more to say waits."""
MOST_UNSENT = 4 * 2**20
"""Bytes at which a client that makes us answer, and reads no answers, is cut off."""
MOST_UNWANTED = 64 * 2**20
"""Bytes of a request that are passed over once it was answered; then it is reset."""
RESETS, RESET_SECONDS = 200, 10.0
"""Requests that a client may take back in so many seconds."""


async def serve_http2(stream: HeldStream, answer: Answer, address: str, limits: HttpLimits) -> None:
    """Answer requests until the client goes away. Raises Gone."""
    await _Http2(stream, answer, address, limits).run()


class _Http2:
    def __init__(self, stream: HeldStream, answer: Answer, address: str, limits: HttpLimits) -> None:
        self.limits = limits
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="latin-1"))
        self.turn = anyio.Lock(fast_acquire=True)
        """Held by whoever adds to what is unsent: one at a time, when there is room."""
        self._stream, self._answer, self._address = stream, answer, address
        self._exchanges: dict[int, _Exchange] = {}
        self._unsent, self._wake, self._sent = bytearray(), anyio.Event(), Bell()
        self._resets = deque[float](maxlen=RESETS)
        self._unwanted: dict[int, int] = {}
        self._frames = _Frames()

    async def run(self) -> None:
        self.h2.local_settings.update(
            {
                SettingCodes.MAX_CONCURRENT_STREAMS: STREAMS,
                SettingCodes.MAX_HEADER_LIST_SIZE: LARGEST_HEAD,
                SettingCodes.ENABLE_CONNECT_PROTOCOL: 0,
            }
        )
        self.h2.initiate_connection()
        self.flush()
        async with task_group(cancel_at_end=True) as group:
            group.start_soon(self._write, group.cancel_scope)
            await self._read(group)

    # Reading ---------------------------------------------------------------------------------------

    async def _read(self, group: TaskGroup) -> None:
        while True:
            data = await self._next()
            if not data:
                return
            try:
                self._frames.check(data)
                for event in self.h2.receive_data(data):
                    if not self._take(event, group):
                        return
            except ProtocolError as error:
                await self._say_why()
                raise Gone(f"the client does not speak HTTP/2: {error}") from error
            self.flush()
            if len(self._unsent) > MOST_UNSENT:
                raise Gone("the client reads no answers")

    async def _next(self) -> bytes:
        """What comes next; empty at the end. A client that is silent is asked whether it is still there."""
        asked = False
        while True:
            patience = self.limits.stall if asked else self.limits.heartbeat if self._exchanges else self.limits.idle
            try:
                with anyio.move_on_after(patience):
                    return await self._stream.receive()
            except BROKEN:
                return b""
            if asked or not self._exchanges:
                return b""
            self.h2.ping(bytes(8))
            self.flush()
            asked = True

    def _take(self, event: Event, group: TaskGroup) -> bool:
        """Act on what was read. False at the end."""
        match event:
            case RequestReceived(stream_id=int(id), headers=headers):
                said = cast("list[tuple[str, str]]", headers or [])  # as `header_encoding` has them
                exchange = self._exchanges[id] = _Exchange(self, id, _request(said), self._address)
                group.start_soon(self._serve, exchange)
            case DataReceived(stream_id=int(id), data=bytes(data), flow_controlled_length=int(size)):
                if (exchange := self._exchanges.get(id)) is None:
                    self._pass_over(id, size)
                else:
                    exchange.feed(data, size)
            case StreamEnded(stream_id=int(id)):
                self._unwanted.pop(id, None)
                if id in self._exchanges:
                    self._exchanges[id].end()
            case StreamReset(stream_id=int(id)):
                self._unwanted.pop(id, None)
                if id in self._exchanges:
                    self._exchanges[id].lose()
                now = anyio.current_time()
                if len(self._resets) == RESETS and now - self._resets[0] < RESET_SECONDS:
                    raise Gone("the client takes back its requests")
                self._resets.append(now)
            case WindowUpdated(stream_id=int(id)) if id in self._exchanges:
                self._exchanges[id].may_send()
            case WindowUpdated() | RemoteSettingsChanged():
                for exchange in self._exchanges.values():
                    exchange.may_send()
            case ConnectionTerminated():
                return False
            case _:
                pass
        return True

    def _pass_over(self, id: int, size: int) -> None:
        """Take what still comes of a request that was answered: some clients read the answer only behind their body."""
        self.h2.acknowledge_received_data(size, id)
        left = self._unwanted.get(id, 0) - size
        if id in self._unwanted and left < 0:
            del self._unwanted[id]
            self.h2.reset_stream(id, ErrorCodes.NO_ERROR)
        elif id in self._unwanted:
            self._unwanted[id] = left

    async def _serve(self, exchange: _Exchange) -> None:
        try:
            with exchange.scope:
                await self._answer(exchange)
        except Gone:
            pass
        finally:
            if exchange.leave():
                self._unwanted[exchange.id] = MOST_UNWANTED
            del self._exchanges[exchange.id]
            self.flush()

    # Writing ---------------------------------------------------------------------------------------

    def flush(self) -> None:
        """Have what was said sent."""
        if data := self.h2.data_to_send():
            self._unsent += data
            self._wake.set()

    async def room(self) -> None:
        """Wait until little is unsent."""
        while len(self._unsent) > UNSENT:
            await self._sent.wait()

    async def _write(self, scope: anyio.CancelScope) -> None:
        while True:
            await self._wake.wait()
            self._wake = anyio.Event()
            while self._unsent:
                data = bytes(self._unsent[:UNSENT])
                try:
                    with anyio.fail_after(self.limits.stall):
                        await self._stream.send(data)
                except (TimeoutError, *BROKEN):
                    scope.cancel()
                    return
                del self._unsent[: len(data)]
                self._sent.ring()

    async def _say_why(self) -> None:
        """Send the last frame, which says what was wrong."""
        self.flush()
        with anyio.move_on_after(1.0):
            while self._unsent:
                await self._sent.wait()


class _Frames:
    """Where the frames end that a client sends: `h2` would hold one of 16 MiB before it finds it too long."""

    def __init__(self) -> None:
        self._skip, self._head = WHOLE_PREFACE, b""

    def check(self, data: bytes) -> None:
        """Go on by what came. Raises ProtocolError."""
        at = 0
        while at < len(data):
            if self._skip:
                step = min(self._skip, len(data) - at)
                self._skip -= step
            else:
                step = min(9 - len(self._head), len(data) - at)
                self._head += data[at : at + step]
                if len(self._head) == 9:
                    self._skip, self._head = int.from_bytes(self._head[:3], "big"), b""
                    if self._skip > LONGEST_FRAME:
                        raise ProtocolError(f"a frame of {self._skip} bytes")
            at += step


def _request(headers: list[tuple[str, str]]) -> Request:
    """The request; the authority stands for the Host header, which may not say something else."""
    pseudo = {name: value for name, value in headers if name.startswith(":")}
    others = [(name, value) for name, value in headers if not name.startswith(":")]
    if ":authority" in pseudo and ("host", pseudo[":authority"]) not in others:
        others.append(("host", pseudo[":authority"]))
    return Request(pseudo.get(":path", ""), others, pseudo.get(":method", ""))


class _Exchange:
    """An `Exchange`: one stream of the connection."""

    def __init__(self, connection: _Http2, id: int, request: Request, address: str) -> None:
        self.id, self.request, self.address = id, request, address
        self.scope = anyio.CancelScope()
        self._connection = connection
        self._body = bytearray()
        self._unacknowledged = 0
        self._wanted = self._ended = self._lost = self._answered = False
        self._came, self._window = Bell(), Bell()

    # What comes, told by the reader ------------------------------------------------------------------

    def feed(self, data: bytes, size: int) -> None:
        self._body += data
        self._unacknowledged += size
        if self._wanted:
            self._acknowledge()
        self._came.ring()

    def end(self) -> None:
        self._ended = True
        self._came.ring()

    def lose(self) -> None:
        """The client has taken the request back."""
        self._lost = True
        self.scope.cancel()

    def may_send(self) -> None:
        self._window.ring()

    # For whoever answers -------------------------------------------------------------------------------

    async def body(self, most: int) -> bytes:
        self._wanted = True
        self._acknowledge()
        while True:
            if max(len(self._body), self._length()) > most:
                self._wanted = False
                raise BadRequest(413, f"the message is longer than {most} bytes")
            if self._ended:
                return bytes(self._body)
            try:
                with anyio.fail_after(self._connection.limits.opening):
                    await self._came.wait()
            except TimeoutError:
                raise BadRequest(408, "the request's body does not come") from None

    def _length(self) -> int:
        said = self.request.all("content-length")
        return int(said[0]) if said and said[0].isdecimal() else 0

    def _acknowledge(self) -> None:
        """Let the client send more."""
        if self._unacknowledged:
            self._connection.h2.acknowledge_received_data(self._unacknowledged, self.id)
            self._unacknowledged = 0
            self._connection.flush()

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self._begin(status, {**headers, "content-length": str(len(body))}, whole=not body)
        if body:
            await self._write(body)
            self._finish()

    async def stream(self, headers: Mapping[str, str], produce: Callable[[Send], Awaitable[None]]) -> None:
        self._begin(200, headers, whole=False)
        await produce(self._write)
        self._finish()

    def leave(self) -> bool:
        """Nobody answers any more, and what is not whole is said not to be. Whether more of the request may come."""
        h2 = self._connection.h2
        try:
            if self._unacknowledged:
                h2.acknowledge_received_data(self._unacknowledged, self.id)
            if not self._lost and not self._answered:
                h2.reset_stream(self.id, ErrorCodes.CANCEL)
        except H2Error:
            return False
        return self._answered and not self._lost and not self._ended

    def _begin(self, status: int, headers: Mapping[str, str], *, whole: bool) -> None:
        said = [(":status", str(status)), *common_headers(), *((n.lower(), value) for n, value in headers.items())]
        try:
            self._connection.h2.send_headers(self.id, said, end_stream=whole)
        except H2Error as error:
            raise Gone("the client went away") from error
        self._answered = whole
        self._connection.flush()

    def _finish(self) -> None:
        try:
            self._connection.h2.end_stream(self.id)
        except H2Error as error:
            raise Gone("the client went away") from error
        self._answered = True
        self._connection.flush()

    async def _write(self, data: bytes) -> None:
        h2, view = self._connection.h2, memoryview(data)
        try:
            with anyio.fail_after(self._connection.limits.stall):
                while view:
                    size = min(len(view), h2.local_flow_control_window(self.id), h2.max_outbound_frame_size)
                    if size <= 0:
                        await self._window.wait()
                        continue
                    async with self._connection.turn:
                        await self._connection.room()
                        size = max(0, min(size, h2.local_flow_control_window(self.id)))
                        h2.send_data(self.id, bytes(view[:size]))
                        self._connection.flush()
                    view = view[size:]
        except TimeoutError:
            raise Gone(f"the client took nothing for {self._connection.limits.stall:g} s") from None
        except H2Error as error:
            raise Gone("the client went away") from error
