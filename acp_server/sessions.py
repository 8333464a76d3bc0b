"""The sessions of one connection: made, opened, listed, closed, and forgotten."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import random
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from acp.errors import ErrorCode, RequestError
from acp.updates import Json, SessionInfo

from .mcp.carrier import Carrier
from .mcp.offer import Offer
from .mcp.servers import Servers
from .options import Options
from .prompt import Instructions
from .session import Kept, Session, title_of
from .shelter import Line
from .storage.history import copied, fate_of, last_words, updates_of
from .storage.store import Card, Query, SessionBusy, SessionUnknown
from .teller import Client

if TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger(__name__)

MAX_SESSIONS = 1000
"""Sessions one connection may have open at a time."""
PAGE = 50
"""Sessions on one page of a list."""
AGAIN, SELDOM = 0.1, 1.0
"""Seconds between the first two attempts to get a session that another process holds, and the most between any two."""
HANDOVER = 3.0
"""Seconds that another process gets to close a session."""
RETRY_AFTER = 1.0
"""Seconds after which a client may try again to get a session that another process holds."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session is to work, as a request says it, and what is offered and told to it there."""

    cwd: str
    directories: Sequence[str] = ()
    servers: Sequence[Offer] = ()
    instructions: Instructions | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list; `cursor` is where the next one begins, None at the end."""

    cards: Sequence[Card]
    cursor: str | None = None


class Sessions:
    """What one client has open, and the doors to what the agent keeps.

    `client_of` gives a session its client; `carrier` reaches the MCP servers that the client itself provides.
    """

    def __init__(
        self, agent: Agent, group: TaskGroup, client_of: Callable[[str], Client], carrier: Carrier | None = None
    ) -> None:
        self._agent = agent
        self._group = group
        self._client_of = client_of
        self._carrier = carrier
        self._open: dict[str, Session] = {}
        self._lines: dict[str, Line] = {}

    def find(self, id: str) -> Session | None:
        return self._open.get(id)

    def get(self, id: str) -> Session:
        """An open session, or `RequestError` -32002 that names it."""
        if (session := self._open.get(id)) is None:
            raise RequestError.session_not_found(id)
        return session

    # Open ------------------------------------------------------------------------------------------

    async def create(self, place: Place) -> Session:
        """A new session. Raises RequestError -32602 for a directory that cannot be one."""
        card = Card(uuid.uuid4().hex, *_directories(place.cwd, place.directories)).touched()
        return await self._hold(lambda: Kept(card, self._agent.store.create(card)), place)

    async def open(self, id: str, place: Place, *, replay: bool = False) -> Session:
        """A session that was kept, in the directories and with the MCP servers that the client names now.

        Raises RequestError.

        With `replay` its whole history is sent. One that waits for its client stays in the directories it has.
        """
        where, others = _directories(place.cwd, place.directories)
        session = self._open.get(id)
        if session is not None and session.taken:
            await self.close(id)
            session = None
        if session is None and (found := self._claimed(id)) is not None:
            # Ours from here on, whatever becomes of this request: a client that is lost once more leaves it waiting.
            session, line = self._open[id], self._lines[id] = found
            async with session.telling:  # what it says from here on comes behind its history
                line.connect(self._client_of(id))
                if replay:
                    await self._tell_history(session)
            self._serve(session, place)
            return session
        if session is None:
            session = await self._open_kept(id, where, others, place)
        else:
            self._serve(session, place)
        if replay:
            async with session.telling:
                await self._tell_history(session)
        return session

    def line(self, id: str) -> Line | None:
        """The line to the client of an open session, where sessions outlive their connection."""
        return self._lines.get(id)

    def _claimed(self, id: str) -> tuple[Session, Line] | None:
        shelter = self._agent.shelter
        return None if shelter is None else shelter.claim(self._agent.principal, id)

    async def _open_kept(self, id: str, where: str, others: tuple[str, ...], place: Place) -> Session:
        listed: list[Card] = []

        def hold() -> Kept:
            card, entries, held = self._agent.store.open(id)
            listed.append(card)
            words = last_words(entries)
            with suppress(OSError):  # which will be tried again, and told
                held.append(*words)
            return Kept(replace(card, cwd=where, directories=others, archived=False), held, [*entries, *words])

        session = await self._hold(hold, place)
        if session.card not in listed:
            await session.save()  # or lists would show it where it was, until its next turn
        return session

    async def fork(self, id: str, place: Place) -> Session:
        """A new session with the history that another has so far."""
        where, others = _directories(place.cwd, place.directories)

        def hold() -> Kept:
            card, entries = self._agent.store.read(id)
            copy = replace(card, id=uuid.uuid4().hex, cwd=where, directories=others, archived=False).touched()
            history = copied(entries)
            return Kept(copy, self._agent.store.create(copy, history), history)

        return await self._hold(hold, place)

    async def _hold(self, hold: Callable[[], Kept], place: Place) -> Session:
        if len(self._open) >= MAX_SESSIONS:
            raise RequestError(ErrorCode.INTERNAL_ERROR, f"This connection already has {MAX_SESSIONS} sessions.")
        kept = await self._in_thread(hold)
        settings = self._agent.settings
        options = Options(self._agent.models, next(iter(self._agent.models)), settings.policy)
        client = self._client_of(kept.card.id)
        if self._agent.shelter is not None:
            line = self._lines[kept.card.id] = Line(client, fate_of(kept.entries))
            client = line.client()
        try:
            offered = Servers(place.servers, kept.card.cwd, self._carrier)
            session = Session(kept, options, settings, client, self._group, offered)
        except OSError as error:
            self._lines.pop(kept.card.id, None)
            await self._in_thread(kept.log.close)
            raise RequestError.invalid_params(f"The workspace cannot be opened: {error}") from error
        session.instruct(place.instructions)
        self._open[session.id] = session
        log.info("session %s in %s", session.id, session.cwd)
        return session

    def _serve(self, session: Session, place: Place) -> None:
        """Give a session that is open already what this request says."""
        session.serve_with(Servers(place.servers, session.card.cwd, self._carrier))
        session.instruct(place.instructions)

    async def _tell_history(self, session: Session) -> None:
        """Send the whole history, as it was first sent."""
        await session.flush()
        _, entries = await self._in_thread(lambda: self._agent.store.read(session.id))
        for update in updates_of(entries, running=session.running, terminals=session.terminals()):
            await session.show(update)
        if session.card.title:
            await session.show(SessionInfo(session.card.title, session.card.updated_at))

    # Close -----------------------------------------------------------------------------------------

    async def close(self, id: str) -> None:
        """Cancel what the session does and let go of it; its history stays. An unknown one is closed already.

        So is one that waits for its client in another process, if that does it in time.
        What was begun is finished, though the client may take the request back: a session is never half closed.
        """
        session = self._open.get(id)
        if session is None and (found := self._claimed(id)) is not None:
            session, _ = found
        if session is not None:
            with anyio.CancelScope(shield=True):
                await session.close()
            self._open.pop(id, None)
            self._lines.pop(id, None)
            return
        with anyio.move_on_after(HANDOVER):
            while await self._in_thread(lambda: self._agent.store.want(id, at_once=True)):  # noqa: ASYNC110, it is far
                await anyio.sleep(AGAIN)

    async def delete(self, id: str) -> None:
        """Close the session and forget it; an unknown one is forgotten already."""
        await self.close(id)
        await self._in_thread(lambda: self._agent.store.delete(id))

    async def wait_idle(self) -> None:
        """Wait until no session takes a turn."""
        while running := [session for session in self._open.values() if session.running]:
            await running[0].wait_idle()

    async def aclose(self, *, lost: bool = False) -> None:
        """Close every session, at once: the client is gone. One that was lost may come back, and they wait for it."""
        if lost and self._agent.shelter is not None:
            for id, session in self._open.items():
                self._agent.shelter.park(self._agent.principal, session, self._lines[id])
            self._open.clear()
            self._lines.clear()
            return
        async with anyio.create_task_group() as group:
            for id in list(self._open):
                group.start_soon(self.close, id)

    # The list --------------------------------------------------------------------------------------

    async def page(self, cwd: str | None = None, cursor: str | None = None, archived: str | None = None) -> Page:
        """A part of the list, the last changed first. Raises RequestError -32602 for a cursor that is none of ours."""
        after = None if cursor is None else _position(cursor)
        query = Query(cwd=cwd, archived=_filter(archived), after=after, most=PAGE + 1)
        cards = await self._in_thread(lambda: self._agent.store.cards(query))
        if len(cards) <= PAGE:
            return Page(cards)
        return Page(cards[:PAGE], _cursor(cards[PAGE - 1]))

    async def card(self, id: str) -> Card:
        """What is known of a session, open or not. Raises RequestError -32002."""
        if (session := self._open.get(id)) is not None:
            return session.card
        return await self._in_thread(lambda: self._agent.store.card(id))

    async def archive(self, id: str, archived: bool) -> None:
        """Hide the session from the list, closing it first, or show it again."""
        if archived:
            await self.close(id)
        if (session := self._open.get(id)) is not None:
            await session.save()  # opening it has shown it again
            return
        card = await self.card(id)
        await self._in_thread(lambda: self._agent.store.set_card(replace(card, archived=archived)))

    async def set_title(self, id: str, title: str) -> str:
        """Call a session so, and by no other name that is not the user's; what it is called now, on one line.

        Raises RequestError -32602 where nothing is left of the title.
        """
        title = title_of(title)
        if not title:
            raise RequestError.invalid_params("A title has some text.", {"pointer": "/title"})
        if (session := self._open.get(id)) is not None:
            await session.set_title(title)
            return title
        card = replace(await self.card(id), title=title, titled_by_user=True)
        await self._in_thread(lambda: self._agent.store.set_card(card))
        return title

    async def _in_thread(self, work: Callable[[], T]) -> T:
        """Work that may take the time of a disk, and the errors that a client is to see of it.

        A session that another process holds is waited for as long as there is hope: that it is let go of, for that
        process has no client for it, or that it is free, for that process is dead.
        """
        began, pause = anyio.current_time(), AGAIN
        while True:
            try:
                return await anyio.to_thread.run_sync(work)
            except SessionUnknown as unknown:
                raise RequestError.session_not_found(str(unknown.args[0])) from unknown
            except SessionBusy as busy:
                if anyio.current_time() - began >= busy.patience:
                    raise _busy(busy) from busy
            except OSError as error:
                log.error("the store of sessions failed: %s", error)
                raise RequestError(ErrorCode.INTERNAL_ERROR, "Sessions cannot be reached now.") from error
            await anyio.sleep(random.uniform(pause / 2, pause))  # there may be many who wait for a process that died
            pause = min(2 * pause, SELDOM)


def working_directory(text: str, name: str = "cwd") -> Path:
    """A directory that the client named.

    Raises `RequestError` -32602 in words that say what is wrong with it.
    """
    path = Path(text)
    if "\0" in text or not path.is_absolute():
        raise RequestError.invalid_params(f"{name} must be an absolute path, not {text!r}.", {name: text})
    try:
        real = path.resolve(strict=True)
    except (OSError, RuntimeError):
        raise RequestError.invalid_params(f"{name} does not exist: {text}", {name: text}) from None
    if not real.is_dir():
        raise RequestError.invalid_params(f"{name} is not a directory: {text}", {name: text})
    if real == Path(real.anchor):
        raise RequestError.invalid_params(f"{name} may not be the root of the file system.", {name: text})
    return path


def _directories(cwd: str, directories: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    others = tuple(str(working_directory(path, "additionalDirectories")) for path in directories)
    return str(working_directory(cwd)), others


def _filter(archived: str | None) -> bool | None:
    """Archived sessions are hidden unless the client asks for them (`include`) or for nothing else (`only`)."""
    match archived:
        case None | "exclude":
            return False
        case "include":
            return None
        case "only":
            return True
        case _:
            raise RequestError.invalid_params(f"There is no filter {archived!r}.", {"archived": archived})


def _cursor(card: Card) -> str:
    return base64.urlsafe_b64encode(json.dumps([card.updated_at, card.id]).encode()).decode()


def _position(cursor: str) -> tuple[str, str]:
    try:
        match json.loads(base64.urlsafe_b64decode(cursor.encode())):
            case [str(when), str(id)]:
                return when, id
            case _:
                pass
    except (ValueError, binascii.Error):
        pass
    raise RequestError.invalid_params("The cursor is none of this agent's.", {"cursor": cursor[:200]})


def _busy(busy: SessionBusy) -> RequestError:
    again: dict[str, Json] = {"retryAfter": RETRY_AFTER} if busy.patience else {}
    where = "in use at another server; try again" if busy.patience else "open elsewhere"
    return RequestError(ErrorCode.INVALID_REQUEST, f"The session is {where}.", {"sessionId": busy.id, **again})
