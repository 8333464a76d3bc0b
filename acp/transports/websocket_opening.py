"""How a WebSocket is opened: by a client that connects, and by a server that reads a request and judges it.

The server's part holds no policy: it reads a request within a time and a size, and either refuses it or accepts it.
RFC 6455 section 4; the header `Acp-Connection-Id` is the ACP transport RFD's.
"""

from __future__ import annotations

import logging
import ssl
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import ByteStream
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus, InvalidURI
from websockets.http11 import Request as HttpRequest
from websockets.http11 import Response
from websockets.protocol import Protocol
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol
from websockets.uri import WebSocketURI, parse_uri

from ..errors import AcpError
from .cookies import Cookies
from .remote import (
    CONNECTION_ID,
    OPENING,
    SUBPROTOCOL,
    CannotConnect,
    Limits,
    Request,
    check_credentials,
    checked_headers,
    is_loopback,
)
from .tcp import connect_tcp
from .websocket import WebSocketTransport, running

LARGEST_OPENING = 32 * 2**10
"""Bytes of a request, and of an answer to one, that is read."""
LINGER = 1.0
"""Seconds that a refused client gets to read why."""

# The library would log headers, which hold tokens, wherever somebody turned debugging on.
_SILENT = logging.Logger("acp.websocket")
_SILENT.disabled = True


class BadOpening(AcpError):
    """A client sent no request that could be judged; it was told so, if it still listens."""


# The client's side -----------------------------------------------------------------------------------------


@asynccontextmanager
async def connect_websocket(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    limits: Limits | None = None,
    seconds: float = OPENING,
    cookies: Cookies | None = None,
) -> AsyncGenerator[WebSocketTransport]:
    """Connect to a `ws://` or `wss://` URL. Raises CannotConnect; ValueError for a URL or header that cannot be.

    Leaving the block closes the WebSocket with 1000. `tls` replaces the system's trust. An `Authorization` or `Cookie`
    header goes over `ws://` to this machine only, unless `insecure`. What is in `cookies` is returned to the server,
    and what it sets is put there.
    """
    where, given = _target(url), checked_headers(headers or {})
    check_credentials(given, where.host, secure=where.secure, insecure=insecure)
    limits, cookies = limits or Limits(), cookies or Cookies()
    given = cookies.headers(secure=where.secure or is_loopback(where.host)) | given
    try:
        with anyio.fail_after(seconds):
            stream = await _tcp(where, tls)
            try:
                protocol, answer = await _ask(stream, where, given, limits)
            except BaseException:
                await anyio.aclose_forcefully(stream)
                raise
    except TimeoutError:
        raise CannotConnect(f"{_shown(where)} did not answer within {seconds:g} s") from None
    except (OSError, anyio.BrokenResourceError, anyio.EndOfStream) as error:
        raise CannotConnect(f"{_shown(where)} cannot be reached: {error or 'it closed the connection'}") from error
    cookies.take(answer.headers.get_all("Set-Cookie"))
    transport = WebSocketTransport(stream, protocol, limits, answer.headers)
    transport.take(protocol.events_received())
    async with running(transport):
        yield transport


async def _tcp(where: WebSocketURI, tls: ssl.SSLContext | None) -> ByteStream:
    if not where.secure:
        return await connect_tcp(where.host, where.port)
    context = tls or ssl.create_default_context()
    return await anyio.connect_tcp(where.host, where.port, tls=True, ssl_context=context, tls_standard_compatible=False)


async def _ask(
    stream: ByteStream, where: WebSocketURI, headers: Mapping[str, str], limits: Limits
) -> tuple[ClientProtocol, Response]:
    protocol = ClientProtocol(where, max_size=limits.message, logger=_SILENT)
    request = protocol.connect()
    for name, value in headers.items():
        request.headers[name] = value
    if "Sec-WebSocket-Protocol" in request.headers:
        protocol.available_subprotocols = [Subprotocol(SUBPROTOCOL)]
    protocol.send_request(request)
    await stream.send(b"".join(protocol.data_to_send()))
    while protocol.handshake_exc is None:
        try:
            protocol.receive_data(await stream.receive())
        except anyio.EndOfStream:
            protocol.receive_eof()
            if protocol.handshake_exc is None:
                raise
        for number, event in enumerate(protocol.events):
            if isinstance(event, Response) and protocol.handshake_exc is None:
                del protocol.events[number]
                return protocol, event
    raise _refused(where, protocol.handshake_exc)


