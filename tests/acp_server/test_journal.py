"""Sessions in files: what they survive."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from acp_server.storage.journal import FORMAT, FileStore
from acp_server.storage.store import Card, StoreTooNew

CARD = Card("s1", "/w")


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


@pytest.mark.parametrize("cut", range(1, 14))
def test_a_log_torn_at_any_byte_keeps_all_that_was_whole(files: FileStore, cut: int) -> None:
    log = files.create(CARD)
    log.append({"update": 1}, {"update": 2})
    log.close()
    path = files.directory / "s1.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    _, entries, again = files.open("s1")
    again.append({"update": 3})
    again.close()
    assert entries == ([{"update": 1}] if cut <= len('{"update":2}\n') else [])
    assert files.read("s1")[1] == [*entries, {"update": 3}]


def test_files_that_are_none_of_ours_are_not_listed(files: FileStore) -> None:
    files.create(CARD).close()
    (files.directory / "notes.json").write_text("[1, 2]")
    (files.directory / "half.json").write_text('{"cwd": ')
    assert [card.id for card in files.cards()] == ["s1"]


def test_a_disk_that_is_full_for_a_while_leaves_no_hole_in_the_log(tmp_path: Path) -> None:
    program = """
import resource, sys
from acp_server.storage.journal import FileStore
from acp_server.storage.store import Card
log = FileStore(sys.argv[1]).create(Card("s1", "/w"))
limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
limit(1000)
refused = 0
for n in range(100):
    try: log.append({"kept": n, "fill": "x" * 30})
    except OSError: refused += 1
try: log.sync(Card("s1", "/w"))
except OSError: refused += 1
limit(resource.RLIM_INFINITY)
log.append({"kept": 100})
log.sync(Card("s1", "/w", title="saved"))
print(refused)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True, timeout=60)
    assert int(done.stdout) > 50
    card, entries = FileStore(tmp_path).read("s1")
    assert [entry["kept"] for entry in entries] == [*range(101)]
    assert card.title == "saved"


def test_a_log_that_could_not_be_written_for_too_long_ends_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = """
import resource, sys
from acp_server.storage import journal
from acp_server.storage.store import Card
journal.MOST_UNWRITTEN = 5000
log = journal.FileStore(sys.argv[1]).create(Card("s1", "/w"))
limit = lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
limit(1000)
for n in range(300):
    try: log.append({"kept": n, "fill": "x" * 30})
    except OSError: pass
limit(resource.RLIM_INFINITY)
try: log.append({"kept": 300})
except OSError as error: print(error)
try: log.close()
except OSError: print("told")
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], check=True, capture_output=True, timeout=60)
    assert b"a part of the log was lost" in done.stdout
    assert b"told" in done.stdout
    numbers = [entry["kept"] for entry in FileStore(tmp_path).read("s1")[1]]
    assert numbers == [*range(len(numbers))]
    assert 90 < len(numbers) < 300


def test_a_directory_that_a_later_release_wrote_is_refused_and_one_of_before_there_were_formats_is_not(
    files: FileStore,
) -> None:
    files.create(CARD).close()
    mark = files.directory / "format"
    assert int(mark.read_text()) == FORMAT
    mark.unlink()
    FileStore(files.directory).set_card(replace(CARD, title="old"))
    mark.write_text(f"{FORMAT + 1}\n")
    with pytest.raises(StoreTooNew, match=rf"is of format {FORMAT + 1}; this release knows formats up to {FORMAT}"):
        FileStore(files.directory)
    mark.write_text("soup")
    with pytest.raises(ValueError, match="does not say which format"):
        FileStore(files.directory)
