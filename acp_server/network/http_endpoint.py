"""The endpoint of Streamable HTTP: what each request is answered with.

| request | answer |
|---|---|
| POST `initialize`, no `Acp-Connection-Id` | 200, the answer as JSON, and `Acp-Connection-Id`; 504 if there is none |
| POST anything else | 202 when the agent has it; what the agent says comes on the streams |
| GET, `Accept: text/event-stream` | 200 and the stream of the connection, or with `Acp-Session-Id` the session's |
| DELETE | 202, and the connection's sessions are closed, or wait where `Acp-Laguna-Farewell` says 1001 |
| OPTIONS of a page that may connect | 204, and what it may send |

What is refused: 400 without or with contradicting ids, or where the body is no message; 401, 403 by the gate; 404 for a
connection that is unknown or another principal's; 405; 406, 415 for other types; 408, 413, 431 for what is too slow or
too large; 409 for a stream that has a reader, 410 for one whose past is forgotten; 429, 503 with `Retry-After`; 501 for
arrays. A session that is unknown is the agent's to refuse: a client of the official TypeScript SDK takes a 404 for the
end of the whole connection. Answers need no `Acp-Session-Id`, which the official Python SDK does not send with them.

A stream numbers its events. A client that says `Last-Event-ID` goes on behind that one, 0 for the beginning, and takes
the place of a reader that is still there.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from acp.envelope import RequestId
from acp.json_text import Json, dumps, loads
from acp.transports.messages import LONGEST_SESSION_ID, Message, message_of
from acp.transports.remote import CONNECTION_ID, FAREWELL, PROTOCOL_VERSION, REPLACES, SESSION_ID, Request
from acp.transports.sse import MEDIA_TYPE, encode_comment, encode_event

from .crowd import Crowd
from .exchange import BadRequest, Exchange, Gone, Send
from .gate import Refusal, Visitor
from .http_connection import HttpConnection
from .outbox import Forgotten, Reader, Taken

if TYPE_CHECKING:
    from .server import Server

log = logging.getLogger(__name__)

JSON_TYPE = "application/json"
BODY = 60.0
"""Seconds for a request's body."""
INITIALIZE = 30.0
"""Seconds that the agent gets to answer `initialize`."""
LARGEST_INITIALIZE = 2**20
"""Bytes of a message of somebody who has no connection yet."""
AT_A_TIME = 16
"""Messages that may come in at a time on one connection."""
PIECE = 64 * 2**10
"""Bytes of events that are sent together."""

_METHODS = "POST, GET, DELETE"
_SENT_BY_PAGES = ", ".join(
    ("authorization", "content-type", CONNECTION_ID, SESSION_ID, PROTOCOL_VERSION, REPLACES, "last-event-id")
)
_NAMED = frozenset(
    ("session/prompt", "session/cancel", "session/close", "session/set_mode", "session/set_config_option")
)
"""What needs `Acp-Session-Id`. The official Python SDK does not send it with session/load, resume, fork and delete."""


