"""A database, as `database.DatabaseStore` uses it: transactions, and the few words in which databases differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

LEASE = 10.0
"""Seconds after its death that a process can still keep others from its sessions."""


class Unreachable(OSError):
    """The database did not answer, or was too busy to: it may answer the next time."""


class Transaction(Protocol):
    """Statements that are all done or none. `%s` in a statement stands for a value."""

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a statement gives; nothing for one that only does something."""
        ...

    def each(self, sql: str, values: Iterable[Sequence[Any]]) -> None:
        """Do a statement for each of these values."""
        ...

    def stream(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        """What a statement gives, a part at a time, however much it is."""
        ...


class Database(Protocol):
    """Transactions raise Unreachable, FileExistsError for a key that there is already, and OSError for all else."""

    name: str
    """For people; no secret is in it."""
    clock: str
    """Seconds, by the clock of the database."""
    locked: str
    """Put behind a SELECT: nobody else changes these rows before the transaction is over."""

    def transaction(self, *, changes: bool = True) -> AbstractContextManager[Transaction]:
        """A transaction of any thread, for changes or only to look; after the block it outlives the machine."""
        ...

    def writing(self, *, durable: bool) -> AbstractContextManager[Transaction]:
        """A transaction of the one thread that writes, on a connection of its own.

        One that is not `durable` outlives our process when the block has ended, and the machine a little later.
        """
        ...

    def close(self) -> None: ...
