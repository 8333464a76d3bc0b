"""Fixtures of the agent's tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from postgres_server import PostgresServer, missing, postgres_server


@pytest.fixture(scope="session")
def postgres() -> Generator[PostgresServer]:
    """One PostgreSQL for all tests; each has a schema of its own in it."""
    if (why := missing()) is not None:
        pytest.skip(why)
    with postgres_server() as server:
        yield server
