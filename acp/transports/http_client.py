"""Streamable HTTP as a client's transport (the ACP transport RFD). The extra `http` has what it needs.

Each text is posted by itself, and the next one when the server has taken it: so they arrive in order. What the agent
says comes on streams of events, one of the connection and one of each session, opened before the first text about that
session is sent. Within a stream the order is the sender's; between streams it is the network's.

- A stream that breaks is opened again behind what came last, where the server numbers its events: then nothing is lost
  and nothing comes twice. Where it does not, or has forgotten, or does not come back within `REOPENING`, the connection
  is over, as lost: nobody can know what was on its way.
- A request that the server refuses by itself is answered with an error, as if the agent had. A POST of which nobody
  knows whether it arrived ends the connection, and is not sent again.
- What was read and not received yet is bounded; then the server waits.
"""

from __future__ import annotations

import math
import random
import ssl
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from ..envelope import RequestId, error_message
from ..errors import ErrorCode, RequestError
from ..json_text import dumps
from ..tasks import Bell, task_group
from . import Oversize
from .cookies import Cookies
from .http_wire import ENDING, HttpWire, NotReached, Reply
from .messages import ENDING as LAST_REQUESTS
from .messages import OPENING as FIRST_REQUESTS
from .messages import Message, read_error, read_message
from .remote import CONNECTION_ID, FAREWELL, PROTOCOL_VERSION, REPLACES, SESSION_ID, CannotConnect, Limits
from .sse import MEDIA_TYPE, Comment, Event, EventBuffer

REOPENING = 5.0
"""Seconds to open a stream again that broke; what takes longer is for whoever connects anew."""
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
"""Seconds before a stream is opened again, at most: the first time, and ever."""
UNREAD_TEXTS, UNREAD_BYTES = 256, 2**20
"""What may wait to be received."""
MOST_PENDING = 10_000
"""Requests whose way is remembered, each way."""
SILENCE = 3
"""Heartbeats that may not come before a stream is taken for broken."""

_FINAL_STATUSES = {400, 401, 403, 404, 405, 406, 415, 421, 426, 501}
_FINAL_CODES = {1000, 1002, 1003, 1007, 1008, 1009, 1010}
_GOES_ON = {429, 500, 502, 503, 504}
"""Statuses after which a stream may still be opened."""

V = TypeVar("V")


class _Stream:
    """The events of the connection, or of one session."""

    def __init__(self, session: str | None, is_numbered: bool) -> None:
        self.session, self.is_numbered = session, is_numbered
        self.last = ""
        self.is_over = False
        """Whether nothing more is to come: the session was closed."""
        self.watch = anyio.CancelScope()
        """What is read of it now."""
        self.refused: Reply | None = None
        self.settled = anyio.Event()
        """Set once the stream is open, or will not be."""

    def headers(self) -> dict[str, str]:
        headers = {"accept": MEDIA_TYPE, "last-event-id": self.last or "0"}
        return headers if self.session is None else {**headers, SESSION_ID: self.session}


