"""Stores by name: what may be said, and what nobody is to read."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from postgres_server import PostgresServer
from stores import new_schema

from acp_server.storage.database import DatabaseStore
from acp_server.storage.journal import FileStore
from acp_server.storage.memory import MemoryStore
from acp_server.storage.opening import open_store
from acp_server.storage.store import Card

SECRET = "swordfish-0815"


def test_a_store_is_what_its_name_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("WHERE", f"file:{tmp_path / 'c'}")
    assert isinstance(open_store("none"), MemoryStore)
    folders = {
        None: "state/acp-laguna/sessions",
        str(tmp_path / "a"): "a",
        f"file:{tmp_path / 'b'}": "b",
        "env:WHERE": "c",
    }
    for name, folder in folders.items():
        store = open_store(name)
        assert isinstance(store, FileStore)
        assert store.directory == tmp_path / folder
    store = open_store(f"sqlite:{tmp_path / 'new' / 'sessions.db'}")
    assert isinstance(store, DatabaseStore)
    store.close()
    assert (tmp_path / "new" / "sessions.db").exists()


@pytest.mark.parametrize(
    "name", ["mysql://host/db", "sqlite:", "file:", "postgresql:acp", "redis:1", "env:NOBODY_SET_THIS"]
)
def test_a_name_that_means_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"no sessions can be kept in|no variable"):
        open_store(name)


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://acp:{SECRET}@localhost/acp",
        f"postgresql://localhost/acp?user=acp&password={SECRET}",
        f"postgres://acp:{SECRET}@[::1/acp",
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="everybody on this machine can read") as refused:
        open_store(url)
    assert SECRET not in str(refused.value)
    for command in ("agent", "serve"):
        done = subprocess.run(
            [sys.executable, "-m", "acp", command, "--store", url], capture_output=True, check=False, timeout=60
        )
        assert done.returncode == 2
        assert b"--sessions: everybody" in done.stderr
        assert SECRET.encode() not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "url", [f"postgresql://acp:{SECRET}@127.0.0.1:1/acp?connect_timeout=1", f"postgresql://acp:{SECRET}@h/?no={SECRET}"]
)
def test_a_url_with_a_password_from_the_environment_is_told_to_nobody(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ACP_STORE", url)
    with caplog.at_level(logging.DEBUG), pytest.raises(ValueError, match=r".+") as refused:
        open_store("env:ACP_STORE")
    assert SECRET not in str(refused.value) + caplog.text


@pytest.fixture
def guarded(postgres: PostgresServer) -> str:
    """The URL, without the password, of somebody who has to say one."""
    url = new_schema(postgres)
    schema = url.rpartition("%3D")[2]
    with psycopg.connect(postgres.url, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS guarded")
        connection.execute(f"CREATE ROLE guarded LOGIN PASSWORD '{SECRET}'".encode())
        connection.execute(f"GRANT ALL ON SCHEMA {schema} TO guarded".encode())
        hba = postgres.directory / "data" / "pg_hba.conf"
        hba.write_text("local all guarded scram-sha-256\nlocal all all trust\n")
        connection.execute("SELECT pg_reload_conf()")
    return url.replace("user=acp", "user=guarded")


def test_a_password_comes_from_the_environment_a_passfile_or_a_service(
    guarded: str,
    postgres: PostgresServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def keeps(name: str, id: str) -> None:
        store = open_store(name)
        log = store.create(Card(id, "/w"))
        log.close()
        assert SECRET not in repr(store)
        store.close()

    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match=r"(?i)password|scram"):
        open_store(guarded)
    with monkeypatch.context() as here:
        here.setenv("PGPASSWORD", SECRET)
        keeps(guarded, "by-variable")
    with monkeypatch.context() as here:
        here.setenv("ACP_STORE", guarded.replace("user=guarded", f"user=guarded&password={SECRET}"))
        keeps("env:ACP_STORE", "by-url")
    passfile = tmp_path / "pass"
    passfile.write_text(f"*:*:*:guarded:{SECRET}\n")
    os.chmod(passfile, 0o600)
    keeps(f"{guarded}&passfile={passfile}", "by-passfile")
    services = tmp_path / "services"
    services.write_text(f"[acp]\nhost={postgres.directory}\nuser=guarded\npassword={SECRET}\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))
    options = guarded.partition("options=")[2]
    keeps(f"postgresql:///postgres?service=acp&options={options}", "by-service")
    store = open_store(f"postgresql:///postgres?service=acp&options={options}")
    assert {card.id for card in store.cards()} == {"by-variable", "by-url", "by-passfile", "by-service"}
    store.close()
    assert SECRET not in caplog.text


@pytest.mark.parametrize("lease", ["0", "soon", "1e9", "nan"])
def test_a_lease_that_is_none_is_refused(lease: str) -> None:
    command = [sys.executable, "-m", "acp", "agent", "--lease", lease]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    assert b"not a number of seconds from 1 to 3600" in done.stderr
