"""How a WebSocket is opened: by a client that connects, and by a server that reads a request and judges it.

The server's part holds no policy: it reads a request within a time and a size, and either refuses it or accepts it.
RFC 6455 section 4; the header `Acp-Connection-Id` is the ACP transport RFD's.
"""

from __future__ import annotations

import base64
import ipaddress
import logging
import re
import ssl
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

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
from .websocket import Limits, WebSocketTransport, running

OPENING = 30.0
"""Seconds that connecting and its handshake may take."""
LARGEST_OPENING = 32 * 2**10
"""Bytes of a request, and of an answer to one, that is read."""
LINGER = 1.0
"""Seconds that a refused client gets to read why."""
SUBPROTOCOL = "acp"
"""What a server answers to a client that offers sub-protocols, this one among them."""
TOKEN_SUBPROTOCOL = "acp-bearer."
"""Begins the sub-protocol by which a browser, which can set no header, says its token: base64url, no padding."""
CONNECTION_ID = "Acp-Connection-Id"

# The library would log headers, which hold tokens, wherever somebody turned debugging on.
_SILENT = logging.Logger("acp.websocket")
_SILENT.disabled = True
_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_VALUE = re.compile(r"[\x20-\x7e\t]*")
_OURS = {"host", "upgrade", "connection", "content-length", "transfer-encoding"}


class CannotConnect(AcpError):
    """No WebSocket could be opened. `status` is the server's, None where it never answered."""

    def __init__(self, message: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class BadOpening(AcpError):
    """A client sent no request that could be judged; it was told so, if it still listens."""


# The client's side -----------------------------------------------------------------------------------------


def is_websocket(target: str) -> bool:
    """Whether a text is the URL of a WebSocket."""
    return target.startswith(("ws://", "wss://"))


@asynccontextmanager
async def connect_websocket(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    limits: Limits | None = None,
    seconds: float = OPENING,
) -> AsyncGenerator[WebSocketTransport]:
    """Connect to a `ws://` or `wss://` URL. Raises CannotConnect; ValueError for a URL or header that cannot be.

    Leaving the block closes the WebSocket with 1000. `tls` replaces the system's trust. An `Authorization` or `Cookie`
    header goes over `ws://` to this machine only, unless `insecure`.
    """
    where, given = _target(url), _checked(headers or {})
    if not (where.secure or insecure or is_loopback(where.host)) and {"authorization", "cookie"} & set(given):
        raise ValueError(f"credentials would go to {where.host} in the clear: use wss://, or say that this is wanted")
    limits = limits or Limits()
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
    transport = WebSocketTransport(stream, protocol, limits, answer.headers)
    transport.take(protocol.events_received())
    async with running(transport):
        yield transport


async def _tcp(where: WebSocketURI, tls: ssl.SSLContext | None) -> ByteStream:
    if not where.secure:
        return await anyio.connect_tcp(where.host, where.port)
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


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or name.lower() in _OURS:
            raise ValueError(f"not a header that can be set: {name!r}")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the header {name} has characters that no header can have")
    return {name.lower(): value for name, value in headers.items()}


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"


# The server's side -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for, as it came. Header names are in lower case."""

    path: str
    headers: Sequence[tuple[str, str]]

    def all(self, name: str) -> list[str]:
        """The values of a header, in order; a name may come more than once, and whoever cares has to look."""
        return [value for key, value in self.headers if key == name]

    def offered(self) -> list[str]:
        """The sub-protocols that the client offers."""
        return [word.strip() for value in self.all("sec-websocket-protocol") for word in value.split(",")]

    def token(self) -> str | None:
        """The bearer token, from the one place where it is said: a header, or a sub-protocol. None for none or more."""
        said = [v[7:].strip() for v in self.all("authorization") if v[:7].lower() == "bearer "]
        others = len(self.all("authorization")) - len(said)
        for word in self.offered():
            if word.startswith(TOKEN_SUBPROTOCOL):
                said.append(_decoded(word.removeprefix(TOKEN_SUBPROTOCOL)))
        return said[0] if len(said) == 1 and not others else None


def _decoded(word: str) -> str:
    try:
        return base64.urlsafe_b64decode(word + "=" * (-len(word) % 4)).decode()
    except ValueError:
        return ""


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


async def read_opening(stream: ByteStream, limits: Limits, seconds: float) -> Opening:
    """Read a client's request. Raises BadOpening; the stream stays the caller's to close."""
    protocol = ServerProtocol(max_size=limits.message, logger=_SILENT, select_subprotocol=_select)
    try:
        with anyio.fail_after(seconds):
            size = 0
            while not protocol.events:
                data = await stream.receive()
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
