"""The tables of a database that keeps sessions, and how those of an earlier release become ours.

`acp_sessions` has a row for each session: its card, who holds it, and `fence`, which counts up whenever somebody new
does. `acp_entries` has its log. `acp_servers` has a row for each process that is alive, until `alive_until`, by the
database's own clock: no two machines need to agree on the time. A session whose holder is not among them is free.
"""

from __future__ import annotations

from typing import Any, Protocol

from .store import StoreTooNew

STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE acp_servers (id {text} PRIMARY KEY, name text NOT NULL, beat_at double precision NOT NULL,"
        " alive_until double precision NOT NULL)",
        "CREATE TABLE acp_sessions (id {text} PRIMARY KEY, owner {text} NOT NULL, cwd {text} NOT NULL,"
        " updated_at {text} NOT NULL, archived boolean NOT NULL, card text NOT NULL, fence bigint NOT NULL,"
        " holder {text}, wanted text, wanted_until double precision)",
        "CREATE INDEX acp_sessions_listed ON acp_sessions (owner, updated_at, id)",
        "CREATE INDEX acp_sessions_held ON acp_sessions (holder) WHERE holder IS NOT NULL",
        "CREATE TABLE acp_entries (session {text} NOT NULL, n bigint NOT NULL, entry text NOT NULL,"
        " PRIMARY KEY (session, n))",
    ),
)
"""What makes each version of the tables from the one before it. Steps are added, and never changed."""


class Tables(Protocol):
    """A transaction, in which nobody else changes the tables."""

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]: ...


def upgrade(tables: Tables, *, exist: bool, text: str, steps: tuple[tuple[str, ...], ...] = STEPS) -> None:
    """Bring the tables up to date; `text` is the type of texts that are compared byte by byte. Raises StoreTooNew."""
    if not exist:
        tables.rows("CREATE TABLE acp_store (version integer NOT NULL)")
        tables.rows("INSERT INTO acp_store (version) VALUES (0)")
    [(version,)] = tables.rows("SELECT version FROM acp_store")
    if version > len(steps):
        raise StoreTooNew(f"the tables are of version {version}; this release knows versions up to {len(steps)}")
    for step in steps[version:]:
        for statement in step:
            tables.rows(statement.format(text=text))
    if version < len(steps):
        tables.rows("UPDATE acp_store SET version = %s", len(steps))
