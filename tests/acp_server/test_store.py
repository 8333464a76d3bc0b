"""What every store promises, whatever it keeps sessions in."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stores import KINDS, ON_DISK, Place, opened, place_fixture, place_of, python, word

from acp_server.storage.store import Card, Entry, Log, Query, SessionBusy, SessionUnknown, Store

CARD = Card("s1", "/w", ("/x",), "a title", "2026-01-02T03:04:05.678Z")

place = pytest.fixture(params=KINDS)(place_fixture)
on_disk = pytest.fixture(params=ON_DISK)(place_fixture)


@pytest.fixture
def store(place: Place) -> Store:
    return place.open()


def chunk(text: str) -> Entry:
    said = {"=": "MessageChunk", "role": "agent", "content": {"=": "TextBlock", "text": text}, "message_id": "m"}
    return {"update": said}


def said(entries: Sequence[Entry]) -> str:
    """The text of chunks, however many entries they are in."""
    return "".join(entry["update"]["content"]["text"] for entry in entries)


def test_what_was_kept_is_there_when_the_session_is_opened_again(store: Store) -> None:
    log = store.create(CARD, [{"setting": "mode", "value": "all"}])
    log.append({"update": {"a": "ä\n\0"}}, {"message": {"b": None}})
    log.sync(replace(CARD, title="another"))
    log.close()
    card, entries, again = store.open("s1")
    assert card == replace(CARD, title="another") == store.card("s1")
    assert entries == [{"setting": "mode", "value": "all"}, {"update": {"a": "ä\n\0"}}, {"message": {"b": None}}]
    again.append({"kept": 1})
    again.close()
    assert store.read("s1") == (card, [*entries, {"kept": 1}])


def test_another_that_opens_the_store_finds_what_this_one_kept(place: Place) -> None:
    log = place.open().create(CARD, [{"kept": 0}])
    log.append({"kept": 1})
    log.sync(CARD)
    other = place.open()
    assert other.read("s1") == (CARD, [{"kept": 0}, {"kept": 1}])
    assert [card.id for card in other.cards()] == ["s1"]
    with pytest.raises(SessionBusy):
        other.open("s1")
    with pytest.raises(SessionBusy):
        other.set_card(replace(CARD, archived=True))
    log.close()
    other.open("s1")[2].close()
    other.set_card(replace(CARD, archived=True))
    assert place.open().card("s1").archived


def test_one_writer_holds_a_session_and_others_may_look(store: Store) -> None:
    log = store.create(CARD)
    log.append({"update": 1})
    with pytest.raises(SessionBusy):
        store.open("s1")
    with pytest.raises(SessionBusy):
        store.set_card(CARD)
    log.sync(CARD)
    assert store.read("s1")[1] == [{"update": 1}]
    log.close()
    log.close()
    store.open("s1")[2].close()


@pytest.mark.parametrize("id", ["nobody", "", "../s1", "../../etc", "a/b", ".", "x" * 500, "\0", "s1\n", "s1'; --"])
def test_a_session_that_nobody_keeps_is_unknown(store: Store, id: str) -> None:
    store.create(CARD).close()
    calls: list[Callable[[], object]] = [lambda: store.open(id), lambda: store.read(id), lambda: store.card(id)]
    calls.append(lambda: store.set_card(replace(CARD, id=id)))
    for call in calls:
        with pytest.raises(SessionUnknown):
            call()
    assert not store.want(id)
    store.delete(id)
    assert [card.id for card in store.cards()] == ["s1"]
    if id not in ("nobody", "."):
        with pytest.raises(ValueError, match="no session can be called"):
            store.create(replace(CARD, id=id))


def test_a_list_has_the_last_changed_first_and_what_was_asked_for(store: Store) -> None:
    cards = [
        Card(f"s{n}", f"/w{n % 2}", updated_at=f"2026-01-0{n}T00:00:00.000Z", archived=n == 4, owner=o)
        for n, o in ((1, None), (3, "bob"), (2, None), (4, None), (5, "bob"))
    ]
    for card in cards:
        store.create(card).close()

    def ids(**wanted: object) -> list[str]:
        return [card.id for card in store.cards(Query(**wanted))]  # pyright: ignore[reportArgumentType]

    assert ids() == ["s5", "s4", "s3", "s2", "s1"]
    assert ids(owner="bob") == ["s5", "s3"]
    assert ids(owner="") == ["s4", "s2", "s1"]
    assert ids(cwd="/w0") == ["s4", "s2"]
    assert ids(archived=True) == ["s4"]
    assert ids(archived=False, most=2) == ["s5", "s3"]
    assert ids(after=("2026-01-03T00:00:00.000Z", "s3"), most=1) == ["s2"]
    assert ids(owner="", cwd="/w1", archived=False) == ["s1"]
    assert store.cards(Query(owner="bob")) == [cards[4], cards[1]]
    for _ in range(2):
        store.delete("s3")
    assert ids() == ["s5", "s4", "s2", "s1"]


def test_sessions_changed_in_one_instant_are_listed_once_over_all_pages(store: Store) -> None:
    ids = ["b", "B", "a.", "a-", "a_", "A", "10", "9", "Z"]
    for id in ids:
        store.create(Card(id, "/w", updated_at="2026-01-01T00:00:00.000Z")).close()
    seen, after = list[str](), None
    while page := store.cards(Query(after=after, most=2)):
        seen += [card.id for card in page]
        after = page[-1].updated_at, page[-1].id
    assert seen == sorted(ids, reverse=True)


def test_a_session_that_is_held_is_not_deleted_and_afterwards_does_not_come_back(store: Store) -> None:
    log = store.create(CARD)
    with pytest.raises(SessionBusy):
        store.delete("s1")
    log.append({"update": 1})
    log.sync(CARD)
    log.close()
    assert store.read("s1")[1] == [{"update": 1}]
    store.delete("s1")
    log.append({"update": 2})
    log.close()
    assert store.cards() == []
    with pytest.raises(SessionUnknown):
        store.read("s1")
    store.create(CARD).close()
    assert store.read("s1")[1] == []


pieces = st.lists(st.one_of(st.integers(0, 9).map(lambda n: {"kept": n}), st.text(max_size=40).map(chunk)), max_size=8)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(pieces, max_size=4))
def test_a_log_says_what_was_appended_in_its_order_however_it_was_cut(store: Store, batches: list[list[Entry]]) -> None:
    id = f"s{random.randrange(10**9)}"
    log = store.create(replace(CARD, id=id))
    for number, batch in enumerate(batches):
        if number == 2:
            log.close()
            log = store.open(id)[2]
        log.append(*batch)
    log.close()
    wanted, found = [entry for batch in batches for entry in batch], store.read(id)[1]
    assert [entry for entry in found if "kept" in entry] == [entry for entry in wanted if "kept" in entry]
    chunks = [entry for entry in wanted if "update" in entry]
    assert said([entry for entry in found if "update" in entry]) == said(chunks)
    store.delete(id)


# More than one process ------------------------------------------------------------------------------------


def test_another_process_cannot_open_what_we_hold(on_disk: Place) -> None:
    log = on_disk.open(1).create(CARD)
    program = "try: store.open('s1')\nexcept SessionBusy: print('busy')\nelse: print('open')\n"
    with python(on_disk, program) as process:
        assert word(process) == "busy"
    log.close()
    with python(on_disk, program) as process:
        assert word(process) == "open"


def test_a_process_killed_in_the_middle_of_writing_leaves_a_beginning_with_all_that_was_kept(on_disk: Place) -> None:
    program = """
