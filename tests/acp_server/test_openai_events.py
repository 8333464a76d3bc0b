"""Server-sent events, however they are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acp_server.openai.events import Events, EventTooLarge


def events(*pieces: bytes) -> list[str]:
    reader = Events()
    return [event for piece in pieces for event in reader.feed(piece)] + reader.end()


def test_data_lines_are_joined_and_everything_else_is_skipped() -> None:
    stream = b": comment\nevent: message\nid: 7\ndata: a\ndata:b\nretry: 1\n\n:\n\ndata:  c\n\n"
    assert events(stream) == ["a\nb", " c"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_all_three_line_ends_are_line_ends(end: bytes) -> None:
    assert events(end.join([b"data: a", b"", b"data: b", b"", b""])) == ["a", "b"]


def test_a_byte_order_mark_is_skipped_and_a_missing_last_line_end_is_forgiven() -> None:
    assert events(b"\xef", b"\xbb\xbfdata: a\n\ndata: b") == ["a", "b"]
    assert events(b"data: a\n\ndata: b\r") == ["a", "b"]


@given(st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=("Cs",)))), st.data())
def test_wherever_it_is_cut_the_events_are_the_same(texts: list[str], data: st.DataObject) -> None:
    end = data.draw(st.sampled_from(["\n", "\r\n", "\r"]))
    stream = "".join(f"data: {text}{end}{end}" for text in texts).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert events(*pieces) == texts


def test_an_event_without_an_end_is_refused() -> None:
    for stream in (b"data: " + b"x" * 100, b"data: x\n" * 100):
        reader = Events(largest=64)
        with pytest.raises(EventTooLarge):
            reader.feed(stream)
