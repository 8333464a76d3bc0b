"""Where sessions are kept: what a store promises, and one in memory.

A session is a `Card`, which lists show, and a log of entries, which only grows. One writer at a time holds a session's
log; whoever else opens it is told `SessionBusy`. `journal.FileStore` keeps them on disk.
"""

from __future__ import annotations

import copy
import datetime
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from acp.updates import Json

Entry = Mapping[str, Json]
"""One line of a log: {"update": …}, {"message": …}, {"kept": n} or {"setting": …}; see `history`."""


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


class SessionUnknown(LookupError):
    """No session is kept under that id."""


class SessionBusy(Exception):
    """Another connection or process holds the session."""


class Log(Protocol):
    """A session, held open by its one writer. Nothing here waits; `sync` may take the time of a disk."""

    def append(self, *entries: Entry) -> None: ...

    def sync(self, card: Card) -> None:
        """Make what was appended last, and the card, survive a crash."""
        ...

    def close(self) -> None:
        """Let go of it. Idempotent."""
        ...


class Store(Protocol):
    """Sessions by id. Every method may take the time of a disk: call it in a thread."""

    def create(self, card: Card, entries: Sequence[Entry] = ()) -> Log:
        """Begin a session, with a history if one is given. Raises OSError."""
        ...

    def open(self, id: str) -> tuple[Card, list[Entry], Log]:
        """Hold a session. Raises SessionUnknown, SessionBusy, OSError."""
        ...

    def read(self, id: str) -> tuple[Card, list[Entry]]:
        """Look at a session that anybody may hold. Raises SessionUnknown, OSError."""
        ...

    def cards(self) -> list[Card]:
        """All sessions, the last changed first."""
        ...

    def set_card(self, card: Card) -> None:
        """Change what lists show of a session that nobody holds. Raises SessionUnknown, OSError."""
        ...

    def delete(self, id: str) -> None:
        """Forget a session; an unknown one is forgotten already. Raises OSError."""
        ...


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def newest_first(cards: Sequence[Card]) -> list[Card]:
    return sorted(cards, key=lambda card: (card.updated_at, card.id), reverse=True)


class MemoryStore:
    """A store that lasts as long as the process."""

    def __init__(self) -> None:
        self._cards: dict[str, Card] = {}
        self._logs: dict[str, list[Entry]] = {}
        self._held: set[str] = set()

    def create(self, card: Card, entries: Sequence[Entry] = ()) -> Log:
        self._cards[card.id] = card
        self._logs[card.id] = [*entries]
        return self._hold(card.id)

    def open(self, id: str) -> tuple[Card, list[Entry], Log]:
        card, entries = self.read(id)
        return card, entries, self._hold(id)

    def read(self, id: str) -> tuple[Card, list[Entry]]:
        if id not in self._cards:
            raise SessionUnknown(id)
        return self._cards[id], copy.deepcopy(self._logs[id])

    def cards(self) -> list[Card]:
        return newest_first(list(self._cards.values()))

    def set_card(self, card: Card) -> None:
        if card.id not in self._cards:
            raise SessionUnknown(card.id)
        self._cards[card.id] = card

    def delete(self, id: str) -> None:
        self._cards.pop(id, None)
        self._logs.pop(id, None)

    def _hold(self, id: str) -> Log:
        if id in self._held:
            raise SessionBusy(id)
        self._held.add(id)
        return _MemoryLog(self, id)

    # For its logs --------------------------------------------------------------------------------------------

    def extend(self, id: str, entries: Sequence[Entry]) -> None:
        if id in self._logs:
            self._logs[id].extend(entries)  # which are made to be kept; whoever reads them gets copies

    def keep(self, card: Card) -> None:
        if card.id in self._cards:
            self._cards[card.id] = card

    def let_go(self, id: str) -> None:
        self._held.discard(id)


class _MemoryLog:
    def __init__(self, store: MemoryStore, id: str) -> None:
        self._store = store
        self._id = id
        self._open = True

    def append(self, *entries: Entry) -> None:
        self._store.extend(self._id, entries)

    def sync(self, card: Card) -> None:
        self._store.keep(card)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._store.let_go(self._id)
