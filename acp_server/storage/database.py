"""Sessions in the tables of a database, which several processes share; `sqlite` and `postgres` are such databases.

A process that opens a session holds it, and no other does, until it lets go of it, or has not said for the time of its
lease that it is alive. Whoever takes it over then raises its fence, and with that the one before can write no more,
dead or not. Whoever wants a session that another process holds asks it (`want`) and tries again.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from acp.json_text import dumps

from .database_log import DatabaseLog
from .record import card_of, entries_of_texts
from .store import ID, Card, Entry, Log, Query, SessionBusy, SessionUnknown, checked
from .tables import LEASE, Database, Transaction
from .writer import BEATS, INSERT, SET_CARD, Writer, columns

HANDOVER = 3.0
"""Seconds that it can make sense to wait for a session whose holder was asked for it."""
WANTED = 2.0
"""Seconds that asking for a session holds good."""
MISSED = 3
"""Beats that a process can miss before it seems to be dead."""
FORGOTTEN = 86400.0
"""Seconds after its death that a process is forgotten."""


class DatabaseStore:
    """A `Store` in a database. It begins with a thread that says to the others that this process is alive.

    Raises OSError when the database cannot be reached.
    """

    def __init__(self, database: Database, *, lease: float = LEASE) -> None:
        self._database = database
        self._server = uuid.uuid4().hex
        self._writer = Writer(database, self._server, f"{socket.gethostname()}:{os.getpid()}", lease)
        self._opening: set[str] = set()
        self._lock = threading.Lock()
        with database.transaction() as tables:
            tables.rows(f"DELETE FROM acp_servers WHERE alive_until < {database.clock} - %s", FORGOTTEN)
        self._writer.start()

    def __repr__(self) -> str:
        return f"<DatabaseStore {self._database.name}>"

    def create(self, card: Card, entries: Sequence[Entry] = ()) -> Log:
        with self._database.transaction() as tables:
            tables.rows(
                "INSERT INTO acp_sessions (id, owner, cwd, updated_at, archived, card, fence, holder)"
                " VALUES (%s, %s, %s, %s, %s, %s, 1, %s)",
                checked(card.id),
                *columns(card),
                self._server,
            )
            tables.each(INSERT, [(card.id, n, dumps(entry).decode()) for n, entry in enumerate(entries)])
        return DatabaseLog(self._writer, self._writer.hold(card.id, 1, next=len(entries)))

    def open(self, id: str) -> tuple[Card, list[Entry], Log]:
        self._begin_opening(id)
        try:
            with self._database.transaction() as tables:
                card, fence, holder = self._row(tables, id)
                if (patience := self._patience(tables, id, holder)) is None:
                    tables.rows(
                        "UPDATE acp_sessions SET holder = %s, fence = %s, wanted = NULL WHERE id = %s",
                        self._server,
                        fence + 1,
                        id,
                    )
                elif patience == HANDOVER:  # of one that seems to be dead nothing is asked
                    self._want(tables, id, at_once=False)
            if patience is not None:
                raise SessionBusy(id, patience)
            held = self._writer.hold(id, fence + 1)
        finally:
            with self._lock:
                self._opening.discard(id)
        log = DatabaseLog(self._writer, held)
        try:
            with self._database.transaction(changes=False) as tables:
                entries = self._entries(tables, id)
                [(held.next,)] = tables.rows("SELECT coalesce(max(n) + 1, 0) FROM acp_entries WHERE session = %s", id)
            return _card_of(id, card), entries, log
        except BaseException:
            log.close()
            raise

    def read(self, id: str) -> tuple[Card, list[Entry]]:
        with self._database.transaction(changes=False) as tables:
            return self._card(tables, id), self._entries(tables, id)

    def card(self, id: str) -> Card:
        with self._database.transaction(changes=False) as tables:
            return self._card(tables, id)

    def cards(self, query: Query = Query()) -> list[Card]:  # noqa: B008 - it is frozen
        wanted: dict[str, Sequence[Any]] = {
            "owner = %s": () if query.owner is None else (query.owner,),
            "cwd = %s": () if query.cwd is None else (query.cwd,),
            "archived = %s": () if query.archived is None else (query.archived,),
            "(updated_at, id) < (%s, %s)": query.after or (),
        }
        where = " AND ".join(sql for sql, values in wanted.items() if values)
        values = [value for values in wanted.values() for value in values]
        sql = f"SELECT id, card FROM acp_sessions {'WHERE ' if where else ''}{where} ORDER BY updated_at DESC, id DESC"
        if query.most is not None:
            sql, values = sql + " LIMIT %s", [*values, query.most]
        with self._database.transaction(changes=False) as tables:
            found = tables.rows(sql, *values)
        cards: list[Card] = []
        for id, text in found:
            with suppress(SessionUnknown):
                cards.append(_card_of(id, text))
        return cards

    def set_card(self, card: Card) -> None:
        with self._database.transaction() as tables:
            _, _, holder = self._row(tables, card.id)
            if (patience := self._patience(tables, card.id, holder)) is None:
                tables.rows(SET_CARD, *columns(card), card.id)
        if patience is not None:
            raise SessionBusy(card.id, patience)

    def want(self, id: str, *, at_once: bool = False) -> bool:
        with self._database.transaction() as tables:
            try:
                _, _, holder = self._row(tables, id)
            except SessionUnknown:
                return False
            if holder == self._server or self._patience(tables, id, holder) is None:
                return False
            self._want(tables, id, at_once=at_once)
            return True

    def delete(self, id: str) -> None:
        with self._database.transaction() as tables:
            try:
                _, _, holder = self._row(tables, id)  # whoever writes for it is waited for
            except SessionUnknown:
                return
            if (patience := self._patience(tables, id, holder)) is None:
                tables.rows("DELETE FROM acp_entries WHERE session = %s", id)
                tables.rows("DELETE FROM acp_sessions WHERE id = %s", id)
        if patience is not None:
            raise SessionBusy(id, patience)

    def close(self) -> None:
        self._writer.stop()
        self._database.close()

    # Rows --------------------------------------------------------------------------------------------------

    def _row(self, tables: Transaction, id: str) -> tuple[str, int, str | None]:
        """The card, the fence and the holder of a session, which nobody else changes meanwhile."""
        sql = f"SELECT card, fence, holder FROM acp_sessions WHERE id = %s{self._database.locked}"
        found = tables.rows(sql, id) if ID.fullmatch(id) else []
        if not found:
            raise SessionUnknown(id)
        return found[0][0], found[0][1], found[0][2]

    def _card(self, tables: Transaction, id: str) -> Card:
        found = tables.rows("SELECT card FROM acp_sessions WHERE id = %s", id) if ID.fullmatch(id) else []
        if not found:
            raise SessionUnknown(id)
        return _card_of(id, found[0][0])

    def _entries(self, tables: Transaction, id: str) -> list[Entry]:
        sql = "SELECT entry FROM acp_entries WHERE session = %s ORDER BY n"
        return entries_of_texts(id, (text for (text,) in tables.stream(sql, id)))

    def _patience(self, tables: Transaction, id: str, holder: str | None) -> float | None:
        """How long it can make sense to wait for a session's holder; None if there is none."""
        if holder is None:
            return None
        if holder == self._server:
            return 0.0 if id in self._writer else None  # None: it was let go of, and the database was not told
        clock = self._database.clock
        sql = f"SELECT alive_until - {clock}, {clock} - beat_at, alive_until - beat_at FROM acp_servers WHERE id = %s"
        for left, silent, lease in tables.rows(sql, holder):
            if left > 0:
                return HANDOVER if silent < lease * MISSED / BEATS else left + HANDOVER
        return None

    def _want(self, tables: Transaction, id: str, *, at_once: bool) -> None:
        tables.rows(
            f"UPDATE acp_sessions SET wanted = %s, wanted_until = {self._database.clock} + %s WHERE id = %s",
            "now" if at_once else "idle",
            WANTED,
            id,
        )

    def _begin_opening(self, id: str) -> None:
        """Two threads of this process must not open a session at once: the database cannot tell them apart."""
        with self._lock:
            if id in self._opening:
                raise SessionBusy(id, HANDOVER)
            self._opening.add(id)


def _card_of(id: str, text: str) -> Card:
    try:
        return card_of(id, text)
    except ValueError as error:
        raise SessionUnknown(id) from error
