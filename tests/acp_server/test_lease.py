"""Sessions that several processes share: one holds each of them, and what becomes of it when that one is gone."""

from __future__ import annotations

import signal
import sqlite3
import time
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from postgres_server import PostgresServer
from stores import SHARED, Place, new_schema, opened, place_fixture, python, word

from acp_server.storage import schema, writer
from acp_server.storage.database import DatabaseStore
from acp_server.storage.opening import open_store
from acp_server.storage.store import Card, Log, SessionBusy, SessionTaken, StoreTooNew

pytestmark = pytest.mark.anyio

CARD = Card("s1", "/w")

place = pytest.fixture(params=SHARED)(place_fixture)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def tables_of(store: object) -> Any:
    """The database under a store, for a look behind its back."""
    assert isinstance(store, DatabaseStore)
    return store._database


async def until(true: Callable[[], bool], within: float = 60.0) -> None:
    with anyio.fail_after(within):
        while not true():  # noqa: ASYNC110, it is in a database
            await anyio.sleep(0.02)


# Death and freezing ----------------------------------------------------------------------------------------


def test_a_session_whose_holder_was_killed_is_free_when_its_lease_has_run_out_and_not_before(place: Place) -> None:
    ours = place.open(3)
    program = """
log = store.create(Card('s1', '/w'))
log.append({'kept': 1})
log.sync(Card('s1', '/w'))
print(flush=True)
sys.stdin.read()
"""
    with python(place, program, lease=3) as other:
        word(other)
        time.sleep(3.5)  # longer than the lease: it holds because it is alive
        with pytest.raises(SessionBusy) as busy:
            ours.open("s1")
        assert 0 < busy.value.patience < 6
        other.send_signal(signal.SIGKILL)
        other.wait()
    with pytest.raises(SessionBusy):
        ours.open("s1")
    _, entries, log = opened(ours, "s1", within=60)
    assert entries == [{"kept": 1}]
    log.close()


def test_a_session_whose_holder_leaves_in_order_is_free_at_once(place: Place) -> None:
    ours = place.open(60)
    program = """
store.close()
store = open_store(sys.argv[1], lease=60)
store.create(Card('s1', '/w')).append({'kept': 1})
store.close()
"""
    with python(place, program) as other:
        assert other.wait(60) == 0
    _, entries, log = ours.open("s1")
    log.close()
    assert entries == [{"kept": 1}]


def test_a_holder_that_was_frozen_and_taken_over_from_writes_not_one_more_entry(place: Place) -> None:
    program = """
import anyio
from acp_server.storage.store import SessionTaken
async def main():
    log = store.create(Card("s1", "/w"))
    log.append({"kept": 0})
    await log.kept()
    told = anyio.Event()
    log.watch(told.set, lambda at_once: None)
    print("written", flush=True)
    sys.stdin.readline()
    log.append({"kept": "too late"})
    try: await log.kept()
    except SessionTaken: print("taken", flush=True)
    await told.wait()
    print("told", flush=True)
    try: log.sync(Card("s1", "/elsewhere"))
    except SessionTaken: print("taken", flush=True)
    log.close()
    store.close()
anyio.run(main)
"""
    ours = place.open(1)
    with python(place, program) as other:
        assert word(other) == "written"
        other.send_signal(signal.SIGSTOP)
        _, entries, log = opened(ours, "s1", within=60)
        log.append({"kept": 1})
        log.sync(CARD)
        other.send_signal(signal.SIGCONT)
        assert other.stdin is not None
        other.stdin.write("go on\n")
        other.stdin.flush()
        assert [word(other), word(other), word(other)] == ["taken", "told", "taken"]
        assert other.wait(60) == 0
    log.append({"kept": 2})
    log.close()
    assert entries == [{"kept": 0}]
    assert ours.read("s1") == (CARD, [{"kept": 0}, {"kept": 1}, {"kept": 2}])


def test_a_holder_that_was_frozen_and_not_taken_over_from_goes_on(place: Place) -> None:
    program = """
log = store.create(Card("s1", "/w"))
print("written", flush=True)
sys.stdin.readline()
log.append({"kept": 1})
log.sync(Card("s1", "/w", title="mine"))
print("kept", flush=True)
store.close()
"""
    with python(place, program) as other:
        assert word(other) == "written"
        other.send_signal(signal.SIGSTOP)
        time.sleep(1.3)
        other.send_signal(signal.SIGCONT)
        other.communicate("go on\n", timeout=60)
    assert place.open().read("s1") == (Card("s1", "/w", title="mine"), [{"kept": 1}])