class HttpEndpoint:
    """Answers requests, and keeps the connections that clients have. `group` outlives every connection."""

    def __init__(self, server: Server, group: TaskGroup) -> None:
        self._server, self._group = server, group
        self._limits = server.limits.connection
        self._connections: dict[str, HttpConnection] = {}
        self._posting: dict[HttpConnection, int] = {}
        self._crowd = Crowd(server.limits.connections, server.limits.per_address)

    def __len__(self) -> int:
        return len(self._connections)

    def check(self) -> None:
        """Give up clients that are gone."""
        now = anyio.current_time()
        for connection in list(self._connections.values()):
            connection.check(now)

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request, whatever happens. Raises Gone."""
        with self._server.visits.busy():
            cors: dict[str, str] = {}
            try:
                refusal = self._server.gate.refusal(exchange.request)
                if refusal is None:
                    cors = _cors(exchange.request)
                    refusal = await self._answer(exchange)
            except BadRequest as error:
                refusal = Refusal(error.status, str(error))
            except Gone:
                raise
            except Exception:
                log.exception("%s: a request failed", exchange.address)
                raise Gone("a request failed") from None
            if refusal is not None:
                log.info("%s: refused, %d: %s", exchange.address, refusal.status, refusal.text)
                headers = {**cors, **refusal.headers(), "content-type": "text/plain"}
                await exchange.answer(refusal.status, headers, f"{refusal.text}\n".encode())

    async def _answer(self, exchange: Exchange) -> Refusal | None:
        request = exchange.request
        if request.method == "OPTIONS":
            await self._preflight(exchange)
            return None
        visitor = self._server.gate.admit(request, exchange.address)
        if isinstance(visitor, Refusal):
            return visitor
        match request.method:
            case "POST":
                return await self._post(exchange, visitor)
            case "GET":
                return await self._get(exchange, visitor)
            case "DELETE":
                return await self._delete(exchange, visitor)
            case _:
                await exchange.answer(405, {"allow": _METHODS})
                return None

    async def _preflight(self, exchange: Exchange) -> None:
        """A browser asks for a page what it may send; it says no token with that (Fetch, CORS preflight)."""
        cors = _cors(exchange.request)
        if not cors:
            await exchange.answer(405, {"allow": _METHODS})
            return
        allowed = {"access-control-allow-methods": _METHODS, "access-control-allow-headers": _SENT_BY_PAGES}
        await exchange.answer(204, {**cors, **allowed, "access-control-max-age": "600"})

    def _connection(self, request: Request, visitor: Visitor) -> HttpConnection | Refusal:
        """The connection that a request is about: one of the visitor's own."""
        id = _one(request, CONNECTION_ID)
        if id is None:
            return Refusal(400, f"the header {CONNECTION_ID} is missing")
        found = self._connections.get(id)
        if found is None or found.ended or found.visitor.principal != visitor.principal:
            return Refusal(404, "there is no such connection")
        version = _one(request, PROTOCOL_VERSION)
        if version is not None and found.version is not None and version != str(found.version):
            return Refusal(400, f"the connection speaks version {found.version}")
        return found

    # POST ------------------------------------------------------------------------------------------

    async def _post(self, exchange: Exchange, visitor: Visitor) -> Refusal | None:
        request = exchange.request
        if (_one(request, "content-type") or "").partition(";")[0].strip().lower() != JSON_TYPE:
            return Refusal(415, f"the content has to be {JSON_TYPE}")
        if (_one(request, "content-encoding") or "identity").lower() != "identity":
            return Refusal(415, "the content may not be encoded")
        if _one(request, CONNECTION_ID) is None:
            return await self._post_first(exchange, visitor)
        connection = self._connection(request, visitor)
        if isinstance(connection, Refusal):
            return connection
        if self._posting.get(connection, 0) >= AT_A_TIME:
            return Refusal(429, "too many messages come at a time")
        self._posting[connection] = self._posting.get(connection, 0) + 1
        try:
            text = await _body(exchange, self._limits.message)
            message = await _message(exchange, text)
            if message is None:
                return None
            named = _session(request)
            if named is not None and not 0 < len(named) <= LONGEST_SESSION_ID:
                return Refusal(400, f"the header {SESSION_ID} is no id of a session")
            if named is None and message.method in _NAMED:
                return Refusal(400, f"the header {SESSION_ID} is missing")
            refusal = self._server.visits.refusal if message.is_request else None  # what runs may still be answered
            refusal = refusal or await connection.post(text, message, named)
        finally:
            self._posting[connection] -= 1
            if not self._posting[connection]:
                del self._posting[connection]
        if refusal is None:
            await exchange.answer(202, _cors(request))
        return refusal

    async def _post_first(self, exchange: Exchange, visitor: Visitor) -> Refusal | None:
        """Begin a connection."""
        text = await _body(exchange, min(LARGEST_INITIALIZE, self._limits.message))
        message = await _message(exchange, text)
        if message is None:
            return None
        if message.method != "initialize" or message.id is None:
            words = f"the header {CONNECTION_ID} is missing, and this is no request to initialize"
            if not message.is_request:
                return Refusal(400, words)
            await _answer_error(exchange, 400, -32600, f"Invalid request: {words}", message.id)
            return None
        self._crowd.enter(exchange.address)
        refusal = self._server.visits.refusal or self._crowd.refusal(exchange.address)
        if refusal is not None:
            self._crowd.leave(exchange.address)
            return refusal
        connection = HttpConnection(visitor, self._limits)
        self._connections[connection.id] = connection
        self._group.start_soon(self._host, connection)
        for id in exchange.request.listed(REPLACES.lower()):
            await self._server.visits.replace(id, visitor)
        answer = await connection.open(text, message, INITIALIZE)
        if answer is None:
            await connection.abort("the agent did not answer initialize")
            return Refusal(504, "the agent did not answer")
        headers = {**_cors(exchange.request), "content-type": JSON_TYPE, CONNECTION_ID: connection.id}
        try:
            await exchange.answer(200, headers, answer)
        except Gone:
            await connection.abort("the client went away before it was answered")
            raise
        return None

    async def _host(self, connection: HttpConnection) -> None:
        try:
            await self._server.visits.host(connection, connection.visitor, connection.id)
        except Exception:
            log.exception("%r failed", connection)
        finally:
            await connection.abort("the connection is over")
            del self._connections[connection.id]
            self._crowd.leave(connection.visitor.address)

    # GET, DELETE -------------------------------------------------------------------------------------

    async def _get(self, exchange: Exchange, visitor: Visitor) -> Refusal | None:
        request = exchange.request
        accepted = [part.partition(";")[0].strip().lower() for part in ",".join(request.all("accept")).split(",")]
        if MEDIA_TYPE not in accepted:
            return Refusal(406, f"what there is is {MEDIA_TYPE}")
        connection = self._connection(request, visitor)
        if isinstance(connection, Refusal):
            return connection
        session = _session(request)
        if session is not None and not 0 < len(session) <= LONGEST_SESSION_ID:
            return Refusal(400, f"the header {SESSION_ID} is no id of a session")
        try:
            reader = connection.attach(session, _number(_one(request, "last-event-id")))
        except Taken as error:
            return Refusal(409, str(error))
        except Forgotten as error:
            return Refusal(410, str(error))
        if isinstance(reader, Refusal):
            return reader
        headers = {**_cors(request), "content-type": MEDIA_TYPE, "x-accel-buffering": "no"}
        try:
            await exchange.stream(headers, lambda send: self._stream(connection, reader, send))
        finally:
            connection.detach(reader)
        return None

    async def _stream(self, connection: HttpConnection, reader: Reader, send: Send) -> None:
        """Send events as they come, and something when none do."""
        heartbeat = self._limits.heartbeat
        await send(encode_comment(f"heartbeat {heartbeat:g}"))
        try:
            while True:
                events: list[tuple[int, bytes]] = []
                with anyio.move_on_after(heartbeat):
                    events = await reader.take(PIECE)
                await send(b"".join(encode_event(text, number) for number, text in events) or b":\n\n")
        except anyio.EndOfStream:
            if connection.ended and not connection.was_lost:
                code, reason = connection.farewell
                await send(encode_comment(f"close {code} {reason}"))

    async def _delete(self, exchange: Exchange, visitor: Visitor) -> Refusal | None:
        connection = self._connection(exchange.request, visitor)
        if isinstance(connection, Refusal):
            return connection
        if _one(exchange.request, FAREWELL) == "1001":
            await connection.abort("the client goes to another connection")
        else:
            connection.leave()
        await exchange.answer(202, _cors(exchange.request))
        return None


