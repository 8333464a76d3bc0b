"""A log in memory gives back what was put in, and takes little more than what is said."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp.json_text import dumps
from acp.updates import MessageChunk, TextBlock
from acp_server.storage.history import entry_of
from acp_server.storage.packed import BLOCK, PackedLog
from acp_server.storage.record import entries_of_texts
from acp_server.storage.store import Entry


def said(text: str, message: int) -> Entry:
    entry = entry_of(MessageChunk("agent", TextBlock(text), f"t1.{message}"))
    assert entry is not None
    return entry


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
entries = st.one_of(
    st.builds(said, texts, st.integers(1, 2)),
    st.builds(lambda value: {"setting": "model", "value": value}, texts),
    st.builds(lambda size: {"setting": "large", "value": "\r\u2028x" * size}, st.integers(0, BLOCK)),
)


@given(st.lists(entries, max_size=30))
def test_a_log_gives_back_its_entries_joined(given: list[Entry]) -> None:
    log = PackedLog(given[:3])
    log.extend(given[3:])
    assert [*log] == entries_of_texts("s", map(dumps, given))
    assert [*log] == [*log]


def test_what_is_read_is_a_copy() -> None:
    log = PackedLog([{"setting": "model", "value": ["a"]}])
    [entry] = log
    entry["value"].append("b")
    assert [*log] == [{"setting": "model", "value": ["a"]}]


def test_an_entry_that_is_no_json_is_refused_and_those_around_it_are_kept() -> None:
    log = PackedLog([said("one", 1)])
    with pytest.raises(ValueError, match="not a JSON value"):
        log.extend([said("two", 2), {"setting": object()}])
    log.extend([said(" more", 2)])
    assert [*log] == [said("one", 1), said("two more", 2)]


def test_short_messages_take_little_more_than_what_they_say() -> None:
    tracemalloc.start()
    try:
        log = PackedLog()
        before = tracemalloc.get_traced_memory()[0]
        for number in range(20_000):
            log.extend([said(f"{number} ", number)])
        assert tracemalloc.get_traced_memory()[0] - before < 20_000 * 20  # each says 6 bytes, under an id of 8
    finally:
        tracemalloc.stop()
    assert sum(1 for _ in log) == 20_000
