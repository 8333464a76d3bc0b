"""Sessions whose client was lost and may come back: they wait here, and their turns go on.

A connection that breaks ends no turn. Its sessions keep what they do, and record it; a question to the user waits. For
the grace time whoever opens such a session again, the same principal on a new connection, gets it as it is: what it
did meanwhile is in its history, and what it does now goes to the new client. After that it is closed like any other:
its turn is cancelled, its history stays.

Where several processes share a store, the client may come back to another of them, which then asks for the session. It
is let go of when no turn runs in it; while one does, the client is told to try again, and either comes back to here or
gets the session when the turn has ended, all of it in its history. What is closed, archived or deleted there is let go
of at once.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeVar

import anyio
from anyio.abc import TaskGroup

from acp.connection import Connection
from acp.errors import ConnectionClosed, RequestError
from acp.updates import Json, ToolCall, TurnEnded, Update

from .permissions import Option
from .session import Session
from .teller import Client

log = logging.getLogger(__name__)

GRACE = 120.0
"""Seconds that a session waits for its client."""
MOST_SHELTERED = 100
"""Sessions that wait at a time. Of more, one is closed: the one that waits longest of those in which no turn runs."""
PROMPT_META = "acp-laguna/prompt"
"""Key of `_meta` of `session/prompt`: the client's own name for it, by which it will know it again."""
TURN_META = "acp-laguna/turn"
"""Key of `_meta` of the answers of `session/load` and `session/resume`: what became of the last prompt."""

R = TypeVar("R")


class Line:
    """What a session has of its client, who may be gone for a while. It is itself a `Client`, and an overlay.

    `fate` is what became of the session's last prompt, when the session was opened.
    """

    def __init__(self, client: Client, fate: Mapping[str, Json]) -> None:
        self._client: Client | None = client
        self._back = anyio.Event()
        self._fate = {**fate}
        self.moved = False
        """Whether the client that hears the end of this turn is another than the one that asked for it."""

    def client(self) -> Client:
        """The line as its session sees it."""
        has_overlay = self._client is not None and self._client.overlay is not None
        return Client(self.emit, self.ask, self.show, self if has_overlay else None, self.crowded)

    def connect(self, client: Client) -> None:
        self._client = client
        self.moved = True
        self._back.set()

    def cut(self) -> None:
        """The client is gone."""
        if self._client is not None:
            self._client = None
            self._back = anyio.Event()

    # The last prompt ---------------------------------------------------------------------------------

    def begin(self, prompt: Json) -> None:
        """A prompt became a turn."""
        self._fate, self.moved = {"prompt": prompt, "running": True}, False

    def finish(self, error: RequestError | None = None) -> None:
        how = {} if error is None else {"error": {"code": error.code, "message": error.message, "data": error.data}}
        self._fate |= {"running": False, **how}

    def fate(self) -> dict[str, Json]:
        """What became of the last prompt, as `TURN_META` says it."""
        return {**self._fate}

    # For the session ---------------------------------------------------------------------------------

    async def emit(self, update: Update) -> None:
        if isinstance(update, TurnEnded) and update.stop_reason is not None:
            self._fate |= {"running": False, "stopReason": update.stop_reason, **update.extra}
        await self._say(update, lambda client: client.emit)

    def crowded(self) -> bool:
        return self._client is not None and self._client.crowded()

    async def show(self, update: Update) -> None:
        await self._say(update, lambda client: client.show)

    async def _say(self, update: Update, how: Callable[[Client], Callable[[Update], Awaitable[None]]]) -> None:
        client = self._client
        if client is not None:
            try:
                await how(client)(update)
            except ConnectionClosed:
                self._lost(client)

    async def ask(self, call: ToolCall, options: Sequence[Option]) -> str | None:
        """Ask whoever is there; a question that was lost with its client is put to the next one."""
        while True:
            while (client := self._client) is None:
                await self._back.wait()
            try:
                return await client.ask(call, options)
            except ConnectionClosed:
                self._lost(client)

    async def read_text(self, path: str) -> str | None:
        overlay = None if self._client is None else self._client.overlay
        try:
            return None if overlay is None else await overlay.read_text(path)
        except ConnectionClosed:
            return None

    async def write_text(self, path: str, text: str) -> bool:
        overlay = None if self._client is None else self._client.overlay
        try:
            return overlay is not None and await overlay.write_text(path, text)
        except ConnectionClosed:
            return False

    def _lost(self, client: Client) -> None:
        if self._client is client:
            self.cut()


