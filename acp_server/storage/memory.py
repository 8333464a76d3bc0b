"""Sessions that last as long as the process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .packed import PackedLog
from .store import Card, Entry, Log, Query, SessionBusy, SessionUnknown, checked


class MemoryStore:
    """A `Store` in memory."""

    def __init__(self) -> None:
        self._cards: dict[str, Card] = {}
        self._logs: dict[str, PackedLog] = {}
        self._held: set[str] = set()

    def create(self, card: Card, entries: Sequence[Entry] = ()) -> Log:
        self._cards[checked(card.id)] = card
        self._logs[card.id] = PackedLog(entries)
        return self._hold(card.id)

    def open(self, id: str) -> tuple[Card, list[Entry], Log]:
        card, entries = self.read(id)
        return card, entries, self._hold(id)

    def read(self, id: str) -> tuple[Card, list[Entry]]:
        return self.card(id), [*self._logs[id]]

    def card(self, id: str) -> Card:
        if id not in self._cards:
            raise SessionUnknown(id)
        return self._cards[id]

    def cards(self, query: Query = Query()) -> list[Card]:  # noqa: B008 - it is frozen
        return query.of(self._cards.values())

    def set_card(self, card: Card) -> None:
        if card.id not in self._cards:
            raise SessionUnknown(card.id)
        if card.id in self._held:
            raise SessionBusy(card.id)
        self._cards[card.id] = card

    def want(self, id: str, *, at_once: bool = False) -> bool:
        return False

    def delete(self, id: str) -> None:
        if id in self._held:
            raise SessionBusy(id)
        self._cards.pop(id, None)
        self._logs.pop(id, None)

    def close(self) -> None:
        pass

    def _hold(self, id: str) -> Log:
        if id in self._held:
            raise SessionBusy(id)
        self._held.add(id)
        return _MemoryLog(self, id)

    # For its logs --------------------------------------------------------------------------------------------

    def extend(self, id: str, entries: Sequence[Entry]) -> None:
        if id in self._logs:
            self._logs[id].extend(entries)

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

    async def kept(self) -> None:
        pass

    def sync(self, card: Card) -> None:
        self._store.keep(card)

    def watch(self, taken: Callable[[], None], wanted: Callable[[bool], None]) -> None:
        pass

    def close(self) -> None:
        if self._open:
            self._open = False
            self._store.let_go(self._id)
