"""Runs a `Peer` over a transport, on asyncio or trio.

One task reads, one writes, and each request of the peer runs in a task and a cancel scope of its own. Three rules:

1. Notifications are handled where they are read, in order, and nothing behind them is read meanwhile. So an update that
   was sent before a response is handled before the response reaches its caller. A notification handler that takes long
   makes the peer wait; one that waited for the peer would wait for ever, so `call` refuses to be used in one.
2. Who can wait, waits; the reader never waits for the writer. `call` and `notify` wait while more than 64 texts are
   unsent. Answers and refusals never wait, so two full pipes cannot lock each other.
3. `$/cancel_request` cancels the scope of that request. Its handler may still return a result, a partial one; if it
   does not, the answer is -32800. Cancelling our own `call` tells the peer, and its id stays taken until it answers.

An exception of a handler becomes an error in one place, `_failure`: a `RequestError` goes out as it is; anything else
is -32603 with a reference to the log, and not a word of what it was.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from contextvars import ContextVar
from typing import Any, Generic, Self, TypeVar

import anyio
from anyio.abc import TaskGroup

from .errors import ConnectionClosed, ErrorCode, LocalProtocolError, RequestError
from .methods import Method
from .peer import Called, CancelAsked, Event, Notified, Peer, Refused, Replied, RequestId
from .tasks import task_group
from .transports import Oversize, Transport

__all__ = ["Connection", "Handlers", "Pending", "Transport"]

P = TypeVar("P")
R = TypeVar("R")
Handler = Callable[[Any], Awaitable[Any]]

log = logging.getLogger("acp")

UNSENT_TEXTS = 64
"""Texts that may be unsent before `call` and `notify` wait."""
RUNNING_REQUESTS = 256
"""Requests of the peer that may run at a time; more are refused."""
LAST_WORDS = 2.0
"""Seconds that the last texts get to leave when the connection is closed."""

_reading: ContextVar[bool] = ContextVar("acp_reading", default=False)


class Pending(Generic[R]):
    """An answer that is on its way."""

    def __init__(self, id: RequestId, abandon: Callable[[RequestId], None]) -> None:
        self.id = id
        self._abandon = abandon
        self._event = anyio.Event()
        self._outcome: Any = None

    def settle(self, outcome: Any) -> None:
        """The answer is here: a result, or the error to raise."""
        self._outcome = outcome
        self._event.set()

    async def answer(self) -> R:
        """Wait for it. Raises RequestError, ConnectionClosed. Cancelled, it tells the peer so."""
        try:
            await self._event.wait()
        except anyio.get_cancelled_exc_class():
            self._abandon(self.id)
            raise
        if isinstance(self._outcome, RequestError | ConnectionClosed):
            raise self._outcome
        return self._outcome


class Handlers:
    """What we do when the peer calls."""

    def __init__(self) -> None:
        self.by_name: dict[str, tuple[Method[Any, Any], Handler]] = {}

    def on(self, method: Method[P, R], handler: Callable[[P], Awaitable[R]]) -> Self:
        """Handle `method` with `handler`; gives back the handlers, so that calls chain."""
        self.by_name[method.name] = (method, handler)
        return self

    def methods(self) -> Iterable[Method[Any, Any]]:
        return [method for method, _ in self.by_name.values()]


class Connection:
    """A conversation with one peer: `async with Connection(transport, handlers) as connection`.

    `calls` are the methods that we may call; None leaves every method of a version open (`open` narrows nothing).
    The connection owns the transport and closes it.
    """

    def __init__(
        self,
        transport: Transport,
        handlers: Handlers | None = None,
        *,
        name: str = "peer",
        calls: Iterable[Method[Any, Any]] | None = None,
        batch: bool = False,
    ) -> None:
        self.name = name
        self.reason: str | None = None
        self._transport = transport
        self._peer = Peer(batch=batch)
        self._handlers: dict[str, Handler] = {}
        self._any_call = calls is None
        self._waiters: dict[RequestId, Pending[Any]] = {}
        self._scopes: dict[RequestId, anyio.CancelScope] = {}
        self._wake = anyio.Event()
        self._sent = anyio.Event()
        self._ended = anyio.Event()
        self._exits = AsyncExitStack()
        self._group: TaskGroup | None = None
        self.open(handlers or Handlers(), calls or ())

    def __repr__(self) -> str:
        state = f"closed: {self.reason}" if self.closed else "open"
        peer = self._peer
        return f"<Connection {self.name} [{state}, {peer.asked} asked, {peer.running} running, {peer.pending} unsent]>"

    def open(self, handlers: Handlers, calls: Iterable[Method[Any, Any]] = ()) -> None:
        """Handle these methods too, and let us call those."""
        self._handlers.update({name: handler for name, (_, handler) in handlers.by_name.items()})
        self._peer.open(handlers.methods(), calls)

    # Life ------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._group = await self._exits.enter_async_context(task_group())
        self._group.start_soon(self._read, name=f"{self.name} reader")
        self._group.start_soon(self._write, name=f"{self.name} writer")
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()
        await self._exits.aclose()

    @property
    def closed(self) -> bool:
        return self._ended.is_set()

    async def wait_closed(self) -> None:
        """Wait until either side, or a failure, has ended the conversation."""
        await self._ended.wait()

    async def aclose(self, reason: str = "closed by us") -> None:
        """End the conversation: what was said is sent, our calls fail with ConnectionClosed, handlers are cancelled."""
        if not self.closed:
            with anyio.move_on_after(LAST_WORDS, shield=True):
                while self._peer.pending and not self.closed:
                    await self._next_sent()
            self._end(reason)
        with anyio.move_on_after(LAST_WORDS * 5, shield=True):
            await self._transport.aclose()
        if self._group is not None:
            self._group.cancel_scope.cancel()

    def _end(self, reason: str) -> None:
        if self.closed:
            return
        self.reason = reason
        self._ended.set()
        self._wake.set()
        self._sent.set()
        for waiter in self._waiters.values():
            waiter.settle(ConnectionClosed(reason))
        self._waiters.clear()
        for scope in self._scopes.values():
            scope.cancel()

    # What we say -----------------------------------------------------------------------------------------

    async def ask(self, method: Method[P, R], params: P) -> Pending[R]:
        """Ask the peer; give back the answer to wait for. What is said after this is said behind the question.

        Raises ConnectionClosed, and LocalProtocolError when we may not ask.
        """
        if _reading.get():
            raise LocalProtocolError(f"{method.name} would wait for ever: a notification handler holds the reader")
        await self._room(method)
        id = self._peer.call(method, params)
        self._wake.set()
        pending = Pending[R](id, self._abandon)
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
            self._wake.set()

    async def notify(self, method: Method[P, None], params: P) -> None:
        """Tell the peer. Raises ConnectionClosed, LocalProtocolError."""
        await self._room(method)
        self._peer.notify(method, params)
        self._wake.set()

    async def _room(self, method: Method[Any, Any]) -> None:
        """Wait until few enough texts are unsent."""
        if self._any_call:
            self._peer.open((), (method,))
        while self._peer.pending > UNSENT_TEXTS and not self.closed:
            await self._next_sent()
        if self.closed:
            raise ConnectionClosed(self.reason or "closed")

    async def _next_sent(self) -> None:
        if self._sent.is_set():
            self._sent = anyio.Event()
        await self._sent.wait()

    # The tasks -------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        try:
            while not self.closed:
                await self._wake.wait()
                self._wake = anyio.Event()
                for text in self._peer.texts_to_send():
                    await self._transport.send(text)
                self._sent.set()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as error:
            with anyio.move_on_after(1):  # a peer that ended is about to be read to its end, and that says more
                await self._ended.wait()
            self._end(self._why("the peer no longer reads", error))

    async def _read(self) -> None:
        why = "the peer closed the connection"
        error: Exception | None = None
        try:
            while True:
                text = await self._transport.receive()
                if isinstance(text, Oversize):
                    self._handle(self._peer.refuse_text(str(text)))
                    continue
                for event in self._peer.receive(text):
                    if isinstance(event, Notified):
                        await self._tell(event)
                    else:
                        self._handle(event)
        except anyio.EndOfStream:
            pass
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError) as failure:
            why, error = "the connection broke", failure
        self._end(self._why(why, error))

    def _why(self, what: str, error: Exception | None) -> str:
        detail = f": {error}" if error and str(error) else ""
        words = self._transport.epitaph()
        return f"{what}{detail}" + (f"; {words}" if words else "")

    def _handle(self, event: Event) -> None:
        """Act on an event without waiting."""
        match event:
            case Called():
                self._start(event)
            case Replied(id, outcome):
                waiter = self._waiters.pop(id, None)
                if waiter is not None:
                    waiter.settle(outcome)
            case CancelAsked(id):
                if id in self._scopes:
                    self._scopes[id].cancel()
            case Refused(error, id):
                log.info("%s: refused%s: %s", self.name, f" {id!r}" if id is not None else "", error)
                self._wake.set()
            case Notified():
                raise AssertionError("notifications are handled where they are read")

    def _start(self, event: Called) -> None:
        assert self._group is not None
        if len(self._scopes) >= RUNNING_REQUESTS:
            error = RequestError(ErrorCode.INTERNAL_ERROR, f"More than {RUNNING_REQUESTS} requests at a time")
            self._peer.fail(event.id, error)
            self._wake.set()
            return
        scope = self._scopes[event.id] = anyio.CancelScope()
        self._group.start_soon(self._answer, event, scope, name=f"{self.name} {event.method.name}")

    async def _answer(self, event: Called, scope: anyio.CancelScope) -> None:
        """Run the handler of a request and answer it, whatever happens."""
        outcome: Any = RequestError.cancelled()
        try:
            with scope:
                try:
                    outcome = await self._handlers[event.method.name](event.params)
                except Exception as error:
                    outcome = self._failure(event.method, error)
        finally:
            self._scopes.pop(event.id, None)
            if not self.closed:
                self._settle(event, outcome)

    def _settle(self, event: Called, outcome: Any) -> None:
        try:
            if isinstance(outcome, RequestError):
                self._peer.fail(event.id, outcome)
            else:
                self._peer.reply(event.id, outcome)
        except LocalProtocolError as error:  # the result is no JSON
            log.error("%s: the answer to %s cannot be sent: %s", self.name, event.method.name, error)
            self._peer.fail(event.id, RequestError(ErrorCode.INTERNAL_ERROR, "Internal error"))
        self._wake.set()

    async def _tell(self, event: Notified) -> None:
        """Run the handler of a notification, here and now."""
        token = _reading.set(True)
        try:
            await self._handlers[event.method.name](event.params)
        except Exception as error:
            self._failure(event.method, error)
        finally:
            _reading.reset(token)

    def _failure(self, method: Method[Any, Any], error: Exception) -> RequestError:
        """The error that the peer sees of an exception. The only place where one becomes the other."""
        if isinstance(error, RequestError):
            return error
        reference = uuid.uuid4().hex[:12]
        log.error("%s: %s failed, reference %s", self.name, method.name, reference, exc_info=error)
        return RequestError(ErrorCode.INTERNAL_ERROR, "Internal error", {"reference": reference})