import anyio
async def main():
    log = store.create(Card("s1", "/w"))
    for n in range(10**6):
        log.append({"update": n, "fill": "x" * (n % 700)}, {"kept": n})
        await log.kept()
        print(n, flush=True)
anyio.run(main)
"""
    store = on_disk.open(1)
    for _ in range(2):
        with python(on_disk, program) as process:
            words = [word(process) for _ in range(random.randrange(50, 150))]
            process.send_signal(signal.SIGKILL)
            words += process.communicate()[0].split("\n")[:-1]
        card, entries, log = opened(store, "s1", within=3)
        log.append({"last": True})
        log.close()
        numbers = [entry.get("update", entry.get("kept")) for entry in entries]
        assert numbers == [n // 2 for n in range(len(entries))]
        assert len(entries) >= 2 * (int(words[-1]) + 1)
        assert store.read("s1")[1] == [*entries, {"last": True}]
        assert card.cwd == "/w"
        store.delete("s1")


def test_a_session_goes_to_one_of_many_that_want_it(on_disk: Place) -> None:
    on_disk.open(1).create(CARD).close()
    program = """
print('ready', flush=True)
sys.stdin.readline()
try: held = store.open('s1')
except SessionBusy: print('busy', flush=True)
else: print('mine', flush=True)
sys.stdin.readline()
"""
    many = [python(on_disk, program) for _ in range(4)]
    assert [word(process) for process in many] == ["ready"] * 4
    for process in many:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    answers = [word(process) for process in many]
    for process in many:
        process.communicate("end\n", timeout=30)
    assert sorted(answers) == ["busy", "busy", "busy", "mine"]


def test_threads_of_one_process_do_not_open_a_session_twice(place: Place) -> None:
    store = place.open()
    store.create(CARD).close()
    mine = list[Log]()
    start = threading.Barrier(8)

    def try_it() -> None:
        start.wait()
        with suppress(SessionBusy):
            mine.append(store.open("s1")[2])

    threads = [threading.Thread(target=try_it) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(mine) == 1
    mine[0].close()


# Long logs, bad files ---------------------------------------------------------------------------------------


def test_a_log_of_a_hundred_thousand_entries_is_read_in_seconds(on_disk: Place) -> None:
    store = on_disk.open()
    log = store.create(CARD)
    for start in range(0, 100_000, 1000):
        log.append(*({"kept": n} for n in range(start, start + 1000)))
    log.close()
    began = time.process_time()
    _, entries, again = store.open("s1")
    assert time.process_time() - began < 10
    again.close()
    assert entries == [{"kept": n} for n in range(100_000)]


@pytest.mark.parametrize("kind", ["file", "sqlite"])
def test_only_its_owner_can_read_what_was_said(tmp_path: Path, kind: str) -> None:
    with place_of(kind, tmp_path) as place:
        log = place.open().create(CARD)
        log.append({"kept": 1})
        kept = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(kept) >= 3
        assert [oct(os.stat(path).st_mode & 0o077) for path in kept] == ["0o0"] * len(kept)
        log.close()
