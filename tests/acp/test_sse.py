"""Server-sent events as bytes: whatever the pieces they come in, the same texts come out."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acp.transports import Oversize
from acp.transports.sse import Comment, Event, EventBuffer, encode_comment, encode_event


def fed(data: bytes, cuts: list[int] | None = None, limit: int = 1000) -> list[Event | Comment | Oversize]:
    buffer, found, start = EventBuffer(limit), list[Event | Comment | Oversize](), 0
    for cut in sorted(min(cut, len(data)) for cut in cuts or []):
        found += buffer.feed(data[start:cut])
        start = cut
    return found + buffer.feed(data[start:])


_TEXTS = (
    st.binary(min_size=1, max_size=60).map(lambda b: b.replace(b"\n", b" ").replace(b"\r", b" ")).filter(bytes.strip)
)
_CUTS = st.lists(st.integers(0, 600), max_size=20)


@given(st.lists(_TEXTS, max_size=8), _CUTS)
def test_what_was_encoded_comes_out_again(texts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(encode_event(text, n) for n, text in enumerate(texts, 1))
    assert fed(data, cuts) == [Event(text, str(n)) for n, text in enumerate(texts, 1)]


@given(st.sampled_from([b"\n", b"\r\n", b"\r"]), _CUTS)
def test_every_kind_of_line_end_is_read(end: bytes, cuts: list[int]) -> None:
    lines = [
        b"\xef\xbb\xbf: hello",
        b"event: x",
        b"data:1",
        b"",
        b"id: a",
        b"data: 2",
        b"data:  3",
        b"",
        b"",
        b"retry: 9",
        b"",
    ]
    data = end.join([*lines, b"data: 4", b"", b""])
    assert fed(data, cuts) == [Comment("hello"), Event(b"1"), Event(b"2\n 3", "a"), Event(b"4", "a")]


def test_what_is_not_whole_is_not_told() -> None:
    assert fed(b"data: 1\n") == []
    assert fed(b"data: 1") == []


@given(_CUTS)
def test_a_text_over_the_limit_is_reported_and_the_next_one_read(cuts: list[int]) -> None:
    data = b"data: " + b"x" * 500 + b"\n\ndata: 1\n\ndata: " + b"y" * 60 + b"\ndata: " + b"y" * 60 + b"\n\ndata: 2\n\n"
    first, one, second, two = fed(data, cuts, limit=100)
    assert isinstance(first, Oversize)
    assert isinstance(second, Oversize)
    assert (one, two) == (Event(b"1"), Event(b"2"))
    assert fed(b"data: " + b"x" * 100 + b"\n\n", cuts, limit=100) == [Event(b"x" * 100)]


def test_a_line_that_never_ends_holds_no_more_than_the_limit() -> None:
    buffer = EventBuffer(1000)
    for _ in range(1000):
        buffer.feed(b"data: " + b"x" * 994)
    assert len(buffer._line) <= 2000


def test_a_comment_is_one_line() -> None:
    assert fed(encode_comment("close 1000\nthe agent ended")) == [Comment("close 1000 the agent ended")]
