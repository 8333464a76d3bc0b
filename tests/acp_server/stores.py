"""The stores that there are, for tests that hold for each of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from postgres_server import PostgresServer

from acp_server.storage.memory import MemoryStore
from acp_server.storage.opening import open_store
from acp_server.storage.store import Card, Entry, Log, SessionBusy, Store
from acp_server.storage.tables import LEASE

KINDS = ("memory", "file", "sqlite", "postgres")
ON_DISK = KINDS[1:]
SHARED = KINDS[2:]
"""Those that several processes share."""

_schemas = itertools.count(1)


class Place:
    """Where sessions are kept, empty at first: `open` opens it, as often as processes would."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind = kind
        self.name = name
        """As `--sessions` has it."""
        self._memory = MemoryStore()
        self._opened: list[Store] = []

    def open(self, lease: float = LEASE) -> Store:
        store = self._memory if self.kind == "memory" else open_store(self.name, lease=lease)
        self._opened.append(store)
        return store

    def close(self) -> None:
        for store in self._opened:
            store.close()


@contextmanager
def place_of(kind: str, folder: Path, server: PostgresServer | None = None) -> Generator[Place]:
    name = {"file": f"file:{folder / 'sessions'}", "sqlite": f"sqlite:{folder / 'sessions.db'}"}.get(kind, "none")
    if kind == "postgres":
        assert server is not None
        name = new_schema(server)
    place = Place(kind, name)
    try:
        yield place
    finally:
        place.close()


def new_schema(server: PostgresServer) -> str:
    """The URL of a PostgreSQL in which there is nothing yet."""
    schema = f"s{next(_schemas)}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}".encode())
    return f"{server.url}&options=-csearch_path%3D{schema}"


def place_fixture(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Place]:
    """The body of a fixture that is parametrised with kinds."""
    server = request.getfixturevalue("postgres") if request.param == "postgres" else None
    with place_of(request.param, tmp_path, server) as place:
        yield place


# Other processes ---------------------------------------------------------------------------------------------

PROGRAM = """
import os, sys
from acp_server.storage.opening import open_store
from acp_server.storage.store import Card, SessionBusy
store = open_store(sys.argv[1], lease=float(sys.argv[2]))
"""


def python(place: Place, program: str, *, lease: float = 1) -> subprocess.Popen[str]:
    """Another process, in which `store` is the same store, with a lease of so many seconds."""
    command = [sys.executable, "-c", PROGRAM + program, place.name, str(lease)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def word(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def opened(store: Store, id: str, within: float) -> tuple[Card, list[Entry], Log]:
    """A session, as soon as nobody holds it any more."""
    deadline = time.monotonic() + within
    while True:
        try:
            return store.open(id)
        except SessionBusy:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.05)
