"""Stores by name, as the command line and the environment have them."""

from __future__ import annotations

import os
from urllib.parse import parse_qs, urlsplit

from .journal import FileStore, default_directory
from .memory import MemoryStore
from .store import Store
from .tables import LEASE

FORMS = "DIR, file:DIR, sqlite:FILE, postgresql://…, env:NAME (a variable that says it), or none"


def open_store(name: str | None, *, lease: float = LEASE) -> Store:
    """A store: the user's own, in files, if nothing is said. Raises ValueError with what is wrong; no secret is in it.

    A password may be in a URL that comes from the environment, and in none that stands on a command line.
    """
    if name is None:
        return FileStore(default_directory())
    if name.startswith("env:"):
        name = os.environ.get(variable := name.removeprefix("env:"), "")
        if not name:
            raise ValueError(f"the environment has no variable {variable}, or it is empty")
    elif _has_password(name):
        raise ValueError(
            "everybody on this machine can read a password on the command line; leave it to PGPASSWORD, a passfile"
            " (~/.pgpass), a service, or give env:NAME"
        )
    try:
        return _open(name, lease)
    except OSError as error:
        raise ValueError(f"sessions cannot be kept there: {error.strerror or error}") from error


def _open(name: str, lease: float) -> Store:
    kind, colon, rest = name.partition(":")
    match kind if colon else "":
        case "" if name == "none":
            return MemoryStore()
        case "" | "file" if rest or not colon:
            return FileStore(rest if colon else name)
        case "sqlite" if rest:
            from .sqlite import sqlite_store

            return sqlite_store(rest, lease=lease)
        case "postgresql" | "postgres" if rest.startswith("//"):
            try:
                from .postgres import postgres_store
            except ImportError as error:
                raise ValueError("PostgreSQL needs the extra: pip install 'acp-laguna[postgres]'") from error
            return postgres_store(name, lease=lease)
        case _:
            raise ValueError(f"no sessions can be kept in {kind}:…; say {FORMS}")


def _has_password(name: str) -> bool:
    if not name.startswith(("postgresql:", "postgres:")):
        return False
    try:
        url = urlsplit(name)
        return bool(url.password) or "password" in parse_qs(url.query)
    except ValueError:
        return True  # it cannot be told, so it is not shown