class Shelter:
    """Holds the sessions of one agent that wait for their clients. `group` outlives every connection."""

    def __init__(self, group: TaskGroup, grace: float = GRACE) -> None:
        self.group = group
        self._grace = grace
        self._waiting: OrderedDict[tuple[str, str], tuple[Session, Line, anyio.Event]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    def park(self, principal: str, session: Session, line: Line) -> None:
        """Keep a session whose client was lost."""
        line.cut()
        while len(self._waiting) >= MOST_SHELTERED:
            idle = (key for key, (one, _, _) in self._waiting.items() if not one.running)
            oldest, _, claimed = self._waiting.pop(next(idle, next(iter(self._waiting))))
            claimed.set()
            self.group.start_soon(oldest.close)
        claimed = anyio.Event()
        self._waiting[principal, session.id] = session, line, claimed
        session.on_wanted = lambda at_once: self._wanted(principal, session, at_once=at_once)
        self.group.start_soon(self._watch, principal, session, claimed)
        log.info("session %s waits for its client", session.id)

    def claim(self, principal: str, id: str) -> tuple[Session, Line] | None:
        """Give a session that waits to whoever it belongs to."""
        found = self._waiting.pop((principal, id), None)
        if found is None:
            return None
        session, line, claimed = found
        claimed.set()
        session.on_wanted = None
        if session.taken:
            self.group.start_soon(session.close)
            return None
        return session, line

    def _wanted(self, principal: str, session: Session, *, at_once: bool) -> None:
        """Let go of a session that another process wants, which asks again and again."""
        if (at_once or not session.running) and self.claim(principal, session.id) is not None:
            log.info("session %s goes to another process", session.id)
            self.group.start_soon(session.close)

    async def run(self, connection: Connection, line: Line, session: Session, work: Callable[[], Awaitable[R]]) -> R:
        """Run a turn that goes on when the connection is lost. The peer's `$/cancel_request` still cancels it."""
        results: list[R] = []
        errors: list[Exception] = []
        done = anyio.Event()

        async def turn() -> None:
            try:
                results.append(await work())
                line.finish()
            except Exception as error:
                errors.append(error)
                line.finish(error if isinstance(error, RequestError) else _opaque(error))
            finally:
                done.set()

        self.group.start_soon(turn)
        try:
            await done.wait()
        except anyio.get_cancelled_exc_class():
            if not connection.closed:
                session.cancel()
                with anyio.CancelScope(shield=True):
                    await done.wait()
            raise
        if errors:
            raise errors[0]
        return results[0]

    async def _watch(self, principal: str, session: Session, claimed: anyio.Event) -> None:
        with anyio.move_on_after(self._grace):
            await claimed.wait()
        if not claimed.is_set():
            self._waiting.pop((principal, session.id), None)
            log.info("session %s is closed: its client did not come back", session.id)
            await session.close()

    async def aclose(self) -> None:
        """Close every session that waits."""
        waiting = [*self._waiting.values()]
        self._waiting.clear()
        async with anyio.create_task_group() as group:
            for session, _, claimed in waiting:
                claimed.set()
                group.start_soon(session.close)


def _opaque(error: Exception) -> RequestError:
    log.error("a turn failed", exc_info=error)
    return RequestError(-32603, "Internal error")
