"""One client's connection over Streamable HTTP, as a transport: what it posts comes in, what is said goes to streams.

There is a stream of events for the connection and one for each session. A text goes to that of the session it names,
once the client has shown that it knows of that session: by reading its stream, by naming it in a header, or because we
told it in an answer. Until then, and where nothing is named, it goes to the connection's. An answer follows its
question, and `$/cancel_request` the request that it takes back. So what is said of a session keeps its order.

Sending never waits: one session's reader delays no other. Whoever can wait asks for `room` first, which is its own
session's. A client that takes nothing for the stall limit, or reads no stream at all for `ABSENCE`, is given up.
"""

from __future__ import annotations

import secrets
from collections import deque
from typing import TypeVar

import anyio
from anyio.lowlevel import checkpoint

from acp.envelope import RequestId
from acp.tasks import Bell
from acp.transports.messages import ENDING, Message, read_message
from acp.transports.relay import on_one_line
from acp.transports.remote import Limits

from .gate import Refusal, Visitor
from .outbox import Outbox, Reader

V = TypeVar("V")

ABSENCE = 30.0
"""Seconds that a client may read no stream."""
UNREAD_TEXTS, UNREAD_BYTES = 64, 2**20
"""What may wait for the agent before a POST does."""
MOST_SESSIONS = 1024
"""Sessions of one connection that have a stream."""
MOST_PENDING = 10_000
"""Requests whose way back is remembered, each way."""
CLOSING = 2.0
"""Seconds that readers get to take the last that is said."""


