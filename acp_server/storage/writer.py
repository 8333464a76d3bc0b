"""The thread that writes for every session that a process holds in a database, and keeps the process alive there.

What many sessions have to say while it writes goes into its next transaction together. A transaction writes for those
sessions only that are still held by the fence that was given with them: one that another process has taken over, and
one that was deleted, gets not one more entry. When the database cannot be reached everything waits, and nothing is told
meanwhile; it goes on where it stood if nobody has taken its sessions. After `OUTAGE` they are given up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from acp.json_text import dumps

from .record import card_text, joined
from .store import Card, Entry, SessionTaken
from .tables import Database, Transaction, Unreachable

log = logging.getLogger(__name__)

BEATS = 10
"""How often a process says in the time of a lease that it is alive."""
OUTAGE = 60.0
"""Seconds that the database may be away before its sessions are given up."""
LETTING_GO = 10.0
"""Seconds that whoever closes a session waits for it to be free."""
MOST_UNWRITTEN = 16 * 2**20
"""Characters of a log that wait to be written; of a longer one the rest is lost."""
AT_ONCE = 500
"""Sessions that are written for in one transaction."""
PAUSE = 0.2
"""Seconds between attempts to reach the database."""

Settled = Callable[[Exception | None], None]
"""Hears that what was appended is kept, or why it is not. Called in the writer's thread."""

INSERT = (
    "INSERT INTO acp_entries (session, n, entry) VALUES (%s, %s, %s)"
    " ON CONFLICT (session, n) DO UPDATE SET entry = excluded.entry"
)
SET_CARD = "UPDATE acp_sessions SET owner = %s, cwd = %s, updated_at = %s, archived = %s, card = %s WHERE id = %s"
_LET_GO = "UPDATE acp_sessions SET holder = NULL, wanted = NULL WHERE id = %s"


def columns(card: Card) -> tuple[str, str, str, bool, str]:
    """What a card is in the table."""
    return card.owner or "", card.cwd, card.updated_at, card.archived, card_text(card).decode()


class Row(NamedTuple):
    n: int
    text: str


@dataclass(eq=False, slots=True)
class Hold:
    """A session that this process holds. The lock of its `Writer` guards it."""

    id: str
    fence: int
    next: int = 0
    last: Entry | None = None
    """The entry before `next`, which may still grow."""
    due: list[Row] = field(default_factory=list[Row])
    unwritten: int = 0
    card: Card | None = None
    appended: int = 0
    flying: int = 0
    kept: int = 0
    """How much was appended so far, is being written or was, and is kept."""
    waiting: list[tuple[int, Settled]] = field(default_factory=list[tuple[int, Settled]])
    closing: bool = False
    full: bool = False
    taken: bool = False
    on_taken: Callable[[], None] | None = None
    on_wanted: Callable[[bool], None] | None = None


@dataclass(frozen=True, slots=True)
class _Part:
    """What one session has for a transaction."""

    hold: Hold
    rows: Sequence[Row]
    card: Card | None
    closing: bool
    upto: int


