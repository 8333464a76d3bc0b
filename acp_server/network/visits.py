"""The connections that talk: hosted, known by their ids, and asked to leave when the server does."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from acp.tasks import Bell
from acp.transports.remote import RemoteTransport

from .gate import Refusal, Visitor

log = logging.getLogger(__name__)

REPLACING = 5.0
"""Seconds that a connection gets to end whose client came back on another one."""
GOING_AWAY = (1001, "the server is shutting down")


class ServedTransport(RemoteTransport, Protocol):
    """A transport as the server has it.

    `texts` counts what came, `farewell` is the code and the reason of the end that we say, and `abort` says none.
    """

    farewell: tuple[int, str]

    @property
    def texts(self) -> int: ...

    async def abort(self, why: str) -> None: ...


Talk = Callable[[ServedTransport, Visitor, anyio.Event], Awaitable[None]]
"""Talks to a client until it goes away. When the event is set it should finish what runs, and leave."""


@dataclass(frozen=True, slots=True)
class _Visit:
    transport: ServedTransport
    principal: str
    gone: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Visits:
    """Hosts connections, each with `talk`. `leaving` is set when the server shuts down.

    A connection on which nothing is said for `opening` seconds is closed; heartbeats are no words.
    """

    def __init__(self, talk: Talk, opening: float) -> None:
        self.leaving = anyio.Event()
        self._talk, self._opening = talk, opening
        self._here: dict[str, _Visit] = {}
        self._busy = 0
        self._fewer = Bell()

    async def host(self, transport: ServedTransport, visitor: Visitor, id: str) -> None:
        """Talk to one client until it goes away."""
        who = f"{visitor.principal or 'somebody'} at {visitor.address}"
        log.info("connection %s of %s", id[:8], who)
        self._here[id] = here = _Visit(transport, visitor.principal)
        try:
            with self.busy(), here.scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._expect_words, transport)
                    await self._talk(transport, visitor, self.leaving)
                    group.cancel_scope.cancel()
        finally:
            del self._here[id]
            here.gone.set()
            log.info("connection %s of %s is over: %s", id[:8], who, transport.epitaph() or "we closed it")

    @property
    def refusal(self) -> Refusal | None:
        """Why nobody may begin to talk any more, once the server shuts down."""
        return Refusal(503, "the server is shutting down") if self.leaving.is_set() else None

    async def replace(self, id: str, visitor: Visitor) -> None:
        """Cut the connection that another takes the place of: its client has lost it, and we do not know that yet."""
        old = self._here.get(id)
        if old is not None and old.principal == visitor.principal:
            await old.transport.abort("the client came back on another connection")
            with anyio.move_on_after(REPLACING):
                await old.gone.wait()

    @contextmanager
    def busy(self) -> Generator[None]:
        """While the block lasts, the server does not go."""
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._fewer.ring()

    def leave(self) -> None:
        """Ask everybody to finish and go, and let nobody in any more."""
        for one in self._here.values():
            one.transport.farewell = GOING_AWAY
        self.leaving.set()

    def cut(self) -> None:
        """Have everybody leave now, whatever runs; each is told the farewell."""
        for one in self._here.values():
            one.scope.cancel()

    async def wait_gone(self) -> None:
        """Wait until nobody is there."""
        while self._busy:
            await self._fewer.wait()

    async def _expect_words(self, transport: ServedTransport) -> None:
        await anyio.sleep(self._opening)
        if not transport.texts:
            transport.farewell = (1008, "no message came")
            await transport.aclose()
