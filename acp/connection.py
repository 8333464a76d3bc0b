"""Runs a `Peer` over a transport, on asyncio or trio.

One task reads, one writes, and each request of the peer runs in a task and a cancel scope of its own. Three rules:

1. Notifications are handled where they are read, in order, and nothing behind them is read meanwhile. So an update that
   was sent before a response is handled before the response reaches its caller. A notification handler that takes long
   makes the peer wait; one that waited for the peer would wait for ever, so `call` refuses to be used in one. (A task
   that it starts may call, as long as the handler itself does not wait for that task.)
2. Who can wait, waits; the reader never waits for the writer. `call` and `notify` wait while more than 64 texts are
   unsent, and `notify` while its session has no room, where a transport has a lane for each. Answers, refusals and what
   a notification handler says never wait, so two full pipes cannot lock each other; a peer that makes us talk and never
   reads is cut off at 10,000 texts or 256 MiB.
3. `$/cancel_request` cancels the scope of that request. Its handler may still return a result, a partial one; if it
   does not, the answer is -32800. Cancelling our own `call` tells the peer, and its id stays taken until it answers.

An exception of a handler becomes an error in one place, `Answering.failure`: a `RequestError` goes out as it is;
anything else is -32603 with a reference to the log, and not a word of what it was.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar

import anyio

from .answering import Afterwards, Answering, after_reply, holds_reader
from .errors import ConnectionClosed, LocalProtocolError, RequestError
from .handlers import Handlers
from .methods import Method
from .peer import Called, CancelAsked, Event, Notified, Peer, Refused, Replied, RequestId
from .pending import Pending
from .tasks import AnyEvent, Bell, Start, light_event, light_start, task_group
from .transports import Lanes, Oversize, Transport

__all__ = ["Connection", "Handlers", "Pending", "Transport"]

P = TypeVar("P")
R = TypeVar("R")

log = logging.getLogger("acp")

UNSENT_TEXTS, UNSENT_BYTES = 64, 2**20
"""Texts, and bytes, that may be unsent before `call` and `notify` wait."""
MOST_TEXTS, MOST_BYTES = 10_000, 256 * 2**20
"""Unsent texts, and bytes of them, at which a peer that does not read is given up."""
AT_ONCE = 32 * 2**10
"""Bytes of texts that are given to the transport together; a longer one goes by itself."""
LAST_WORDS = 2.0
"""Seconds that the last texts get to leave when the connection is closed."""
CLOSING = 10.0
"""Seconds that the transport gets to close."""
LAST_ANSWERS = 0.5
"""Seconds that running requests get to be answered when the peer says no more."""
BROKEN_PIPE = 1.0
"""Seconds between a failed write and the end, for the reader to find out why."""


class Connection:
    """A conversation with one peer: `async with Connection(transport, handlers) as connection`.

    `calls` are the methods that we may call; None leaves every method of a version open (`open` narrows nothing).
    `otherwise` is what a request is refused with that no handler takes, -32601 if not given; `reopen` ends that.
    The connection owns the transport and closes it. When the conversation ends, the block goes on: its calls raise
    ConnectionClosed.
    """

    def __init__(
        self,
        transport: Transport,
        handlers: Handlers | None = None,
        *,
        name: str = "peer",
        calls: Iterable[Method[Any, Any]] | None = None,
        batch: bool = False,
        otherwise: RequestError | None = None,
    ) -> None:
        self.name = name
        self.reason: str | None = None
        self.closed = False
        self._transport = transport
        self._lanes = transport if isinstance(transport, Lanes) else None
        self._peer = Peer(batch=batch)
        if otherwise is not None:
            self._peer.refuse_others(otherwise)
        self._answering = Answering(name, self._peer, self._leave)
        self._any_call = calls is None
        self._waiters: dict[RequestId, Pending[Any]] = {}
        self._leaving: deque[bytes] = deque()
        self._wake: AnyEvent = anyio.Event()
        self._sent = Bell()
        self._ended = anyio.Event()
        self._exits = AsyncExitStack()
        self._start: Start
        self._reader: int | None = None
        self._io = (anyio.CancelScope(), anyio.CancelScope())
        self.open(handlers or Handlers(), calls or ())

    def __repr__(self) -> str:
        state = "open" if self.reason is None else f"closed: {self.reason}" if self.closed else "closing"
        peer = self._peer
        return f"<Connection {self.name} [{state}, {peer.asked} asked, {peer.running} running, {self._unsent} unsent]>"

    def open(self, handlers: Handlers, calls: Iterable[Method[Any, Any]] = ()) -> None:
        """Handle these methods too, and let us call those."""
        self._answering.handlers.update({name: handler for name, (_, handler) in handlers.by_name.items()})
        self._peer.open(handlers.methods(), calls)

    def reopen(self, handlers: Handlers, calls: Iterable[Method[Any, Any]] = ()) -> None:
        """Handle these methods instead of all before, and let us call those and no others.

        For a conversation whose methods are agreed on at its beginning. Requests that run go on.
        """
        self._any_call = False
        self._answering.handlers.clear()
        self._peer.close()
        self.open(handlers, calls)

    # Life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        group = await self._exits.enter_async_context(task_group())
        group.start_soon(self._keep, self._read, self._io[0], name=f"{self.name} reader")
        group.start_soon(self._keep, self._write, self._io[1], name=f"{self.name} writer")
        self._start = light_start(group)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        await self.aclose()
        with anyio.CancelScope(shield=True):
            await self._answering.finished()
        return await self._exits.__aexit__(kind, error, trace)

    async def wait_closed(self) -> None:
        """Wait until either side, or a failure, has ended the conversation."""
        await self._ended.wait()

    async def wait_answered(self) -> None:
        """Wait until no request of the peer runs and what we said is sent, or the conversation has ended."""
        while (self._answering.running or self._unsent) and not self.closed:
            await self._answering.finished()
            if self._unsent and not self.closed:
                await self._sent.wait()

    async def aclose(self, reason: str = "closed by us") -> None:
        """End the conversation: what was said is sent, our calls fail with ConnectionClosed, handlers are cancelled.

        Takes two seconds at most for a peer that does not read, and then what the transport takes to close.
        """
        try:
            with anyio.move_on_after(LAST_WORDS, shield=True):
                while self._unsent and not self.closed:
                    await self._sent.wait()
            self._end(reason)
            with anyio.move_on_after(CLOSING, shield=True):
                await self._transport.aclose()
        finally:
            for scope in self._io:
                scope.cancel()

    def _end(self, reason: str) -> None:
        if self.closed:
            return
        self._fail_calls(reason)
        self.closed = True
        self._ended.set()
        self._wake.set()
        self._sent.ring()
        self._answering.end()

    def _fail_calls(self, reason: str) -> None:
        """No answer can come any more."""
        self.reason = self.reason or reason
        for waiter in self._waiters.values():
            waiter.fail(ConnectionClosed(self.reason))
        self._waiters.clear()

    # What we say -----------------------------------------------------------------------------------------

    async def ask(self, method: Method[P, R], params: P) -> Pending[R]:
        """Ask the peer; give back the answer to wait for. What is said after this is said behind the question.

        Raises ConnectionClosed, and LocalProtocolError when we may not ask.
        """
        if self._in_notification():
            raise LocalProtocolError(f"{method.name} would wait for ever: a notification handler holds the reader")
        if self._must_wait(method):
            await self._room(None)
        if self.reason is not None:
            raise ConnectionClosed(self.reason)
        id = self._peer.call(method, params)
        self._leave()
        pending: Pending[R] = Pending(id, self._abandon)
        self._waiters[id] = pending
        return pending

    async def call(self, method: Method[P, R], params: P) -> R:
        """Ask the peer and wait for its answer.

        Raises RequestError when the answer is an error, ConnectionClosed when none will come, LocalProtocolError when
        we may not ask. Cancelled, it tells the peer so.
        """
        return await (await self.ask(method, params)).answer()

    def _abandon(self, id: RequestId) -> None:
        """Nobody waits for the answer to `id` any more."""
        if self._waiters.pop(id, None) is not None:
            self._peer.cancel(id)
            self._leave()

    async def notify(self, method: Method[P, None], params: P) -> None:
        """Tell the peer. Raises ConnectionClosed, LocalProtocolError."""
        session: str | None = None if self._lanes is None else getattr(params, "session_id", None)
        if self._must_wait(method) or session is not None:
            await self._room(session)
        self._peer.notify(method, params)
        self._wake.set()

    def is_crowded(self, session: str) -> bool:
        """Whether `notify` would wait that says something of a session: the peer has much to read yet."""
        return self._is_full or (self._lanes is not None and self._lanes.is_crowded(session))

    def after_reply(self, callback: Afterwards) -> None:
        """In a request's handler: await `callback` once the answer is on its way, so that what it says comes behind.

        It runs only when the answer is a result, in the request's task, but can no longer be cancelled by the peer.
        """
        after_reply(callback)

    def _leave(self) -> None:
        """Send what was said, at once if that needs no waiting: somebody waits for it, or for its answer."""
        if not self._leaving and not self.closed:
            texts = self._peer.texts_to_send()
            if self._transport.send_now(*texts):
                self._sent.ring()
                return
            self._leaving.extend(texts)
        self._wake.set()

    @property
    def _unsent(self) -> int:
        return self._peer.pending + len(self._leaving)

    @property
    def _is_full(self) -> bool:
        return self._unsent > UNSENT_TEXTS or self._peer.pending_bytes > UNSENT_BYTES

    def _must_wait(self, method: Method[Any, Any]) -> bool:
        """Whether `_room` has something to say of a text; nearly never, and asking costs less than a coroutine."""
        if self._any_call:
            self._peer.open((), (method,))
        return self._is_full or self.closed

    async def _room(self, session: str | None) -> None:
        """Wait until few enough texts are unsent, and of a session few enough unread. Raises ConnectionClosed."""
        if not self._in_notification():
            if self._lanes is not None and session is not None:
                await self._lanes.room(session)
            while self._is_full and not self.closed:
                await self._sent.wait()
        if self.closed:
            raise ConnectionClosed(self.reason or "closed")

    def _in_notification(self) -> bool:
        """Whether a handler of one of our notifications asks, in the reader's own task."""
        reader = holds_reader.get()
        return reader is not None and reader == self._reader == anyio.get_current_task().id

    # The tasks -------------------------------------------------------------------------------------------

    async def _keep(self, work: Callable[[], Awaitable[None]], scope: anyio.CancelScope) -> None:
        """Run the reader or the writer; their failure ends the conversation and nothing more."""
        with scope:
            try:
                await work()
            except Exception as error:
                log.error("%s: the connection failed", self.name, exc_info=error)
                self._end("internal error")
            except anyio.get_cancelled_exc_class():
                self._end("cancelled")  # whoever runs us was: nothing is sent or received any more
                raise

    async def _write(self) -> None:
        try:
            while not self.closed:
                await self._wake.wait()
                self._wake = light_event()
                self._leaving.extend(self._peer.texts_to_send())
                while self._leaving:
                    together = _first(self._leaving, AT_ONCE)
                    await self._transport.send(*together)
                    for _ in together:
                        self._leaving.popleft()
                    self._sent.ring()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            if self.reason is None:
                with anyio.move_on_after(BROKEN_PIPE):
                    await self._ended.wait()  # the reader may be about to learn more
            self._end(self._why("the peer no longer reads", error))

    async def _read(self) -> None:
        self._reader = anyio.get_current_task().id
        holds_reader.set(self._reader)  # tasks that a handler starts inherit it, but have an id of their own
        why = "the peer closed the connection"
        error: Exception | None = None
        try:
            while not self.closed:
                for event in self._understand(await self._transport.receive()):
                    if type(event) is Notified:
                        await self._tell(event)
                    else:
                        self._handle(event)
        except anyio.EndOfStream:
            pass
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as failure:
            why, error = "the connection broke", failure
        if self.closed:
            return
        self._fail_calls(self._why(why, error))
        with anyio.move_on_after(LAST_ANSWERS):  # the peer may still read, as in `echo MESSAGE | agent`
            await self._answering.finished()
            while self._unsent and not self.closed:
                await self._sent.wait()
        self._end(self.reason or why)

    def _understand(self, text: bytes | Oversize) -> list[Event]:
        """What one text means; the end for a peer that makes us answer and does not read."""
        peer = self._peer
        if peer.pending_bytes and (self._unsent > MOST_TEXTS or peer.pending_bytes > MOST_BYTES):
            self._end("the peer does not read what we answer")
            return []
        return peer.receive(text) if type(text) is bytes else [peer.refuse_text(str(text))]

    def _why(self, what: str, error: Exception | None) -> str:
        detail = f": {error}" if error and str(error) else ""
        words = self._transport.epitaph()
        return f"{what}{detail}" + (f"; {words}" if words else "")

    def _handle(self, event: Event) -> None:
        """Act on an event without waiting."""
        match event:
            case Called():
                self._answering.start(event, self._start)
            case Replied(id, outcome):
                waiter = self._waiters.pop(id, None)
                if waiter is not None:
                    waiter.settle(outcome)
            case CancelAsked(id):
                self._answering.cancel(id)
            case Refused(error, id):
                log.info("%s: refused%s: %s", self.name, f" {id!r}" if id is not None else "", error)
                self._leave()
            case Notified():
                raise AssertionError("notifications are handled where they are read")

    async def _tell(self, event: Notified) -> None:
        """Run the handler of a notification, here and now."""
        try:
            await self._answering.handlers[event.method.name](event.params)
        except Exception as error:
            self._answering.failure(event.method, error)


def _first(texts: deque[bytes], most: int) -> list[bytes]:
    """The first of the texts, as many as have room; at least one."""
    first: list[bytes] = []
    for text in texts:
        most -= len(text)
        if first and most < 0:
            break
        first.append(text)
    return first