class HttpTransport:
    """A `ClientTransport`. Made by `connect_http`; nothing is asked of the server before the first text."""

    def __init__(self, wire: HttpWire, limits: Limits, group: TaskGroup, replaces: Sequence[str]) -> None:
        self.connection_id: str | None = None
        self.refusal: CannotConnect | None = None
        self.farewell: tuple[int, str] = (1000, "")
        self._wire, self._limits, self._group, self._replaces = wire, limits, group, replaces
        self._version: int | None = None
        self._streams: dict[str | None, _Stream] = {}
        self._questions: dict[RequestId, Message] = {}
        self._asked: dict[RequestId, str] = {}
        self._unread, self._unread_bytes = deque[bytes | Oversize](), 0
        self._changed = Bell()
        self._ended = self._lost = False
        self._code: int | None = None
        self._why = ""

    # The transport ---------------------------------------------------------------------------------

    async def receive(self) -> bytes | Oversize:
        while not self._unread:
            if self._ended and self._lost:
                raise anyio.BrokenResourceError(self._why)
            if self._ended:
                raise anyio.EndOfStream
            await self._changed.wait()
        text = self._unread.popleft()
        self._unread_bytes -= _size(text)
        self._changed.ring()
        return text

    async def send(self, *texts: bytes) -> None:
        for text in texts:
            if self._ended:
                raise anyio.BrokenResourceError(self._why)
            message = read_message(text)
            if self.connection_id is None:
                await self._begin(text, message)
            else:
                await self._post(text, message)

    def send_now(self, *texts: bytes) -> bool:
        return False  # the server has to take each first

    async def aclose(self) -> None:
        """Tell the server that we go, if it is there: a connection that was lost may be missed, and come back."""
        is_there = not self._ended and self.connection_id is not None
        self._end("", lost=False)
        if is_there:
            with anyio.move_on_after(ENDING, shield=True):
                with suppress(NotReached):
                    code = str(self.farewell[0])
                    await self._wire.request("DELETE", {**self._ids(), FAREWELL: code})
        self._group.cancel_scope.cancel()

    def epitaph(self) -> str:
        return self._why

    @property
    def was_lost(self) -> bool:
        return self._lost

    @property
    def ended_well(self) -> bool:
        return self._code == 1000

    @property
    def is_final(self) -> bool:
        return self._code in _FINAL_CODES or (self.refusal is not None and self.refusal.status in _FINAL_STATUSES)

    def _end(self, why: str, *, lost: bool, code: int | None = None) -> None:
        if not self._ended:
            self._ended, self._lost, self._code, self._why = True, lost, code, why
            for stream in self._streams.values():
                stream.settled.set()
            self._changed.ring()

    def _lose(self, why: str) -> None:
        self._end(why, lost=True)

    # What we say -----------------------------------------------------------------------------------

    def _ids(self, session: str | None = None) -> dict[str, str]:
        headers = {} if self.connection_id is None else {CONNECTION_ID: self.connection_id}
        if self._version is not None:
            headers[PROTOCOL_VERSION] = str(self._version)
        return headers if session is None else {**headers, SESSION_ID: session}

    async def _begin(self, text: bytes, message: Message) -> None:
        """The first text should be `initialize`, whose answer says what the connection is called."""
        headers = {"content-type": "application/json"}
        if self._replaces:
            headers[REPLACES] = ", ".join(self._replaces)
        try:
            reply = await self._wire.request("POST", headers, text, most=self._limits.message)
        except NotReached as error:
            self.refusal = CannotConnect(str(error))
            self._lose(str(error))
            raise anyio.BrokenResourceError(self._why) from error
        id = reply.headers.get(CONNECTION_ID.lower())
        if await self._answered(message, reply):
            return
        if reply.status != 200:
            self._refuse(reply, f"refused the connection: {reply.says()}")
        if not id or len(reply.body) > self._limits.message:
            self._refuse(reply, f"does not speak ACP: it gave no {CONNECTION_ID} with a message")
        self.connection_id = id
        self._version = read_message(reply.body).version
        self._listen(None)
        await self._put(reply.body)

    def _refuse(self, reply: Reply, why: str) -> None:
        """There is no connection. Raises BrokenResourceError."""
        after = reply.headers.get("retry-after", "")
        self.refusal = CannotConnect(
            f"{self._wire.shown} {why}", reply.status, float(after) if after.isdecimal() else None
        )
        self._lose(str(self.refusal))
        raise anyio.BrokenResourceError(self._why)

    async def _post(self, text: bytes, message: Message) -> None:
        session = self._asked.pop(message.id, None) if message.is_answer else message.session
        if session is not None:
            stream = self._listen(session)
            await stream.settled.wait()
            if stream.refused is not None and message.method in FIRST_REQUESTS:
                session = (
                    None  # a server that has to open a session first; what it says comes on the connection's stream
                )
        if message.is_request:
            _remember(self._questions, message.id, message)
        try:
            reply = await self._wire.request(
                "POST", {**self._ids(session), "content-type": "application/json"}, text, most=self._limits.message
            )
        except NotReached as error:
            self._lose(str(error))
            raise anyio.BrokenResourceError(self._why) from error
        if reply.status == 200 and reply.body:
            await self._put(reply.body)
        elif not 200 <= reply.status < 300:
            await self._refused(message, session, reply)

    async def _refused(self, message: Message, session: str | None, reply: Reply) -> None:
        """The server did not take a message. Of a request whoever asked hears so; anything else would be missed.

        A server that says in JSON-RPC what is wrong with a text has answered it, and goes on.
        """
        if await self._answered(message, reply):
            return
        known = session is None or self._listen(session).refused is None
        if not message.is_request or reply.status in (401, 403, 410) or (reply.status == 404 and known):
            self._lose(f"{self._wire.shown} refused a message: {reply.says()}")
            raise anyio.BrokenResourceError(self._why)
        self._questions.pop(message.id, None)
        unknown = reply.status == 404 and session is not None
        error = (
            RequestError.session_not_found(session or "")
            if unknown
            else RequestError(
                ErrorCode.INTERNAL_ERROR, f"The server refused the request: {reply.says()}", {"status": reply.status}
            )
        )
        await self._put(dumps(error_message(message.id, error)))

    async def _answered(self, message: Message, reply: Reply) -> bool:
        """Whether a refusal is an answer: to a request, or to a text that is no message."""
        error = read_error(reply.body) if reply.status in (400, 501) else None
        if error is None or (not message.is_request and (message.method is not None or message.is_answer)):
            return False
        self._questions.pop(message.id, None)
        await self._put(dumps(error_message(message.id if message.is_request else None, error)))
        return True

    # What we hear ----------------------------------------------------------------------------------

    def _listen(self, session: str | None) -> _Stream:
        """The stream of a session, opened if it is not open."""
        found = self._streams.get(session)
        if found is None:
            is_numbered = any(stream.is_numbered for stream in self._streams.values())  # as the others of this server
            found = self._streams[session] = _Stream(session, is_numbered)
            self._group.start_soon(self._follow, found)
        return found

    async def _follow(self, stream: _Stream) -> None:
        """Read a stream to its end, opening it again when it breaks."""
        pause, deadline = FIRST_PAUSE, math.inf
        while not self._ended:
            try:
                if await self._read(stream):
                    pause, deadline = FIRST_PAUSE, math.inf
            except NotReached as error:
                why = str(error)
            else:
                why = "the server ended a stream of events"
            if stream.is_over or stream.refused is not None or self._ended:
                break
            now = anyio.current_time()
            deadline = min(deadline, now + REOPENING)
            if stream.settled.is_set() and not stream.is_numbered:
                self._lose(why)  # what was on its way nobody can know
            elif now + pause > deadline:
                self._lose(why)
            else:
                await anyio.sleep(random.uniform(0, pause))
                pause = min(LONGEST_PAUSE, pause * 2)
        stream.settled.set()

    async def _read(self, stream: _Stream) -> bool:
        """Read a stream until it breaks; whether anything came. Raises NotReached."""
        with anyio.CancelScope() as stream.watch:
            async with self._wire.listen({**self._ids(), **stream.headers()}) as (reply, pieces):
                if reply.status != 200:
                    self._judge(stream, reply)
                    return False
                stream.settled.set()
                return await self._take(stream, pieces)
        raise NotReached(f"{self._wire.shown} was not heard any more", is_unsent=False)

    def _judge(self, stream: _Stream, reply: Reply) -> None:
        """What a stream that is refused means."""
        if reply.status in _GOES_ON:
            return
        if stream.session is not None and not stream.settled.is_set() and reply.status in (400, 404, 409):
            stream.refused = reply  # the session's own affair
        else:
            self._lose(f"{self._wire.shown} refused a stream of events: {reply.says()}")

    async def _take(self, stream: _Stream, pieces: AsyncIterator[bytes]) -> bool:
        buffer, heartbeat, came = EventBuffer(self._limits.message), math.inf, False
        async for piece in pieces:
            came = True
            stream.watch.deadline = math.inf  # while we wait for whoever receives, nobody is silent
            # A generator that is left while it is not asked is not closed in time; `_end` ends the wait in here.
            with anyio.CancelScope(shield=True):
                for found in buffer.feed(piece):
                    heartbeat = await self._act(stream, found, heartbeat)
            stream.watch.deadline = anyio.current_time() + SILENCE * heartbeat
        return came

    async def _act(self, stream: _Stream, found: Event | Comment | Oversize, heartbeat: float) -> float:
        """Act on what came; the seconds between two signs of life."""
        match found:
            case Event(text, id):
                stream.last, stream.is_numbered = id, bool(id)
                self._note(stream, read_message(text))
                await self._put(text)
            case Comment(words):
                return self._hear(stream, words, heartbeat)
            case Oversize():
                await self._put(found)
        return heartbeat

    def _hear(self, stream: _Stream, words: str, heartbeat: float) -> float:
        """Act on a comment; the seconds between two signs of life."""
        match words.split(maxsplit=2):
            case ["heartbeat", seconds] if seconds.replace(".", "", 1).isdecimal():
                stream.is_numbered = True  # one of ours, which numbers its events
                return float(seconds) or heartbeat
            case ["close", code, *reason] if code.isdecimal() and stream.session is None:
                said = f"the peer closed the connection with {code}" + (f" ({reason[0]})" if reason else "")
                self._end(said, lost=int(code) != 1000, code=int(code))
            case _:
                pass
        return heartbeat

    def _note(self, stream: _Stream, message: Message) -> None:
        """Learn of sessions from what the agent says."""
        if message.is_request:
            session = message.session or stream.session
            if session is not None:
                _remember(self._asked, message.id, session)
        elif message.is_answer:
            question = self._questions.pop(message.id, None)
            if message.session is not None and not message.failed:
                self._listen(message.session)
            if question is not None and question.method in LAST_REQUESTS and not message.failed:
                self._forget(question.session)

    def _forget(self, session: str | None) -> None:
        """Nothing more is to come of a session."""
        if session is not None and (stream := self._streams.pop(session, None)) is not None:
            stream.is_over = True
            stream.watch.cancel()

    async def _put(self, text: bytes | Oversize) -> None:
        """Have a text received, when there is room for it."""
        while (len(self._unread) >= UNREAD_TEXTS or self._unread_bytes > UNREAD_BYTES) and not self._ended:
            await self._changed.wait()
        self._unread.append(text)
        self._unread_bytes += _size(text)
        self._changed.ring()