class Writer:
    """`server` is this process's name among all that there ever were, `lease` the seconds that it counts as alive."""

    def __init__(self, database: Database, server: str, name: str, lease: float) -> None:
        self._database, self._server, self._name, self._lease = database, server, name, lease
        self._ready = threading.Condition()
        self._holds: dict[str, Hold] = {}
        self._due: dict[str, Hold] = {}
        self._next_beat = 0.0
        self._closing = False
        self._failing_since: float | None = None
        self._thread = threading.Thread(target=self._run, name="acp sessions", daemon=True)

    def start(self) -> None:
        """Say that we are alive, from now on. Raises OSError."""
        self._beat()
        self._thread.start()

    def __contains__(self, id: str) -> bool:
        return id in self._holds

    # For the logs, in any thread ----------------------------------------------------------------------

    def hold(self, id: str, fence: int, *, next: int = 0) -> Hold:
        """Begin to write for a session, which the database says is ours, behind what there is of its log."""
        with self._ready:
            held = self._holds[id] = Hold(id, fence, next)
            return held

    def append(self, held: Hold, entries: Sequence[Entry]) -> None:
        """Take entries. Raises OSError when there is no room for more of them."""
        with self._ready:
            if held.taken or held.closing:
                return
            if held.unwritten > MOST_UNWRITTEN or held.full:
                held.full = True
                raise OSError(f"too much of session {held.id} waits to be written; its log ends here")
            for entry in entries:
                self._add(held, entry)
            held.appended += 1
            self._wake(held)

    def _add(self, held: Hold, entry: Entry) -> None:
        both = None if held.last is None else joined(held.last, entry)
        if both is not None:
            held.next -= 1
        held.last = both or entry
        row = Row(held.next, dumps(held.last).decode())
        if held.due and held.due[-1].n == row.n:
            held.unwritten -= len(held.due.pop().text)
        held.due.append(row)
        held.unwritten += len(row.text)
        held.next += 1

    def settle(self, held: Hold, settled: Settled, *, card: Card | None = None) -> bool:
        """Have `settled` called when all that was appended, and the card, is kept; False if it is."""
        with self._ready:
            if held.taken:
                raise SessionTaken(held.id)
            if card is not None:
                held.card = card
                held.appended += 1
            if held.kept == held.appended:
                return False
            held.waiting.append((held.appended, settled))
            if held.flying < held.appended:
                self._wake(held)
            return True

    def close(self, held: Hold) -> None:
        """Write what is left, and let go. Raises OSError when something was lost."""
        done, errors = threading.Event(), list[Exception]()

        def settled(error: Exception | None) -> None:
            errors.extend([error] if error else [])
            done.set()

        with self._ready:
            if held.taken or held.closing:
                return
            held.closing = True
            held.appended += 1
            held.waiting.append((held.appended, settled))
            self._wake(held)
        if not done.wait(LETTING_GO):
            raise Unreachable(f"session {held.id} is not free yet: the database does not answer")
        if errors and not isinstance(errors[0], SessionTaken):
            raise errors[0]

    def stop(self) -> None:
        """Let go of every session, and be no more. Idempotent."""
        with self._ready:
            if self._closing:
                return
            for held in self._holds.values():
                held.closing = True
                self._wake(held)
            self._closing = True
            self._ready.notify()
        self._thread.join(LETTING_GO)

    def _wake(self, held: Hold) -> None:
        self._due[held.id] = held
        self._ready.notify()

    # The thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._due and not self._closing and (left := self._next_beat - time.monotonic()) > 0:
                    self._ready.wait(left)
                parts = [self._part(held) for held in list(self._due.values())[:AT_ONCE]]
                for part in parts:
                    del self._due[part.hold.id]
                if self._closing and not parts:
                    break
            try:
                self._write(parts)
                if time.monotonic() >= self._next_beat:
                    self._beat()
                self._answers_again()
            except Exception as error:
                self._put_back(parts)
                if not self._bear(error):
                    break
        self._say_goodbye()

    def _part(self, held: Hold) -> _Part:
        part = _Part(held, held.due, held.card, held.closing, held.appended)
        held.due, held.card = [], None
        held.unwritten, held.flying = 0, held.appended
        return part

    def _put_back(self, parts: Sequence[_Part], *, soon: bool = True) -> None:
        """Let the next transaction have what this one did not write; if not `soon`, the next that there is need for."""
        with self._ready:
            for part in parts:
                held = part.hold
                if self._holds.get(held.id) is not held or held.kept >= part.upto:
                    continue
                rows = {row.n: row for row in (*part.rows, *held.due)}  # of two for one entry the later says more
                held.due = [*rows.values()]
                held.unwritten = sum(len(row.text) for row in held.due)
                held.card, held.flying = held.card or part.card, held.kept
                if soon:
                    self._due[held.id] = held

    def _write(self, parts: Sequence[_Part]) -> None:
        """Write for these sessions, and tell whoever waits. Raises Unreachable, and then nothing was told."""
        if not parts:
            return
        try:
            ours = self._commit(parts)
        except Unreachable:
            raise
        except OSError as error:
            if len(parts) == 1:
                self._refused(parts[0], error)
                return
            for part in parts:  # one of them was refused, and the others need not suffer for it
                self._write([part])
            return
        for part in parts:
            if part.hold.id in ours:
                self._settled(part)
            else:
                self._lose(part.hold)

    def _commit(self, parts: Sequence[_Part]) -> set[str]:
        """Write for those of the sessions that are ours; which they are."""
        with self._database.writing(durable=any(part.card or part.closing for part in parts)) as tables:
            fences = self._fences(tables, [part.hold.id for part in parts])
            ours = [part for part in parts if fences.get(part.hold.id) == part.hold.fence]
            tables.each(INSERT, [(part.hold.id, row.n, row.text) for part in ours for row in part.rows])
            tables.each(SET_CARD, [(*columns(part.card), part.hold.id) for part in ours if part.card is not None])
            tables.each(_LET_GO, [(part.hold.id,) for part in ours if part.closing])
        return {part.hold.id for part in ours}

    def _fences(self, tables: Transaction, ids: Sequence[str]) -> dict[str, int]:
        marks = ", ".join(["%s"] * len(ids))
        sql = f"SELECT id, fence FROM acp_sessions WHERE id IN ({marks}) ORDER BY id{self._database.locked}"
        return dict(tables.rows(sql, *ids))

    def _settled(self, part: _Part, error: Exception | None = None) -> None:
        """Tell whoever waited for this much, and forget a session that was let go."""
        held = part.hold
        with self._ready:
            if error is None:
                held.kept = part.upto
            told = [settled for upto, settled in held.waiting if upto <= part.upto]
            held.waiting = [waiting for waiting in held.waiting if waiting[0] > part.upto]
            if part.closing:
                self._forget(held)
        for settled in told:
            settled(error)

    def _refused(self, part: _Part, error: OSError) -> None:
        """The database will not have it: it is full, say. It is kept for another time; one who leaves loses it."""
        if not part.closing:
            self._put_back([part], soon=False)
            self._settled(part, error)
            return
        try:
            self._commit([_Part(part.hold, (), None, True, part.upto)])
        except OSError:
            log.warning("session %s was not let go of; it is free when this process ends", part.hold.id)
        self._settled(part, error)

    def _lose(self, held: Hold) -> None:
        """A session is another's."""
        with self._ready:
            self._forget(held)
            held.taken = True
            waiting, held.waiting = held.waiting, []
        for _, settled in waiting:
            settled(SessionTaken(held.id))
        if held.on_taken is not None and not held.closing:
            held.on_taken()

    def _forget(self, held: Hold) -> None:
        for table in (self._holds, self._due):
            if table.get(held.id) is held:
                del table[held.id]

    # Being alive ---------------------------------------------------------------------------------------------

    def _beat(self) -> None:
        """Say that we are alive, see which sessions are ours still, and who asks for one. Raises OSError."""
        with self._ready:
            holds = dict(self._holds)
        clock = self._database.clock
        with self._database.writing(durable=False) as tables:
            tables.rows(
                "INSERT INTO acp_servers (id, name, beat_at, alive_until)"
                f" VALUES (%s, %s, {clock}, {clock} + %s) ON CONFLICT (id) DO UPDATE"
                " SET beat_at = excluded.beat_at, alive_until = excluded.alive_until",
                self._server,
                self._name,
                self._lease,
            )
            still = f"CASE WHEN wanted_until > {clock} THEN wanted END"
            found = tables.rows(f"SELECT id, fence, {still} FROM acp_sessions WHERE holder = %s", self._server)
        self._next_beat = time.monotonic() + self._lease / BEATS
        ours = {id: (fence, wanted) for id, fence, wanted in found}
        for id, held in holds.items():
            fence, wanted = ours.get(id, (None, None))
            if fence != held.fence:
                if not held.closing:
                    self._lose(held)
            elif wanted is not None and held.on_wanted is not None:
                held.on_wanted(wanted == "now")

    def _answers_again(self) -> None:
        if self._failing_since is not None:
            log.info("%s answers again", self._database.name)
            self._failing_since = None

    def _bear(self, error: Exception) -> bool:
        """Wait for a database that does not do its work; False if there is nothing left to wait for."""
        now = time.monotonic()
        if self._failing_since is None:
            self._failing_since = now
            trace = None if isinstance(error, OSError) else error
            log.error("sessions wait for %s: %s", self._database.name, error, exc_info=trace)
        with self._ready:
            if self._closing:
                return now - self._failing_since < LETTING_GO
            holds = list(self._holds.values()) if now - self._failing_since > OUTAGE else []
        for held in holds:
            self._lose(held)
        time.sleep(PAUSE)
        return True

    def _say_goodbye(self) -> None:
        try:
            with self._database.writing(durable=True) as tables:
                tables.rows("UPDATE acp_sessions SET holder = NULL, wanted = NULL WHERE holder = %s", self._server)
                tables.rows("DELETE FROM acp_servers WHERE id = %s", self._server)
        except OSError as error:
            log.warning("%s was not told that we leave: %s", self._database.name, error)