def _refused(where: WebSocketURI, error: Exception) -> CannotConnect:
    if isinstance(error, InvalidStatus):
        answer = error.response
        words = bytes(answer.body[:500]).decode(errors="replace").strip().split("\n")[0]
        after = "".join(answer.headers.get_all("Retry-After")[:1])
        said = f"{answer.status_code} {answer.reason_phrase}" + (f": {words}" if words else "")
        retry = float(after) if after.isdecimal() else None
        return CannotConnect(f"{_shown(where)} refused the connection: {said}", answer.status_code, retry)
    return CannotConnect(f"{_shown(where)} did not open a WebSocket: {error}")


def _target(url: str) -> WebSocketURI:
    try:
        where = parse_uri(url)
    except (InvalidURI, ValueError) as error:
        raise ValueError(f"not the URL of a WebSocket: {error}") from None
    if where.user_info or "@" in where.host:
        raise ValueError("credentials do not belong in a URL; give them in a header")
    return where


def _shown(where: WebSocketURI) -> str:
    """The URL without its query, which may hold what nobody should read."""
    host = f"[{where.host}]" if ":" in where.host else where.host
    return f"{'wss' if where.secure else 'ws'}://{host}:{where.port}{where.path}"


# The server's side -----------------------------------------------------------------------------------------


class Opening:
    """A request that waits for its answer. Made by `read_opening`."""

    def __init__(self, stream: ByteStream, protocol: ServerProtocol, raw: HttpRequest, limits: Limits) -> None:
        self.id = uuid.uuid4().hex
        self.request = Request(raw.path, [(name.lower(), value) for name, value in raw.headers.raw_items()])
        self._stream, self._protocol, self._raw, self._limits = stream, protocol, raw, limits

    async def refuse(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        """Answer with a status of HTTP, and hang up."""
        answer = self._protocol.reject(status, text + "\n")
        for name, value in (headers or {}).items():
            answer.headers[name] = value
        self._protocol.send_response(answer)
        await _last_words(self._stream, self._protocol)

    @asynccontextmanager
    async def accept(self, seconds: float = OPENING) -> AsyncGenerator[WebSocketTransport]:
        """The WebSocket. Raises BadOpening where the request is none for a WebSocket."""
        protocol = self._protocol
        answer = protocol.accept(self._raw)
        if answer.status_code == 101:
            answer.headers[CONNECTION_ID] = self.id
        protocol.send_response(answer)
        if answer.status_code != 101:
            await _last_words(self._stream, protocol)
            raise BadOpening(f"no request for a WebSocket ({answer.status_code})")
        with anyio.fail_after(seconds):
            await self._stream.send(b"".join(protocol.data_to_send()))
        transport = WebSocketTransport(self._stream, protocol, self._limits, self._raw.headers)
        transport.take(protocol.events_received())
        async with running(transport):
            yield transport


async def read_opening(stream: ByteStream, limits: Limits, seconds: float, *, first: bytes = b"") -> Opening:
    """Read a client's request, of which `first` was read already. Raises BadOpening; the stream stays the caller's."""
    protocol = ServerProtocol(max_size=limits.message, logger=_SILENT, select_subprotocol=_select)
    try:
        with anyio.fail_after(seconds):
            size = 0
            while not protocol.events:
                data, first = first or await stream.receive(), b""
                size += len(data)
                if size > LARGEST_OPENING:
                    await _refuse(stream, protocol, 431, "the request is too large")
                    raise BadOpening("the request is too large")
                protocol.receive_data(data)
                if protocol.handshake_exc is not None:
                    await _refuse(stream, protocol, 400, "this is no request of HTTP/1.1")
                    raise BadOpening("no valid request")
    except TimeoutError:
        await _refuse(stream, protocol, 408, f"the request took longer than {seconds:g} s")
        raise BadOpening(f"no request within {seconds:g} s") from None
    except (anyio.EndOfStream, anyio.BrokenResourceError, OSError) as error:
        raise BadOpening("the client went away") from error
    raw = protocol.events.pop(0)
    assert isinstance(raw, HttpRequest)
    return Opening(stream, protocol, raw, limits)


async def _refuse(stream: ByteStream, protocol: ServerProtocol, status: int, text: str) -> None:
    """Answer what never became a request."""
    if not protocol.writes or protocol.writes == [b""]:
        protocol.writes = [protocol.reject(status, text + "\n").serialize()]
    await _last_words(stream, protocol)


async def _last_words(stream: ByteStream, protocol: Protocol) -> None:
    """Send what is left, and take what still comes for a moment: a reset would lose the answer."""
    with suppress(
        OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, NotImplementedError
    ):
        with anyio.move_on_after(LINGER):
            await stream.send(b"".join(protocol.data_to_send()))
            await stream.send_eof()
            while await stream.receive():
                pass


def _select(_: ServerProtocol, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None
