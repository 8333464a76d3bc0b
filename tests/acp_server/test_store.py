"""Where sessions are kept: what every store promises, and what the files on disk survive."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from acp_server.storage.journal import FileStore
from acp_server.storage.memory import MemoryStore
from acp_server.storage.store import Card, SessionBusy, SessionUnknown, Store

CARD = Card("s1", "/w", ("/x",), "a title", "2026-01-02T03:04:05.678Z")


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return MemoryStore() if request.param == "memory" else FileStore(tmp_path / "sessions")


def test_what_was_kept_is_there_when_the_session_is_opened_again(store: Store) -> None:
    log = store.create(CARD, [{"setting": "mode", "value": "all"}])
    log.append({"update": {"a": "ä\n"}}, {"message": {"b": None}})
    log.sync(replace(CARD, title="another"))
    log.close()
    card, entries, again = store.open("s1")
    again.close()
    assert card == replace(CARD, title="another")
    assert entries == [{"setting": "mode", "value": "all"}, {"update": {"a": "ä\n"}}, {"message": {"b": None}}]


def test_one_writer_holds_a_session_and_others_may_look(store: Store) -> None:
    log = store.create(CARD)
    log.append({"update": 1})
    with pytest.raises(SessionBusy):
        store.open("s1")
    assert store.read("s1")[1] == [{"update": 1}]
    log.close()
    log.close()
    store.open("s1")[2].close()


@pytest.mark.parametrize("id", ["nobody", "", "../s1", "a/b", ".", "x" * 500, "\0"])
def test_a_session_that_nobody_keeps_is_unknown(store: Store, id: str) -> None:
    store.create(CARD).close()
    calls: list[Callable[[], object]] = [lambda: store.open(id), lambda: store.read(id)]
    calls.append(lambda: store.set_card(replace(CARD, id=id)))
    for call in calls:
        with pytest.raises(SessionUnknown):
            call()
    store.delete(id)
    assert [card.id for card in store.cards()] == ["s1"]


def test_a_list_has_the_last_changed_first_and_a_deleted_session_leaves_it(store: Store) -> None:
    for number in (1, 3, 2):
        store.create(Card(f"s{number}", "/w", updated_at=f"2026-01-0{number}T00:00:00.000Z")).close()
    assert [card.id for card in store.cards()] == ["s3", "s2", "s1"]
    store.delete("s2")
    store.delete("s2")
    assert [card.id for card in store.cards()] == ["s3", "s1"]


def test_a_session_that_was_deleted_while_it_was_held_does_not_come_back(store: Store) -> None:
    log = store.create(CARD)
    store.delete("s1")
    log.append({"update": 1})
    log.sync(CARD)
    log.close()
    assert store.cards() == []


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "sessions")


def test_a_torn_line_is_cut_off_and_a_damaged_one_left_out(files: FileStore) -> None:
    log = files.create(CARD)
    log.append({"update": 1}, {"update": 2}, {"update": 3})
    log.close()
    path = files.directory / "s1.jsonl"
    path.write_bytes(path.read_bytes().replace(b'{"update":2}', b'{"upda\xff') + b'{"update":4')
    assert files.read("s1")[1] == [{"update": 1}, {"update": 3}]
    _, entries, again = files.open("s1")
    again.append({"update": 5})
    again.close()
    assert entries == [{"update": 1}, {"update": 3}]
    assert files.read("s1")[1] == [{"update": 1}, {"update": 3}, {"update": 5}]


def test_a_killed_process_leaves_what_it_wrote_and_holds_nothing(files: FileStore) -> None:
    program = (
        "import os, sys; from acp_server.storage.journal import FileStore; from acp_server.storage.store import Card\n"
        "log = FileStore(sys.argv[1]).create(Card('s1', '/w'))\n"
        "log.append({'update': 1}); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", program, files.directory], check=False, timeout=60)
    _, entries, log = files.open("s1")
    log.close()
    assert entries == [{"update": 1}]


def test_another_process_cannot_open_what_we_hold(files: FileStore) -> None:
    log = files.create(CARD)
    program = (
        "import sys; from acp_server.storage.journal import FileStore\n"
        "from acp_server.storage.store import SessionBusy\n"
        "try: FileStore(sys.argv[1]).open('s1')\n"
        "except SessionBusy: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, files.directory], check=False, timeout=60).returncode == 7
    log.close()


def test_only_its_owner_can_read_what_was_said(files: FileStore) -> None:
    files.create(CARD).close()
    assert os.stat(files.directory).st_mode & 0o077 == 0
    assert os.stat(files.directory / "s1.jsonl").st_mode & 0o077 == 0
    assert os.stat(files.directory / "s1.json").st_mode & 0o077 == 0


def test_files_that_are_none_of_ours_are_not_listed(files: FileStore) -> None:
    files.create(CARD).close()
    (files.directory / "notes.json").write_text("[1, 2]")
    (files.directory / "half.json").write_text('{"cwd": ')
    assert [card.id for card in files.cards()] == ["s1"]
