"""WebSocket as a transport: one text frame, or one message in several, is one JSON text. On asyncio and trio.

The frames are those of the `websockets` package, by its part that does no I/O; the bytes are anyio's. RFC 6455, and of
the ACP transport RFD (streamable HTTP and WebSocket): text messages only; binary ones are ignored. How a connection is
opened, on both sides, is in `websocket_opening`.

- A message that is longer than the limit cannot be skipped: the connection is closed with 1009, and the other side's
  `epitaph` says so. One that is not UTF-8 closes it with 1007, as RFC 6455 8.1 has it.
- Nothing is compressed, and a frame that says it is closes the connection with 1002. So no message grows in here.
- Held in memory are at most one message, `READ_AHEAD` and what one read gave (64 KiB); towards the network one piece of
  `PIECE`. Texts that nobody receives stay in the network, and the sender waits.
- A ping goes out when nothing was heard for the heartbeat. A peer that is not heard for another one is given up, unless
  it is we who do not read; one that leaves more than `READ_AHEAD` unread answers no ping. A peer that takes none of our
  bytes for the stall limit is given up too.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketStream
from websockets.datastructures import Headers
from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.protocol import Event, Protocol, State

from ..tasks import task_group
from .lines import Oversize
from .remote import CONNECTION_ID, CannotConnect, Limits

PIECE = 256 * 2**10
"""Bytes that are given to the network at a time."""
READ_AHEAD = 2**20
"""Bytes that are read though nobody has asked for them, so that pings are answered meanwhile."""
CLOSING = 2.0
"""Seconds that the peer gets to answer our close."""
AHEAD, LOOK = 0.1, 0.25
"""Seconds that are spent on that at a time, and between two times."""
MOST_REPLIES = 1024
"""Pongs that may be unsent; a peer that pings more and reads none is given up."""
_SOCKETS = {"socket", "trio._socket"}
_FINAL = {1000, 1002, 1003, 1007, 1008, 1009, 1010}
"""Close codes after which the same would happen again."""


class WebSocketTransport:
    """One end of a WebSocket. Made by `websocket_opening`.

    `headers` are those that the peer opened it with, `texts` counts what was received.
    """

    refusal: CannotConnect | None = None

    def __init__(self, stream: ByteStream, protocol: Protocol, limits: Limits, headers: Headers) -> None:
        self.headers = headers
        self.texts = 0
        self._stream, self._protocol, self._limits = stream, protocol, limits
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._parts: list[bytes] = []
        self._reading, self._sending = anyio.Lock(fast_acquire=True), anyio.Lock(fast_acquire=True)
        self._wake = anyio.Event()
        self._heard = anyio.current_time()
        self._asked: float | None = None
        self._sending_since = math.inf
        self._ahead: anyio.CancelScope | None = None
        self._receivers = self._served = 0
        self._in_network = False
        self._ended = self._gone = self._torn = self._closed = False
        self._why = ""
        self._rest = b""
        raw = stream.extra(SocketAttribute.raw_socket, None) if isinstance(stream, SocketStream) else None
        self._socket = raw if type(raw).__module__ in _SOCKETS and os.name == "posix" else None
        self.farewell: tuple[int, str] = (1000, "")
        """Code and reason of the close that we send (RFC 6455 7.4)."""

    # Texts -----------------------------------------------------------------------------------------

    async def receive(self) -> bytes | Oversize:
        self._served += 1
        if not self._waiting:
            await self._fill()
        text = self._waiting.popleft()
        self._waiting_bytes -= len(text)
        self.texts += 1
        return text

    async def _fill(self) -> None:
        """Read until a text waits. Raises EndOfStream, BrokenResourceError."""
        self._receivers += 1
        self._stop_reading_ahead()
        try:
            async with self._reading:
                while not self._waiting:
                    if self._ended:
                        raise anyio.EndOfStream
                    await self._read()
        finally:
            self._receivers -= 1

    async def send(self, *texts: bytes) -> None:
        async with self._sending:
            if self._torn or self._closed:
                raise anyio.BrokenResourceError(self._why)
            try:
                for text in texts:
                    self._protocol.send_text(text)
            except InvalidState:
                raise anyio.BrokenResourceError(self.epitaph()) from None
            await self._write()

    def send_now(self, *texts: bytes) -> bool:
        if self._sending.locked() or self._protocol.writes or self._rest or self._torn or self._closed:
            return False
        if (descriptor := self._descriptor()) < 0 or sum(map(len, texts)) > PIECE:
            return False
        try:
            for text in texts:
                self._protocol.send_text(text)
        except InvalidState:
            return False
        data = b"".join(self._protocol.data_to_send())
        try:
            self._rest = data[os.write(descriptor, data) :]
        except BlockingIOError:
            self._rest = data
        except OSError as error:
            self._torn, self._why = True, self._why or str(error)
            return False
        if self._rest:
            self._wake.set()
        return True

    def _descriptor(self) -> int:
        """What the system calls the socket; -1 where there is none, or nobody may write to it beside its stream.

        Our streams and trio's have nothing unsent once `send` has returned, and their sockets tell when they are
        closed: a number that is used again is somebody else's.
        """
        return -1 if self._socket is None else int(self._socket.fileno())

    def epitaph(self) -> str:
        if self._why:
            return self._why
        close = self._protocol.close_rcvd or self._protocol.close_sent
        if close is None:
            return ""
        whose = "the peer" if close is self._protocol.close_rcvd else "we"
        return f"{whose} closed the WebSocket with {close.code}" + (f" ({close.reason})" if close.reason else "")

    @property
    def close_code(self) -> int | None:
        """The code that the peer closed with; None where it did not, and the connection was lost."""
        close = self._protocol.close_rcvd
        return None if close is None else int(close.code)

    @property
    def connection_id(self) -> str | None:
        """What the server calls this connection, if it says so."""
        return next(iter(self.headers.get_all(CONNECTION_ID)), None)

    @property
    def ended_well(self) -> bool:
        """Of a client's connection that ended: whether the server said that all is done."""
        return self.close_code == 1000

    @property
    def is_final(self) -> bool:
        """Of a client's connection that ended: whether another one would end alike."""
        return self.close_code in _FINAL

    @property
    def was_lost(self) -> bool:
        """Of a connection that ended: whether nobody meant it to, or the peer was only going away (1001)."""
        return self.close_code not in (1000, 1005)

    # Reading ---------------------------------------------------------------------------------------

    async def _read(self) -> None:
        """Take what the network has next. Needs the lock."""
        self._in_network, began = True, anyio.current_time()
        self._heard = max(self._heard, began)
        try:
            data = await self._stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            self._ended = self._gone = True
            if self._protocol.close_rcvd is None and self._protocol.close_sent is None:
                self._why = self._why or "the network connection was lost" + (f": {error}" if str(error) else "")
                raise anyio.BrokenResourceError(self._why) from error
            return
        finally:
            self._in_network = False
        self._heard, self._asked = anyio.current_time(), None
        self._protocol.receive_data(data)
        self.take(self._protocol.events_received())
        if self._protocol.writes:
            self._wake.set()
            if len(self._protocol.writes) > MOST_REPLIES:
                await self.abort("the peer sends pings and reads no pongs")

    def take(self, events: Iterable[Event]) -> None:
        """Act on frames that were read."""
        for frame in events:
            assert isinstance(frame, Frame)
            match frame.opcode:
                case Opcode.TEXT if frame.fin:
                    self._keep(bytes(frame.data))
                case Opcode.TEXT:
                    self._parts = [bytes(frame.data)]
                case Opcode.BINARY:
                    self._parts = []
                case Opcode.CONT if self._parts:
                    if frame.data:
                        self._parts.append(bytes(frame.data))
                    if frame.fin:
                        self._keep(b"".join(self._parts))
                        self._parts = []
                case _:
                    pass
        if self._protocol.close_rcvd is not None or self._protocol.state is not State.OPEN:
            self._ended = True

    def _keep(self, text: bytes) -> None:
        if not text.isascii():
            try:
                text.decode()
            except UnicodeDecodeError:
                self._ended = True
                self._protocol.fail(1007, "a text message is not UTF-8")
                return
        if text.strip():
            self._waiting.append(text)
            self._waiting_bytes += len(text)

    # Writing ---------------------------------------------------------------------------------------

    async def _write(self) -> None:
        """Send what the protocol has. Needs the lock. What was cut off in the middle leaves the stream torn."""
        try:
            while self._rest or self._protocol.writes:
                data, self._rest = self._rest + b"".join(self._protocol.data_to_send()), b""
                for start in range(0, len(data), PIECE):
                    self._sending_since = anyio.current_time()  # `keep` watches it, which is cheaper than a scope each
                    await self._stream.send(data[start : start + PIECE] if len(data) > PIECE else data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            self._torn = True
            raise anyio.BrokenResourceError(self._why or str(error)) from error
        except BaseException:
            self._torn = True
            raise
        finally:
            self._sending_since = math.inf

    async def abort(self, why: str) -> None:
        """Cut the connection, without a farewell."""
        self._why, self._torn = self._why or why, True
        with anyio.CancelScope(shield=True), suppress(OSError, anyio.BrokenResourceError):
            await anyio.aclose_forcefully(self._stream)

    async def keep(self) -> None:
        """Answer pings, send our own, read ahead, and give up a peer that is gone. Runs as long as the connection."""
        tick = min(self._limits.heartbeat, self._limits.stall) / 4
        while not self._torn and not self._closed:
            served = self._served
            with anyio.move_on_after(tick if self._receivers else min(tick, LOOK)):
                await self._wake.wait()
            self._wake = anyio.Event()
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                if served == self._served and not self._receivers:
                    await self._read_ahead()
                await self._pulse()

    async def _read_ahead(self) -> None:
        """Read what has arrived while nobody asks for it, lest a ping in it go unanswered."""
        with anyio.move_on_after(AHEAD) as self._ahead:
            async with self._reading:
                while not (self._ended or self._protocol.writes) and self._waiting_bytes <= READ_AHEAD:
                    await self._read()
        self._ahead = None

    def _stop_reading_ahead(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()

    async def _pulse(self) -> None:
        now = anyio.current_time()
        if now - self._sending_since > self._limits.stall:
            await self.abort(f"the peer read nothing for {self._limits.stall:g} s")
            return
        if self._in_network and not self._ended:
            if self._asked is not None and now - self._asked > self._limits.heartbeat:
                await self.abort(f"the peer was not heard for {now - self._heard:.0f} s")
                return
            if self._asked is None and now - self._heard >= self._limits.heartbeat:
                self._asked = now
                with suppress(InvalidState):
                    self._protocol.send_ping(b"")
        if (self._rest or self._protocol.writes) and not self._sending.locked():
            async with self._sending:
                with anyio.move_on_after(self._limits.stall) as limit:
                    await self._write()
            if limit.cancelled_caught:
                await self.abort(f"the peer read nothing for {self._limits.stall:g} s")

    # The end ---------------------------------------------------------------------------------------

    async def aclose(self) -> None:
        """Say farewell, wait for the peer's, and close: `CLOSING` seconds at most each way, not to be cancelled."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        self._stop_reading_ahead()
        with anyio.CancelScope(shield=True):
            with anyio.move_on_after(CLOSING), suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                await self._say_farewell()
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
                await anyio.aclose_forcefully(self._stream)

    async def _say_farewell(self) -> None:
        async with self._sending:
            if not self._torn:
                with suppress(InvalidState):
                    self._protocol.send_close(*self.farewell)
                await self._write()
        async with self._reading:
            while not (self._torn or self._gone or self._protocol.close_rcvd is not None):
                self._waiting.clear()
                await self._read()


@asynccontextmanager
async def running(transport: WebSocketTransport) -> AsyncGenerator[WebSocketTransport]:
    async with task_group(cancel_at_end=True) as group:
        group.start_soon(transport.keep)
        try:
            yield transport
        finally:
            await transport.aclose()
