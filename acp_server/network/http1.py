"""HTTP/1.1, a server's side: one request after the other on one connection. What is said is `h11`'s (RFC 9112).

A request that could be read in two ways is refused, whichever way h11 would read it: behind a proxy that reads it in
the other way, its body would be somebody else's request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus

import anyio
import h11

from acp.tasks import task_group
from acp.transports.remote import Request

from .exchange import BROKEN, LARGEST_HEAD, Answer, BadRequest, Gone, HeldStream, HttpLimits, Send, common_headers


async def answer_http1(stream: HeldStream, head: bytes, answer: Answer, address: str, limits: HttpLimits) -> bool:
    """Answer one request, whose head was read. Whether another one may follow. Raises Gone, BadRequest."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=LARGEST_HEAD)
    connection.receive_data(head)
    exchange = _Exchange(stream, connection, _request(connection), address, limits)
    await answer(exchange)
    return exchange.is_reusable()


async def refuse_http1(stream: HeldStream, error: BadRequest) -> None:
    """Answer what never became a request, and hang up."""
    text = f"{error}\n".encode()
    head = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}\r\nContent-Type: text/plain\r\n"
    head += f"Content-Length: {len(text)}\r\nConnection: close\r\n\r\n"
    try:
        with anyio.move_on_after(1.0):
            await stream.send(head.encode() + text)
    except BROKEN:
        return
    await stream.linger()


def _request(connection: h11.Connection) -> Request:
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError as error:
        raise BadRequest(error.error_status_hint, "this is no request of HTTP/1.1") from error
    if not isinstance(event, h11.Request):
        raise BadRequest(400, "this is no request of HTTP/1.1")
    headers = [(name.decode(), value.decode("latin-1")) for name, value in event.headers]
    names = [name for name, _ in headers]
    if "transfer-encoding" in names and ("content-length" in names or event.http_version != b"1.1"):
        raise BadRequest(400, "the length of the request's body is said in two ways")
    if names.count("content-length") > 1 or names.count("transfer-encoding") > 1:
        raise BadRequest(400, "the length of the request's body is said more than once")
    return Request(event.target.decode("latin-1"), headers, event.method.decode())


class _Exchange:
    """An `Exchange`."""

    def __init__(
        self, stream: HeldStream, connection: h11.Connection, request: Request, address: str, limits: HttpLimits
    ) -> None:
        self.request, self.address = request, address
        self._stream, self._connection, self._limits = stream, connection, limits

    def is_reusable(self) -> bool:
        states = self._connection.our_state, self._connection.their_state
        if states == (h11.DONE, h11.DONE):
            self._stream.unread(self._connection.trailing_data[0])
            return True
        return False

    async def body(self, most: int) -> bytes:
        body, length = bytearray(), self._length()
        if length <= most and self._connection.they_are_waiting_for_100_continue:
            await self._send(h11.InformationalResponse(status_code=100, headers=[]))
        while max(length, len(body)) <= most:
            event = await self._event()
            if isinstance(event, h11.EndOfMessage):
                return bytes(body)
            body += event.data
        raise BadRequest(413, f"the message is longer than {most} bytes")

    def _length(self) -> int:
        return next((int(value) for value in self.request.all("content-length")), 0)

    async def _event(self) -> h11.Data | h11.EndOfMessage:
        """The next part of the body."""
        while True:
            try:
                event = self._connection.next_event()
            except h11.RemoteProtocolError as error:
                raise BadRequest(error.error_status_hint, "the request's body is malformed") from error
            if isinstance(event, h11.Data | h11.EndOfMessage):
                return event
            try:
                with anyio.fail_after(self._limits.opening):
                    self._connection.receive_data(await self._stream.receive())
            except TimeoutError:
                raise BadRequest(408, "the request's body does not come") from None
            except BROKEN as error:
                raise Gone("the client went away in a request") from error

    async def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        said = [*common_headers(), *headers.items(), ("content-length", str(len(body)))]
        if early := not self._is_all_here():
            said.append(("connection", "close"))
        events: list[h11.Event] = [h11.Response(status_code=status, headers=said, reason=HTTPStatus(status).phrase)]
        if body:
            events.append(h11.Data(data=body))
        await self._send(*events, h11.EndOfMessage())
        if early:
            await self._stream.linger()

    def _is_all_here(self) -> bool:
        """Whether the whole request has come, of which nobody may have asked for the body."""
        try:
            while isinstance(self._connection.next_event(), h11.Data):
                pass
        except h11.RemoteProtocolError:
            return False
        return self._connection.their_state is h11.DONE

    async def stream(self, headers: Mapping[str, str], produce: Callable[[Send], Awaitable[None]]) -> None:
        # Whoever streams gives its connection up: what comes on it meanwhile tells only whether it is still there.
        said = [*common_headers(), *headers.items(), ("connection", "close")]
        await self._send(h11.Response(status_code=200, headers=said, reason="OK"))
        gone = False
        async with task_group(cancel_at_end=True) as group:

            async def watch() -> None:
                nonlocal gone
                await self._until_gone()
                gone = True
                group.cancel_scope.cancel()

            group.start_soon(watch)
            await produce(self._write)
        if gone:
            raise Gone("the client went away")
        await self._send(h11.EndOfMessage())

    async def _until_gone(self) -> None:
        try:
            while True:
                await self._stream.receive()
        except BROKEN:
            pass

    async def _write(self, data: bytes) -> None:
        await self._send(h11.Data(data=data))

    async def _send(self, *events: h11.Event) -> None:
        try:
            data = b"".join(self._connection.send(event) or b"" for event in events)
            with anyio.fail_after(self._limits.stall):
                await self._stream.send(data)
        except TimeoutError:
            raise Gone(f"the client took nothing for {self._limits.stall:g} s") from None
        except BROKEN as error:
            raise Gone("the client went away") from error