class HttpConnection:
    """A `ServedTransport`. `id` cannot be guessed, and is of use to its visitor's principal only."""

    def __init__(self, visitor: Visitor, limits: Limits) -> None:
        self.id = secrets.token_urlsafe(24)
        self.visitor = visitor
        self.farewell: tuple[int, str] = (1000, "")
        self.texts = 0
        self.version: int | None = None
        """The version of the protocol that was agreed on."""
        self._limits = limits
        self._inbox, self._inbox_bytes = deque[bytes](), 0
        self._outboxes: dict[str | None, Outbox] = {None: Outbox()}
        self._closed: set[str] = set()
        """Sessions that were closed, whose outbox goes with its reader."""
        self._questions: dict[RequestId, Message] = {}
        self._asked: dict[RequestId, str | None] = {}
        self._beginning: bytes | None = None
        self._first: RequestId = None
        self._changed = Bell()
        self._read_at = anyio.current_time()
        self._ended = self._lost = False
        self._why = ""

    def __repr__(self) -> str:
        return f"<HttpConnection of {self.visitor.principal or 'somebody'} [{len(self._outboxes) - 1} sessions]>"

    # The transport ---------------------------------------------------------------------------------

    async def receive(self) -> bytes:
        while not self._inbox:
            if self._ended and self._lost:
                raise anyio.BrokenResourceError(self._why)
            if self._ended:
                raise anyio.EndOfStream
            await self._changed.wait()
        text = self._inbox.popleft()
        self._inbox_bytes -= len(text)
        self._changed.ring()
        return text

    async def send(self, *texts: bytes) -> None:
        if self._ended:
            raise anyio.BrokenResourceError(self._why)
        for text in texts:
            self._say(on_one_line(text))
        await checkpoint()

    def send_now(self, *texts: bytes) -> bool:
        if not self._ended:
            for text in texts:
                self._say(on_one_line(text))
        return not self._ended

    def is_crowded(self, session: str) -> bool:
        return self._outbox_of(session).is_crowded

    async def room(self, session: str) -> None:
        """Wait until little of what was said of a session waits for its reader."""
        await self._outbox_of(session).room()

    def _outbox_of(self, session: str) -> Outbox:
        """Where what is said of a session goes."""
        return self._outboxes.get(session) or self._outboxes[None]

    async def aclose(self) -> None:
        """End every stream behind what was said on it."""
        self._end("", lost=False)
        with anyio.move_on_after(CLOSING, shield=True):
            while any(outbox.reader is not None for outbox in self._outboxes.values()):
                await self._changed.wait()

    async def abort(self, why: str) -> None:
        """End at once; the client is lost."""
        self._end(why, lost=True)

    def epitaph(self) -> str:
        return self._why

    @property
    def was_lost(self) -> bool:
        return self._lost

    @property
    def ended(self) -> bool:
        return self._ended

    def _end(self, why: str, *, lost: bool) -> None:
        if not self._ended:
            self._ended, self._lost, self._why = True, lost, why
            for outbox in self._outboxes.values():
                outbox.finish()
            self._changed.ring()

    # What the client posts ---------------------------------------------------------------------------

    async def open(self, text: bytes, message: Message, seconds: float) -> bytes | None:
        """Say `initialize` to the agent; its answer, or None where there is none in time."""
        self._first = message.id
        self._take(text)
        with anyio.move_on_after(seconds):
            while self._beginning is None and not self._ended:
                await self._changed.wait()
        return self._beginning

    async def post(self, text: bytes, message: Message, named: str | None) -> Refusal | None:
        """Give the agent a text, which the client says is about the session `named`; or what it is refused with.

        Waits while the agent has much to read.
        """
        session = message.session if message.method is not None else None
        if named is not None and session is not None and named != session:
            return Refusal(400, "Acp-Session-Id names another session than the message does")
        if named is not None and self._outbox(named) is None:
            return Refusal(429, f"the connection has {MOST_SESSIONS} sessions")
        with anyio.move_on_after(self._limits.stall):
            while (len(self._inbox) >= UNREAD_TEXTS or self._inbox_bytes > UNREAD_BYTES) and not self._ended:
                await self._changed.wait()
        if self._ended:
            return Refusal(404, "the connection is over")
        if len(self._inbox) >= UNREAD_TEXTS or self._inbox_bytes > UNREAD_BYTES:
            return Refusal(503, "the agent reads nothing")
        if message.is_request:
            _remember(self._questions, message.id, message._replace(session=session or named))
        elif message.is_answer:
            self._asked.pop(message.id, None)
        self._take(text)
        return None

    def _take(self, text: bytes) -> None:
        self.texts += 1
        self._inbox.append(text)
        self._inbox_bytes += len(text)
        self._changed.ring()

    def leave(self) -> None:
        """The client says that it goes."""
        self._end("the client ended the connection", lost=False)

    # What is said to it ------------------------------------------------------------------------------

    def _say(self, text: bytes) -> None:
        message = read_message(text)
        if message.is_answer and self._beginning is None and message.id == self._first:
            self._beginning, self.version = text, message.version
            self._changed.ring()
            return
        stream = self._stream_of(message)
        outbox = self._outboxes[stream]
        outbox.put(text)
        asked = self._questions.pop(message.id, None) if message.is_answer else None
        if asked is not None and asked.method in ENDING and asked.session is not None and not message.failed:
            # Its stream stays while it is read: a client may open the session again on it, and miss the end of it.
            self._closed.add(asked.session)
        if outbox.is_overflowing:
            self._end("the client does not read what is said to it", lost=True)

    def _stream_of(self, message: Message) -> str | None:
        """Where a message goes: a session that has a stream, or None for the connection's."""
        if message.is_answer:
            if message.session is not None and not message.failed:
                self._outbox(message.session)  # one that was made: the client knows it from here on
            asked = self._questions.get(message.id)
            stream = None if asked is None else asked.session
        elif message.cancels is not None:
            stream = self._asked.get(message.cancels)
        else:
            stream = message.session
        stream = stream if stream in self._outboxes else None
        if message.is_request:
            _remember(self._asked, message.id, stream)
        return stream

    # Those who read it -------------------------------------------------------------------------------

    def attach(self, session: str | None, after: int | None) -> Reader | Refusal:
        """Read a stream. Raises Taken, Forgotten."""
        was_closed = session in self._closed
        outbox = self._outbox(session)
        if outbox is None:
            return Refusal(429, f"the connection has {MOST_SESSIONS} sessions")
        if was_closed and after == 0:
            outbox.begin_anew()  # the client has let go of the session, and with it of what it had of its stream
        self._read_at = anyio.current_time()
        return outbox.attach(after)

    def detach(self, reader: Reader) -> None:
        reader.leave()
        self._read_at = anyio.current_time()
        for session in list(self._closed):
            if (outbox := self._outboxes.get(session)) is None or (outbox.reader is None and outbox.is_empty):
                self._closed.discard(session)
                self._outboxes.pop(session, None)
        self._changed.ring()

    def _outbox(self, session: str | None) -> Outbox | None:
        """The outbox of a session, made if need be; None where there are too many."""
        if session is not None:
            self._closed.discard(session)
        if session not in self._outboxes:
            if len(self._outboxes) > MOST_SESSIONS:
                return None
            self._outboxes[session] = Outbox()
        return self._outboxes[session]

    def check(self, now: float) -> None:
        """Give up a client that is not there any more, or does not read."""
        outboxes = self._outboxes.values()
        for outbox in outboxes:
            outbox.forget(now)
        if any(o.is_crowded and now - o.progress > self._limits.stall for o in outboxes):
            self._end(f"the client took nothing for {self._limits.stall:g} s", lost=True)
        elif now - self._read_at > ABSENCE and all(outbox.reader is None for outbox in outboxes):
            self._end(f"the client reads no stream for {ABSENCE:g} s", lost=True)


def _remember(kept: dict[RequestId, V], id: RequestId, value: V) -> None:
    kept[id] = value
    if len(kept) > MOST_PENDING:
        del kept[next(iter(kept))]
