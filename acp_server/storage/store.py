"""Where sessions are kept: what a store promises.

A session is a `Card`, which lists show, and a log of entries, which only grows. One writer at a time holds a session's
log; whoever else opens it is told `SessionBusy`. Where several processes share a store, whoever holds a session can be
asked for it (`Store.want`), and loses it when it seems to be dead; from then on it can write no more (`SessionTaken`).
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from acp.updates import Json

Entry = Mapping[str, Json]
"""One line of a log; what it says only `history` knows."""

ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
"""What a session's id is made of; under any other, none is kept."""


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of a session without opening it. `updated_at` is RFC 3339, in UTC."""

    id: str
    cwd: str
    directories: tuple[str, ...] = ()
    title: str | None = None
    updated_at: str = ""
    archived: bool = False
    titled_by_user: bool = False
    owner: str | None = None
    """The principal that made it, where the agent serves several; see `owned_store`."""

    def touched(self) -> Card:
        return replace(self, updated_at=now())


@dataclass(frozen=True, slots=True)
class Query:
    """Which sessions a list shows. What is None is not asked for."""

    owner: str | None = None
    """A principal; the empty text is the nameless one."""
    cwd: str | None = None
    archived: bool | None = None
    after: tuple[str, str] | None = None
    """`updated_at` and id of the session behind which the list begins."""
    most: int | None = None

    def of(self, cards: Iterable[Card]) -> list[Card]:
        """Those of the cards that it asks for, the last changed first."""
        found = sorted(filter(self._asks_for, cards), key=lambda card: (card.updated_at, card.id), reverse=True)
        return found[: self.most]

    def _asks_for(self, card: Card) -> bool:
        return (
            (self.owner is None or (card.owner or "") == self.owner)
            and (self.cwd is None or card.cwd == self.cwd)
            and (self.archived is None or card.archived == self.archived)
            and (self.after is None or (card.updated_at, card.id) < self.after)
        )


class SessionUnknown(LookupError):
    """No session is kept under that id."""


class SessionBusy(Exception):
    """Another connection or process holds the session.

    `patience` is how many seconds it can make sense to wait for it: whoever holds it was asked for it, or seems to be
    dead. 0: it is held as long as its holder likes.
    """

    def __init__(self, id: str, patience: float = 0.0) -> None:
        super().__init__(id)
        self.id = id
        self.patience = patience


class SessionTaken(Exception):
    """The session is no longer ours: it was deleted, or another process has taken it over."""


class StoreTooNew(ValueError):
    """The store was written by a later release, in a form that this one does not know."""


class Log(Protocol):
    """A session, held open by its one writer. Only `sync` and `close` take the time of a disk: call them in a thread.

    What was appended is a beginning of what there was to append, always: what could not be written is tried again
    before anything else is, and a log that cannot hold back more of it takes no more.
    """

    def append(self, *entries: Entry) -> None:
        """Take entries, in order. Raises OSError when they cannot be kept now."""
        ...

    async def kept(self) -> None:
        """Wait until what was appended outlives this process. Raises SessionTaken; OSError when it cannot be kept."""
        ...

    def sync(self, card: Card) -> None:
        """Make what was appended, and the card, outlive the machine. Raises SessionTaken, OSError."""
        ...

    def watch(self, taken: Callable[[], None], wanted: Callable[[bool], None]) -> None:
        """Have the running event loop call `taken` when the session is no longer ours.

        And `wanted` every now and then while another process wants it: with True if it is to have it at once, with
        False if it is to have it when nobody here uses it.
        """
        ...

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


class Store(Protocol):
    """Sessions by id. Every method may take the time of a disk or of a network: call it in a thread.

    Any of them may raise OSError: the store cannot be reached, or is full.
    """

    def create(self, card: Card, entries: Sequence[Entry] = ()) -> Log:
        """Begin a session, with a history if one is given. Raises ValueError for an id that cannot be one."""
        ...

    def open(self, id: str) -> tuple[Card, list[Entry], Log]:
        """Hold a session. Raises SessionUnknown, SessionBusy."""
        ...

    def read(self, id: str) -> tuple[Card, list[Entry]]:
        """Look at a session that anybody may hold. Raises SessionUnknown."""
        ...

    def card(self, id: str) -> Card:
        """Look at its card alone. Raises SessionUnknown."""
        ...

    def cards(self, query: Query = Query()) -> list[Card]:
        """The sessions that are asked for, the last changed first."""
        ...

    def set_card(self, card: Card) -> None:
        """Change what lists show of a session that nobody holds. Raises SessionUnknown, SessionBusy."""
        ...

    def want(self, id: str, *, at_once: bool = False) -> bool:
        """Ask another process to let go of the session: when nobody there uses it, or at once.

        False if none holds it that could be asked.
        """
        ...

    def delete(self, id: str) -> None:
        """Forget a session that nobody holds; an unknown one is forgotten already. Raises SessionBusy."""
        ...

    def close(self) -> None:
        """Let go of everything. Idempotent."""
        ...


def checked(id: str) -> str:
    """An id that a session can have. Raises ValueError."""
    if not ID.fullmatch(id):
        raise ValueError(f"no session can be called {id!r}")
    return id


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
