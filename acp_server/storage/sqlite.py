"""Sessions in one SQLite file, which the processes of one machine share. Not on a network file system.

The file is in WAL mode: who reads waits for nobody. The clock is this machine's, the same for all of them.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from .database import DatabaseStore
from .schema import upgrade
from .tables import LEASE, Transaction, Unreachable

BUSY = 5.0
"""Seconds that a transaction waits for those of others."""


def sqlite_store(path: str | os.PathLike[str], *, lease: float = LEASE) -> DatabaseStore:
    """A store in a file, which is made if need be, readable by its owner only. Raises OSError, StoreTooNew."""
    return DatabaseStore(_Sqlite(Path(path)), lease=lease)


class _Sqlite:
    clock = "((julianday('now') - 2440587.5) * 86400.0)"
    locked = ""  # a transaction has the whole file

    def __init__(self, path: Path) -> None:
        self.name = f"sqlite:{path}"
        self._path = path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self._writer = self._connect()
        try:
            with self._begin(self._writer) as tables:
                exist = bool(tables.rows("SELECT 1 FROM sqlite_master WHERE name = 'acp_store'"))
                upgrade(tables, exist=exist, text="text")
        except BaseException:
            self._writer.close()
            raise

    @contextmanager
    def transaction(self, *, changes: bool = True) -> Generator[Transaction]:
        with closing(self._connect()) as connection, self._begin(connection, changes=changes) as tables:
            yield tables

    @contextmanager
    def writing(self, *, durable: bool) -> Generator[Transaction]:
        with _told():
            self._writer.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
        with self._begin(self._writer) as tables:
            yield tables

    def close(self) -> None:
        self._writer.close()

    def _connect(self) -> sqlite3.Connection:
        with _told():
            connection = sqlite3.connect(self._path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = FULL")
            except BaseException:
                connection.close()
                raise
            return connection

    @contextmanager
    def _begin(self, connection: sqlite3.Connection, *, changes: bool = True) -> Generator[Transaction]:
        with _told():
            connection.execute("BEGIN IMMEDIATE" if changes else "BEGIN")
            try:
                yield _Tables(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")


class _Tables:
    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._connection.execute(sql.replace("%s", "?"), values).fetchall()

    def each(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        self._connection.executemany(sql.replace("%s", "?"), values)

    def stream(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        yield from self._connection.execute(sql.replace("%s", "?"), values)


@contextmanager
def _told() -> Generator[None]:
    """Says in our words what SQLite has to say."""
    try:
        yield
    except sqlite3.IntegrityError as error:
        raise FileExistsError(errno.EEXIST, str(error)) from error
    except sqlite3.Error as error:
        match (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF:
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise Unreachable(errno.EBUSY, f"the file is busy: {error}") from error
            case sqlite3.SQLITE_FULL:
                raise OSError(errno.ENOSPC, str(error)) from error
            case _:
                raise OSError(errno.EIO, str(error)) from error
