"""A session's log in a database, as the session holds it: the writer's thread does the work."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import anyio
import anyio.lowlevel

from .store import Card, Entry
from .tables import Unreachable
from .writer import OUTAGE, Hold, Writer


class DatabaseLog:
    """A `Log` in a database."""

    def __init__(self, writer: Writer, held: Hold) -> None:
        self._writer = writer
        self._held = held

    def append(self, *entries: Entry) -> None:
        if entries:
            self._writer.append(self._held, entries)

    async def kept(self) -> None:
        done, errors, soon = anyio.Event(), list[Exception](), soon_here()

        def settled(error: Exception | None) -> None:
            errors.extend([error] if error else [])
            soon(done.set)

        if self._writer.settle(self._held, settled):
            await done.wait()
        if errors:
            raise errors[0]

    def sync(self, card: Card) -> None:
        done, errors = threading.Event(), list[Exception]()

        def settled(error: Exception | None) -> None:
            errors.extend([error] if error else [])
            done.set()

        if self._writer.settle(self._held, settled, card=card) and not done.wait(OUTAGE):
            raise Unreachable(f"session {self._held.id} is not saved yet: the database does not answer")
        if errors:
            raise errors[0]

    def watch(self, taken: Callable[[], None], wanted: Callable[[bool], None]) -> None:
        soon = soon_here()
        self._held.on_wanted = lambda at_once: soon(lambda: wanted(at_once))
        self._held.on_taken = lambda: soon(taken)
        if self._held.taken:
            taken()

    def close(self) -> None:
        self._writer.close(self._held)


def soon_here() -> Callable[[Callable[[], None]], None]:
    """What has the running event loop call something soon, from any thread; after its end, nothing."""
    loop: Any = anyio.lowlevel.current_token().native_token
    call = loop.run_sync_soon if hasattr(loop, "run_sync_soon") else loop.call_soon_threadsafe  # trio's; asyncio's
    context = contextvars.copy_context()  # in which anyio knows what runs

    def soon(work: Callable[[], None]) -> None:
        with suppress(RuntimeError):
            call(lambda: context.run(work))

    return soon