@asynccontextmanager
async def connect_http(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    limits: Limits | None = None,
    cookies: Cookies | None = None,
    replaces: Sequence[str] = (),
) -> AsyncGenerator[HttpTransport]:
    """A transport to an `http://` or `https://` URL. Raises ValueError for a URL or a header that cannot be.

    The connection is made by the first text, `initialize`; what is wrong with it, sending tells, and `refusal`. Leaving
    the block ends it. `tls` replaces the system's trust. An `Authorization` or `Cookie` header goes over `http://` to
    this machine only, unless `insecure`. What is in `cookies` is returned to the server, and what it sets is put there.
    `replaces` are the ids of connections that this one takes the place of.
    """
    wire = HttpWire(url, headers=headers, tls=tls, insecure=insecure, cookies=cookies)
    try:
        async with task_group(cancel_at_end=True) as group:
            transport = HttpTransport(wire, limits or Limits(), group, replaces)
            try:
                yield transport
            finally:
                await transport.aclose()
    finally:
        with anyio.CancelScope(shield=True):
            await wire.aclose()


def _remember(kept: dict[RequestId, V], id: RequestId, value: V) -> None:
    kept[id] = value
    if len(kept) > MOST_PENDING:
        del kept[next(iter(kept))]


def _size(text: bytes | Oversize) -> int:
    return 0 if isinstance(text, Oversize) else len(text)
