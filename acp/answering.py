"""Runs the handlers of the peer's requests, each in a task and a cancel scope of its own, and answers."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, cast

import anyio

from .errors import ConnectionClosed, ErrorCode, LocalProtocolError, RequestError
from .handlers import Handler
from .methods import Method
from .peer import Called, Peer, RequestId
from .tasks import Bell, Start

Afterwards = Callable[[], Awaitable[None]]

log = logging.getLogger("acp")

RUNNING_REQUESTS = 256
"""Requests of the peer that may run at a time; more are refused."""

_NOTHING = object()
"""What a handler returned that was cancelled."""

holds_reader: ContextVar[int | None] = ContextVar("acp_holds_reader", default=None)
"""The task that reads a connection, in a handler that it waits for. A request's handler is none of those."""
_afterwards: ContextVar[deque[Afterwards] | None] = ContextVar("acp_afterwards", default=None)


class Answering:
    """The requests that the peer waits for. `answered` is called whenever the peer has something to send."""

    def __init__(self, name: str, peer: Peer, answered: Callable[[], None]) -> None:
        self.name = name
        self.handlers: dict[str, Handler] = {}
        self._peer = peer
        self._answered = answered
        self._scopes: dict[RequestId, anyio.CancelScope] = {}
        self._afterwards: set[anyio.CancelScope] = set()
        self._fewer = Bell()
        self._ended = False

    def start(self, event: Called, start: Start) -> None:
        """Run the handler of a request, or refuse it when there are too many."""
        if len(self._scopes) >= RUNNING_REQUESTS:
            error = RequestError(ErrorCode.INTERNAL_ERROR, f"More than {RUNNING_REQUESTS} requests at a time")
            self._peer.fail(event.id, error)
            self._answered()
            return
        self._scopes[event.id] = anyio.CancelScope()
        start(self._serve, event)

    def cancel(self, id: RequestId) -> None:
        """The peer asked for it. The handler may still give a result; if it does not, the answer is -32800."""
        if id in self._scopes:
            self._scopes[id].cancel()

    @property
    def running(self) -> bool:
        """Whether a request runs, or what was to come after its answer."""
        return bool(self._scopes or self._afterwards)

    async def finished(self) -> None:
        """Wait until no request is running."""
        while self.running:
            await self._fewer.wait()

    def end(self) -> None:
        """Cancel every handler; nothing is answered any more."""
        self._ended = True
        for scope in (*self._scopes.values(), *self._afterwards):
            scope.cancel()

    async def _serve(self, event: Called) -> None:
        """Answer a request, and then do what was to come after."""
        holds_reader.set(None)
        callbacks: deque[Afterwards] = deque()
        _afterwards.set(callbacks)
        try:
            if await self._answer(event) and callbacks:
                await self._run_after(event.method, callbacks)
        finally:
            self._fewer.ring()

    async def _answer(self, event: Called) -> bool:
        """Run the handler of a request and answer it, whatever happens. True if the answer is a result."""
        outcome: Any = _NOTHING
        try:
            with self._scopes[event.id] as scope:
                try:
                    if not self._ended:
                        outcome = await self.handlers[event.method.name](event.params)
                except Exception as error:
                    failure = self.failure(event.method, error)
                    # Cleaning up may fail when a request is cancelled; it was cancelled all the same.
                    outcome = _NOTHING if scope.cancel_called else failure
                if outcome is not _NOTHING:  # the peer need not wait until the scope is left
                    outcome = self._settle(event, outcome)
        finally:
            if event.id in self._scopes:
                outcome = self._settle(event, RequestError.cancelled())
        return not self._ended and not isinstance(outcome, RequestError)

    def _settle(self, event: Called, outcome: Any) -> Any:
        """The request is over: queue the answer, if it is still wanted; give back what it is."""
        del self._scopes[event.id]
        if self._ended:
            return outcome
        try:
            if isinstance(outcome, RequestError):
                self._peer.fail(event.id, outcome)
            else:
                self._peer.reply(event.id, outcome)
        except Exception as error:  # no result of the method, or no JSON
            outcome = self.failure(event.method, error)
            self._peer.fail(event.id, outcome)
        self._answered()
        return outcome

    async def _run_after(self, method: Method[Any, Any], callbacks: deque[Afterwards]) -> None:
        """In a scope of its own: the peer, which has its answer, cannot cancel this."""
        with anyio.CancelScope() as scope:
            self._afterwards.add(scope)
            try:
                while callbacks:
                    await callbacks.popleft()()
            except Exception as error:
                self.failure(method, error)
            finally:
                self._afterwards.discard(scope)

    def failure(self, method: Method[Any, Any], error: Exception) -> RequestError:
        """The error that the peer sees of an exception. The only place where one becomes the other."""
        error = _bare(error)
        if isinstance(error, RequestError):
            log.debug("%s: %s refused: %s", self.name, method.name, error)
            return error
        if self._ended and isinstance(error, ConnectionClosed):
            return RequestError(ErrorCode.INTERNAL_ERROR, "Connection closed")  # which nobody will read
        reference = uuid.uuid4().hex[:12]
        log.error("%s: %s failed, reference %s", self.name, method.name, reference, exc_info=error)
        return RequestError(ErrorCode.INTERNAL_ERROR, "Internal error", {"reference": reference})


def after_reply(callback: Afterwards) -> None:
    """`Connection.after_reply`."""
    callbacks = _afterwards.get()
    if callbacks is None:
        raise LocalProtocolError("there is no reply to come after: this is not a request's handler")
    callbacks.append(callback)


def _bare(error: Exception) -> Exception:
    """What a handler's own task group wrapped, if it is one exception."""
    bare: BaseException = error
    while isinstance(bare, BaseExceptionGroup):
        inside = cast("tuple[BaseException, ...]", bare.exceptions)  # pyright: ignore[reportUnknownMemberType]
        if len(inside) != 1:
            break
        bare = inside[0]
    return cast("Exception", bare)
