"""Newline framing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from acp.transports.lines import LineBuffer, Oversize

lines = st.lists(st.binary(min_size=1, max_size=30).filter(lambda b: b"\n" not in b and b.strip() and b[-1:] != b"\r"))


@given(lines, st.data())
def test_lines_come_out_whole_however_the_stream_is_cut(expected: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + data.draw(st.sampled_from([b"\n", b"\r\n", b"\n\n"])) for line in expected)
    buffer, found = LineBuffer(), list[bytes | Oversize]()
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        found += buffer.feed(stream[:size])
        stream = stream[size:]
    assert found + buffer.finish() == expected


def test_a_line_over_the_limit_is_reported_with_its_size_and_the_next_one_is_whole() -> None:
    buffer = LineBuffer(limit=10)
    assert buffer.feed(b"x" * 8) == []
    assert buffer.feed(b"x" * 8) == []
    assert buffer.feed(b"x\n{}\n") == [Oversize(17, 10), b"{}"]


def test_a_line_too_long_is_not_kept_in_memory() -> None:
    buffer = LineBuffer(limit=1000)
    for _ in range(100):
        buffer.feed(b"x" * 1000)
    assert sum(map(len, buffer._parts)) <= 1000


def test_a_last_line_needs_no_newline() -> None:
    buffer = LineBuffer()
    assert buffer.feed(b'{"a":1}') == []
    assert buffer.finish() == [b'{"a":1}']
