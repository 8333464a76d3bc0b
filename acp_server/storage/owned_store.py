"""A store as one principal sees it: to everybody else its sessions do not exist."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from .store import Card, Entry, Log, Query, SessionUnknown, Store


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
        self.card(id)  # before it is held, lest somebody else be kept out of what is theirs
        card, entries, log = self._store.open(id)
        return card, entries, _OwnedLog(log, self._owner)

    def read(self, id: str) -> tuple[Card, list[Entry]]:
        self.card(id)
        return self._store.read(id)

    def card(self, id: str) -> Card:
        card = self._store.card(id)
        if card.owner != self._owner:
            raise SessionUnknown(id)
        return card

    def cards(self, query: Query = Query()) -> list[Card]:  # noqa: B008 - it is frozen
        return self._store.cards(replace(query, owner=self._owner or ""))

    def set_card(self, card: Card) -> None:
        self.card(card.id)
        self._store.set_card(replace(card, owner=self._owner))

    def want(self, id: str, *, at_once: bool = False) -> bool:
        try:
            self.card(id)
        except SessionUnknown:
            return False
        return self._store.want(id, at_once=at_once)

    def delete(self, id: str) -> None:
        try:
            self.card(id)
        except SessionUnknown:
            return
        self._store.delete(id)

    def close(self) -> None:
        """The store is not ours to close: others see their sessions in it."""


class _OwnedLog:
    """A log whose card keeps its owner, whatever the session knows of that."""

    def __init__(self, log: Log, owner: str | None) -> None:
        self._log = log
        self._owner = owner

    def append(self, *entries: Entry) -> None:
        self._log.append(*entries)

    async def kept(self) -> None:
        await self._log.kept()

    def sync(self, card: Card) -> None:
        self._log.sync(replace(card, owner=self._owner))

    def watch(self, taken: Callable[[], None], wanted: Callable[[bool], None]) -> None:
        self._log.watch(taken, wanted)

    def close(self) -> None:
        self._log.close()
