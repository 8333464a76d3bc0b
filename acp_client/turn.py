"""One prompt and all that follows, to its end.

`async with session.prompt("…") as turn` takes a turn; iterating `turn` gives its updates in the order of the wire.
Leaving the block before the turn has ended cancels it and waits for its end, a bounded time.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Self

import anyio
from anyio.abc import TaskGroup

from acp.errors import AcpError, ConnectionClosed, ErrorCode, RequestError
from acp.updates import Block, Json, MessageChunk, TextBlock, Update

from .inbox import Inbox
from .surface import Ending, PendingTurn, Usage

if TYPE_CHECKING:
    from .session import Session

log = logging.getLogger("acp")

LEAVE = 10.0
"""Seconds that a cancelled turn gets to end when its block is left."""


class Turn:
    """One prompt and all that follows, to its end.

    An async context manager and an async iterator of updates. Iterating raises what ended the turn if it was an
    error: RequestError from the agent, ConnectionClosed when the agent is gone. `stop_reason`, `usage` and `meta`
    are there once it has ended.
    """

    def __init__(self, session: Session, blocks: Sequence[Block], group: TaskGroup) -> None:
        self.session = session
        self.inbox = Inbox(f"session {session.id}")
        self.name = uuid.uuid4().hex if session.supervisor is not None else None
        self.blocks = blocks
        self._group = group
        self._ending: Ending | None = None
        self._error: AcpError | None = ConnectionClosed("the client was closed")
        self._raised = False
        self._ended = anyio.Event()
        self._scope = anyio.CancelScope()
        self._cancelled_at: float | None = None

    async def __aenter__(self) -> Self:
        self.session.begin(self)
        try:
            pending = await self.session.surface.prompt(self.session.id, self.blocks, self.name)
        except BaseException:
            self.session.end(self)
            raise
        self._group.start_soon(self._run, pending, name=f"turn of {self.session.id}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        ended_before = self._ended.is_set()
        await self.leave()
        if error is None and ended_before and self._error is not None and not self._raised:
            raise self._error

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Update:
        try:
            return await self.inbox.take()
        except anyio.EndOfStream:
            if self._error is not None and self._ended.is_set():
                self._raised = True
                raise self._error from None
            raise StopAsyncIteration from None

    async def text(self) -> str:
        """Read the turn to its end and give back what the agent said, thoughts left out."""
        words: list[str] = []
        async for update in self:
            match update:
                case MessageChunk("agent", TextBlock(text)):
                    words.append(text)
                case _:
                    pass
        return "".join(words)

    # How it ended ----------------------------------------------------------------------------------

    @property
    def stop_reason(self) -> str | None:
        """Why the turn ended; None while it has not, and when an error ended it."""
        return self._ending.stop_reason if self._ending else None

    @property
    def usage(self) -> Usage | None:
        return self._ending.usage if self._ending else None

    @property
    def meta(self) -> Mapping[str, Json]:
        """The `_meta` of the turn's end."""
        return self._ending.meta if self._ending else {}

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    async def wait_ended(self) -> None:
        """Wait for the end of the turn without reading; a full inbox will hold it up."""
        await self._ended.wait()

    # Cancelling ------------------------------------------------------------------------------------

    @property
    def is_cancelled(self) -> bool:
        """Whether we asked the agent to end the turn."""
        return self._cancelled_at is not None

    async def cancel(self) -> None:
        """Ask the agent to end the turn; its last updates can still be read, and `stop_reason` will be cancelled."""
        if self._ended.is_set() or self.is_cancelled:
            return
        self._cancelled_at = anyio.current_time()
        try:
            await self.session.surface.cancel(self.session.id)
        except ConnectionClosed:
            pass
        finally:
            self.session.dismiss_questions()

    async def leave(self) -> None:
        """Stop reading; cancel the turn if it has not ended, and wait for its end, at most `LEAVE` after the cancel."""
        self.inbox.close()
        if self._ended.is_set():
            return
        began = self._cancelled_at if self._cancelled_at is not None else anyio.current_time()
        with anyio.CancelScope(shield=True, deadline=began + LEAVE):
            await self.cancel()
            await self._ended.wait()
        if not self._ended.is_set():
            log.warning("session %s: the agent did not end its cancelled turn", self.session.id)
            self._scope.cancel()

    async def _end_of(self, pending: PendingTurn) -> Ending:
        """The turn's end, on whichever connection it comes."""
        while True:
            try:
                return await pending.ended()
            except ConnectionClosed as error:
                if self.session.supervisor is None:
                    raise
                pending = await self.session.supervisor.turn_lost(self, error)

    async def _run(self, pending: PendingTurn) -> None:
        """Wait for the turn's end and keep what comes of it. Runs in the client's task group."""
        try:
            with self._scope:
                self._ending = await self._end_of(pending)
                self._error = None
        except AcpError as error:
            self._error = error
            if self.is_cancelled and isinstance(error, RequestError) and error.code == ErrorCode.REQUEST_CANCELLED:
                # In version 2 a prompt that is cancelled before its turn begins is refused so; some agents of
                # version 1 answer so too. It is what we asked for, and no error.
                self._ending, self._error = Ending("cancelled"), None
        finally:
            self.session.end(self)
            self._ended.set()
            self.inbox.finish()
