"""A store as one principal sees it: to everybody else its sessions do not exist."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from .store import Card, Entry, Log, SessionUnknown, Store


class OwnedStore:
    """The sessions of one principal in a store that holds those of several.

    The nameless principal, an empty text, is the user whose machine it is, and shares the sessions that the agent
    makes on stdin and stdout. A session of somebody else is unknown here, by whatever method it is asked for.
    """

    def __init__(self, store: Store, principal: str) -> None:
        self._store = store
        self._owner = principal or None

    def create(self, card: Card, entries: Sequence[Entry] = ()) -> Log:
        return _OwnedLog(self._store.create(replace(card, owner=self._owner), entries), self._owner)

    def open(self, id: str) -> tuple[Card, list[Entry], Log]:
        self.read(id)  # before it is held, lest somebody else be kept out of what is theirs
        card, entries, log = self._store.open(id)
        return card, entries, _OwnedLog(log, self._owner)

    def read(self, id: str) -> tuple[Card, list[Entry]]:
        card, entries = self._store.read(id)
        if card.owner != self._owner:
            raise SessionUnknown(id)
        return card, entries

    def cards(self) -> list[Card]:
        return [card for card in self._store.cards() if card.owner == self._owner]

    def set_card(self, card: Card) -> None:
        self.read(card.id)
        self._store.set_card(replace(card, owner=self._owner))

    def delete(self, id: str) -> None:
        try:
            self.read(id)
        except SessionUnknown:
            return
        self._store.delete(id)


class _OwnedLog:
    """A log whose card keeps its owner, whatever the session knows of that."""

    def __init__(self, log: Log, owner: str | None) -> None:
        self._log = log
        self._owner = owner

    def append(self, *entries: Entry) -> None:
        self._log.append(*entries)

    def sync(self, card: Card) -> None:
        self._log.sync(replace(card, owner=self._owner))

    def close(self) -> None:
        self._log.close()
