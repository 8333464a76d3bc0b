"""A session with an agent, and its turns.

A session's updates wait in its inbox, in the order they came; the answer that ends a turn waits there behind them, so
a turn is over only when all that belongs to it was seen. The inbox is bounded: while nobody reads it the connection
stands still, honestly, and the log says whose fault it is.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from acp.connection import Pending
from acp.errors import AcpError, LocalProtocolError
from acp.updates import Block, TextBlock, Update

if TYPE_CHECKING:
    from .client import Client

log = logging.getLogger("acp.client")

INBOX = 1024
"""Updates that may wait to be read."""
CANCEL_PATIENCE = 10.0
"""Seconds that an agent gets to end a turn which was cancelled."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a turn ended: the stop reason, and what the agent says of it in `_meta`."""

    stop_reason: str
    meta: Mapping[str, Any] = field(default_factory=dict[str, Any])


class Session:
    """One conversation with an agent. Made by `Client.new_session`."""

    def __init__(self, id: str, client: Client) -> None:
        self.id = id
        self._client = client
        self._send, self._receive = anyio.create_memory_object_stream[Update | Ended | AcpError](INBOX)
        self._asking: set[anyio.CancelScope] = set()
        self.running = False
        self.cancelled = False

    def __repr__(self) -> str:
        waiting = self._receive.statistics().current_buffer_used
        return f"<Session {self.id} [{'running' if self.running else 'idle'}, {waiting} waiting]>"

    @asynccontextmanager
    async def prompt(self, text: str, *, attachments: Sequence[Block] = ()) -> AsyncGenerator[Turn]:
        """Take a turn: `async with session.prompt("…") as turn: async for update in turn: …`.

        Leaving the block before the turn has ended cancels it and waits for its end, ten seconds at most. Raises
        LocalProtocolError while another turn runs.
        """
        if self.running:
            raise LocalProtocolError(f"session {self.id} is taking a turn already")
        self.running, self.cancelled = True, False
        turn = Turn(self)
        try:
            pending = await self._client.surface.prompt(self.id, [TextBlock(text), *attachments])
            self._client.start(self._take_turn, pending)
        except BaseException:
            self.running = False
            raise
        try:
            yield turn
        finally:
            if not turn.ended:
                with anyio.move_on_after(CANCEL_PATIENCE, shield=True):
                    await self.cancel()
                    await turn.drain()
            self.running = False

    async def cancel(self) -> None:
        """Ask the agent to end the turn. Open permission requests are answered `cancelled`."""
        if not self.running or self.cancelled:
            return
        self.cancelled = True
        for scope in self._asking:
            scope.cancel()
        await self._client.surface.cancel(self.id)

    async def _take_turn(self, pending: Pending[Any]) -> None:
        try:
            outcome: Ended | AcpError = self._client.surface.ended(await pending.answer())
        except AcpError as error:
            outcome = error
        await self._deliver(outcome)

    async def _deliver(self, item: Update | Ended | AcpError) -> None:
        """Put something into the inbox; wait while it is full."""
        try:
            self._send.send_nowait(item)
        except anyio.WouldBlock:
            with anyio.move_on_after(1) as scope:
                await self._send.send(item)
            if scope.cancelled_caught:
                log.warning("nobody reads the updates of session %s: its connection waits", self.id)
                await self._send.send(item)

    async def _next(self) -> Update | Ended | AcpError:
        return await self._receive.receive()

    def _waiting(self) -> list[Update]:
        """Updates that came outside of a turn."""
        found: list[Update] = []
        while True:
            try:
                item = self._receive.receive_nowait()
            except anyio.WouldBlock:
                return found
            if not isinstance(item, Ended | AcpError):
                found.append(item)

    def late_updates(self) -> list[Update]:
        """What came since the last turn ended. Raises LocalProtocolError during one."""
        if self.running:
            raise LocalProtocolError("the updates of a running turn are read from the turn")
        return self._waiting()

    def close(self) -> None:
        """Drop what is waiting, and whatever still comes."""
        self._client.forget(self.id)
        self._receive.close()
        self._send.close()


class Turn:
    """One prompt turn, as an asynchronous iterator of its updates. `stop_reason` and `meta` are set once it ended."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stop_reason: str | None = None
        self.meta: Mapping[str, Any] = {}
        self.ended = False

    def __aiter__(self) -> AsyncIterator[Update]:
        return self

    async def __anext__(self) -> Update:
        """The next update. Raises what ended the turn, if that was an error."""
        if self.ended:
            raise StopAsyncIteration
        item = await self.session._next()  # pyright: ignore[reportPrivateUsage]
        if isinstance(item, Ended):
            self.ended, self.stop_reason, self.meta = True, item.stop_reason, item.meta
            raise StopAsyncIteration
        if isinstance(item, AcpError):
            self.ended = True
            raise item
        return item

    async def drain(self) -> None:
        """Read to the end of the turn, whatever it is."""
        try:
            async for _ in self:
                pass
        except AcpError:
            log.debug("the cancelled turn ended with an error", exc_info=True)

    async def cancel(self) -> None:
        """Ask the agent to end the turn; go on reading, its last updates still come."""
        await self.session.cancel()
