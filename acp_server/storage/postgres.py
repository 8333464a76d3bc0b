"""Sessions in PostgreSQL, which any number of machines share. Needs the extra `postgres`.

The URL is libpq's, and so is what it does not say: PGPASSWORD and the other variables, passfiles,
services. What PostgreSQL answers is told in its own words, but for the values in a statement, which are what somebody
said. Of a connection that is idle in the middle of a transaction, PostgreSQL ends both after the time of the lease: a
process that was stopped keeps nobody waiting. Every commit waits for the disk: else a PostgreSQL that crashed and came
back would have lost what the process that wrote it believes to be there.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from .database import DatabaseStore
from .schema import upgrade
from .tables import LEASE, Transaction, Unreachable

CONNECTIONS = 4
"""Most connections of one process, besides that of the thread that writes. More sessions are opened after another."""
ANSWER = 5.0
"""Seconds until a connection, or a lock, counts as not to be had."""
STATEMENT = 60.0
"""Seconds that a statement may take."""
AT_A_TIME = 1000
"""Rows of a long log that are fetched at a time."""
_LOCK = 4922317098175263745
"""The number of the lock under which the tables are made."""
_DEFAULTS = {
    "application_name": "acp-laguna",
    "connect_timeout": "5",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
_MAY_PASS = (
    errors.AdminShutdown,
    errors.CrashShutdown,
    errors.CannotConnectNow,
    errors.TooManyConnections,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.LockNotAvailable,
    errors.QueryCanceled,
    errors.ReadOnlySqlTransaction,  # this server has just been made a standby
)


def postgres_store(url: str, *, lease: float = LEASE) -> DatabaseStore:
    """A store in a database; the tables are made if need be. Raises OSError, ValueError, StoreTooNew."""
    database = _Postgres(url, lease)
    try:
        return DatabaseStore(database, lease=lease)
    except BaseException:
        database.close()
        raise


class _Postgres:
    clock = "extract(epoch FROM clock_timestamp())::double precision"
    locked = " FOR UPDATE"

    def __init__(self, url: str, lease: float) -> None:
        try:
            given = conninfo_to_dict(url)
        except psycopg.ProgrammingError:
            raise ValueError("what follows postgresql:// is not a URL that libpq can read") from None
        self.name = f"postgresql://{given.get('host') or ''}/{given.get('dbname') or ''}"
        info = make_conninfo(url, **{name: value for name, value in _DEFAULTS.items() if name not in given})
        self._writer = _Connections(info, lease, 1, checked=False)  # what fails there is tried again
        self._others = _Connections(info, lease, CONNECTIONS, checked=True)
        try:
            with self._others.transaction() as tables:
                tables.rows("SELECT pg_advisory_xact_lock(%s)", _LOCK)
                exist = bool(tables.rows("SELECT 1 WHERE to_regclass('acp_store') IS NOT NULL"))
                upgrade(tables, exist=exist, text='text COLLATE "C"')
        except BaseException:
            self.close()
            raise

    def transaction(self, *, changes: bool = True) -> AbstractContextManager[Transaction]:
        return self._others.transaction()

    def writing(self, *, durable: bool) -> AbstractContextManager[Transaction]:
        return self._writer.transaction()

    def close(self) -> None:
        self._writer.close()
        self._others.close()


class _Connections:
    """Connections that are used again and again, at most so many; whoever wants one more waits."""

    def __init__(self, info: str, lease: float, most: int, *, checked: bool) -> None:
        self._info, self._lease, self._checked = info, lease, checked
        self._free = threading.Semaphore(most)
        self._idle: list[psycopg.Connection] = []

    @contextmanager
    def transaction(self) -> Generator[Transaction]:
        if not self._free.acquire(timeout=ANSWER):
            raise Unreachable(errno.ETIMEDOUT, "the database takes too long")
        try:
            with _told():
                connection = self._take()
                try:
                    with connection.transaction():
                        yield _Tables(connection)
                finally:
                    self._idle.append(connection)
        finally:
            self._free.release()

    def _take(self) -> psycopg.Connection:
        """One that is there already, or a new one."""
        while self._idle:
            connection = self._idle.pop()
            try:
                if not connection.closed:
                    if self._checked:
                        connection.execute("")
                    return connection
            except psycopg.Error:
                connection.close()
        return self._connect()

    def _connect(self) -> psycopg.Connection:
        connection = psycopg.connect(self._info, autocommit=True)
        settings = {
            "synchronous_commit": "on",
            "lock_timeout": f"{ANSWER:g}s",
            "statement_timeout": f"{STATEMENT:g}s",
            "idle_in_transaction_session_timeout": f"{int(self._lease * 1000)}ms",
        }
        try:
            for name, value in settings.items():
                connection.execute("SELECT set_config(%s, %s, false)", (name, value))
        except BaseException:
            connection.close()
            raise
        return connection

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class _Tables:
    def __init__(self, connection: psycopg.Connection) -> None:
        self._connection = connection

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        cursor = self._connection.execute(sql.encode(), values)
        return cursor.fetchall() if cursor.description else []

    def each(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(sql.encode(), values)

    def stream(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        with self._connection.cursor("acp_rows") as cursor:
            cursor.itersize = AT_A_TIME
            cursor.execute(sql.encode(), values)
            yield from cursor


@contextmanager
def _told() -> Generator[None]:
    """Says in our words, and without anybody's values, what went wrong."""
    try:
        yield
    except psycopg.IntegrityError as error:
        raise FileExistsError(errno.EEXIST, _words(error)) from error
    except psycopg.Error as error:
        if isinstance(error, errors.DiskFull | errors.OutOfMemory):
            raise OSError(errno.ENOSPC, _words(error)) from error
        if isinstance(error, _MAY_PASS) or error.sqlstate is None or error.sqlstate.startswith("08"):
            raise Unreachable(errno.ECONNREFUSED, _words(error)) from error
        raise OSError(errno.EIO, _words(error)) from error


def _words(error: psycopg.Error) -> str:
    return error.diag.message_primary or str(error).strip().partition("\n")[0] or type(error).__name__