async def test_a_session_that_another_holds_is_not_deleted_until_it_is_let_go_of(place: Place) -> None:
    ours, other = place.open(1), place.open(1)
    log = ours.create(CARD)
    with pytest.raises(SessionBusy) as busy:
        await anyio.to_thread.run_sync(other.delete, "s1")
    assert busy.value.patience > 0
    log.append({"kept": 1})
    await log.kept()
    await anyio.to_thread.run_sync(log.close)
    await anyio.to_thread.run_sync(other.delete, "s1")
    assert other.cards() == []


# Asking for a session ----------------------------------------------------------------------------------------


async def test_whoever_holds_a_session_hears_that_another_wants_it(place: Place) -> None:
    ours, other = place.open(1), place.open(1)
    assert not other.want("s1")
    log = ours.create(CARD)
    assert not ours.want("s1")
    heard = list[bool]()
    log.watch(lambda: None, heard.append)
    with pytest.raises(SessionBusy):
        other.open("s1")
    await until(lambda: heard == [False] * len(heard) != [])
    assert other.want("s1", at_once=True)
    await until(lambda: True in heard)
    await anyio.to_thread.run_sync(log.close)
    assert not other.want("s1")
    other.open("s1")[2].close()


async def test_a_session_that_nobody_wants_any_more_is_not_asked_for(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("acp_server.storage.database.WANTED", 0.3)
    ours, other = place.open(1), place.open(1)
    log, heard = ours.create(CARD), list[bool]()
    assert other.want("s1")
    await anyio.sleep(0.5)
    log.watch(lambda: None, heard.append)
    await anyio.sleep(0.4)  # which is some beats
    assert heard == []
    log.close()


# Trouble -----------------------------------------------------------------------------------------------------


async def test_what_waits_while_postgres_is_away_is_kept_when_it_is_back(postgres: PostgresServer) -> None:
    store = await anyio.to_thread.run_sync(lambda: open_store(new_schema(postgres), lease=2))
    log = store.create(CARD)
    log.append({"kept": 0})
    await log.kept()
    postgres.stop()
    log.append({"kept": 1})
    with anyio.move_on_after(0.5) as waited:
        await log.kept()
    assert waited.cancelled_caught
    with pytest.raises(OSError, match=r".+"):
        await anyio.to_thread.run_sync(store.read, "s1")
    await anyio.to_thread.run_sync(postgres.start)
    log.append({"kept": 2})
    with anyio.fail_after(60):
        await log.kept()
    assert store.read("s1")[1] == [{"kept": 0}, {"kept": 1}, {"kept": 2}]
    await anyio.to_thread.run_sync(store.close)


async def test_sessions_are_given_up_when_the_database_stays_away(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "OUTAGE", 0.5)
    store = open_store(new_schema(postgres), lease=2)
    log, told = store.create(CARD), anyio.Event()
    log.watch(told.set, lambda at_once: None)
    postgres.stop()
    try:
        log.append({"kept": 1})
        with anyio.fail_after(60), pytest.raises(SessionTaken):
            await log.kept()
        await told.wait()
    finally:
        await anyio.to_thread.run_sync(postgres.start)
    _, entries, again = await anyio.to_thread.run_sync(opened, store, "s1", 60)
    assert entries == []
    again.close()
    await anyio.to_thread.run_sync(store.close)


def fill(place: Place, store: object) -> Callable[[], None]:
    """Leave the database no room for entries that are about a flood; undone by what is returned."""
    database = tables_of(store)
    if place.kind == "sqlite":
        [(pages,)] = database._writer.execute("PRAGMA page_count").fetchall()
        database._writer.execute(f"PRAGMA max_page_count = {pages}")
        return lambda: database._writer.execute("PRAGMA max_page_count = 1000000")
    with database.transaction() as tables:
        tables.rows(
            "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS"
            " $$ BEGIN RAISE EXCEPTION 'no space left on device' USING ERRCODE = 'disk_full'; END $$"
        )
        tables.rows(
            "CREATE TRIGGER full_disk BEFORE INSERT ON acp_entries FOR EACH ROW"
            " WHEN (new.entry LIKE '%%flood%%') EXECUTE FUNCTION full_disk()"
        )

    def undo() -> None:
        with database.transaction() as tables:
            tables.rows("DROP TRIGGER full_disk ON acp_entries")

    return undo


async def test_a_full_disk_is_told_keeps_no_other_session_waiting_and_leaves_no_hole(place: Place) -> None:
    store = place.open()
    one, other = store.create(CARD), store.create(Card("s2", "/w"))
    one.append({"kept": 0})
    await one.kept()
    undo = fill(place, store)
    one.append({"kept": 1, "flood": "x" * 100_000})
    other.append({"kept": 0})
    with pytest.raises(OSError, match=r"(?i)full|space"):
        await one.kept()
    await other.kept()
    with pytest.raises(OSError, match=r"(?i)full|space"):
        await one.kept()
    undo()
    one.append({"kept": 2})
    await one.kept()
    assert [entry["kept"] for entry in store.read("s1")[1]] == [0, 1, 2]
    assert store.read("s2")[1] == [{"kept": 0}]
    undo = fill(place, store) if place.kind == "sqlite" else None
    one.append({"kept": 3})
    for log in (one, other):
        log.close()
    if undo is not None:
        undo()
    store.open("s1")[2].close()


async def test_a_log_that_cannot_be_written_for_too_long_takes_no_more(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_UNWRITTEN", 150_000)
    store = place.open()
    log = store.create(CARD)
    undo = fill(place, store)
    for _ in range(2):
        log.append({"flood": "x" * 100_000})
        with pytest.raises(OSError, match=r"(?i)full|space"):
            await log.kept()
    with pytest.raises(OSError, match="its log ends here"):
        log.append({"kept": 1})
    undo()
    with pytest.raises(OSError, match="its log ends here"):
        log.append({"kept": 2})
    await log.kept()
    assert [len(entry) for entry in store.read("s1")[1]] == [1, 1]
    log.close()


# Many at once ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_sessions_write_side_by_side_and_each_keeps_its_own_order(place: Place) -> None:
    store = place.open()
    logs: dict[str, Log] = {f"s{n}": store.create(Card(f"s{n}", "/w")) for n in range(30)}

    async def write(log: Log) -> None:
        for n in range(40):
            log.append({"kept": n})
            await log.kept()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for log in logs.values():
                group.start_soon(write, log)
    for id, log in logs.items():
        log.close()
        assert store.read(id)[1] == [{"kept": n} for n in range(40)]


# Versions of the tables ----------------------------------------------------------------------------------------


def test_tables_of_an_earlier_version_become_ours_with_all_that_is_in_them(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = place.open()
    log = old.create(CARD)
    log.append({"kept": 1})
    log.close()
    old.close()
    more = (*schema.STEPS, ("ALTER TABLE acp_sessions ADD COLUMN mood {text}", "UPDATE acp_sessions SET mood = 'fine'"))
    monkeypatch.setattr(schema.upgrade, "__kwdefaults__", {"steps": more})
    new = place.open()
    assert new.read("s1") == (CARD, [{"kept": 1}])
    with tables_of(new).transaction() as tables:
        assert tables.rows("SELECT mood FROM acp_sessions") == [("fine",)]
    new.close()
    place.open().close()
    monkeypatch.undo()
    with pytest.raises(StoreTooNew, match="are of version 2; this release knows versions up to 1"):
        place.open()


def test_a_step_that_fails_leaves_the_tables_as_they_were(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    old = place.open()
    old.create(CARD).close()
    old.close()
    more = (*schema.STEPS, ("ALTER TABLE acp_sessions ADD COLUMN mood {text}", "UPDATE nothing SET a = 1"))
    monkeypatch.setattr(schema.upgrade, "__kwdefaults__", {"steps": more})
    with pytest.raises(ValueError, match="nothing"):
        place.open()
    monkeypatch.undo()
    again = place.open()
    assert again.card("s1") == CARD
    with pytest.raises(OSError, match="mood"), tables_of(again).transaction() as tables:
        tables.rows("SELECT mood FROM acp_sessions")


def test_many_processes_may_begin_at_once_where_there_is_nothing_yet(place: Place) -> None:
    others = [python(place, "print('open', flush=True)\nstore.close()") for _ in range(4)]
    assert [word(other) for other in others] == ["open"] * 4
    for other in others:
        other.communicate(timeout=60)


def test_a_file_that_is_no_database_is_refused(tmp_path: Any) -> None:
    (tmp_path / "notes.db").write_bytes(b"these are notes, and nothing else" * 100)
    with pytest.raises(ValueError, match="not a database"):
        open_store(f"sqlite:{tmp_path / 'notes.db'}")
    with sqlite3.connect(tmp_path / "other.db") as other:
        other.execute("CREATE TABLE mine (n)")
    other.close()
    open_store(f"sqlite:{tmp_path / 'other.db'}").close()


def test_a_database_that_is_not_there_is_said_so(tmp_path: Any) -> None:
    with pytest.raises(ValueError, match=r"sessions cannot be kept there: .*(No such file|refused)"):
        open_store(f"postgresql:///acp?host={tmp_path}")