async def _body(exchange: Exchange, most: int) -> bytes:
    try:
        with anyio.fail_after(BODY):
            return await exchange.body(most)
    except TimeoutError:
        raise BadRequest(408, f"the request's body took longer than {BODY:g} s") from None


async def _message(exchange: Exchange, text: bytes) -> Message | None:
    """What the body says; None where it is no message, which has been answered then."""
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        await _answer_error(exchange, 400, -32700, "Parse error")
        return None
    if isinstance(value, dict):
        return message_of(value)
    if isinstance(value, list):
        await _answer_error(exchange, 501, -32600, "Invalid request: arrays are not supported")
    else:
        await _answer_error(exchange, 400, -32600, "Invalid request: not an object")
    return None


async def _answer_error(exchange: Exchange, status: int, code: int, words: str, id: RequestId = None) -> None:
    body: Json = {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": words}}
    await exchange.answer(status, {**_cors(exchange.request), "content-type": JSON_TYPE}, dumps(body))


def _one(request: Request, name: str) -> str | None:
    """The value of a header that comes once at most, which the gate has seen to."""
    return next(iter(request.all(name.lower())), None)


def _session(request: Request) -> str | None:
    """The id of a session, which is any text: its UTF-8 was read as Latin-1."""
    named = _one(request, SESSION_ID)
    return None if named is None else named.encode("latin-1").decode(errors="replace")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and len(text) < 19 else None


def _cors(request: Request) -> dict[str, str]:
    """What lets a page read the answer: one that the gate has let in, and no other."""
    origin = _one(request, "origin")
    if origin is None:
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": f"{CONNECTION_ID}, retry-after",
        "vary": "origin",
    }
