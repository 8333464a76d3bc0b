"""Server-sent events, without any I/O: one event is one JSON text (WHATWG HTML 9.2; the transport RFD).

A line that begins with a colon is a comment, which whoever does not know it passes over. Ours say `heartbeat N`, that
something will come every N seconds at least, and `close CODE REASON`, as a WebSocket does in its last frame.
"""

from __future__ import annotations

from dataclasses import dataclass

from .lines import LONGEST_LINE, Oversize

MEDIA_TYPE = "text/event-stream"
LONGEST_ID = 200
"""Bytes of the id of an event; a longer one is none."""
_ROOM = 16
"""Bytes that a line of data may have besides its data."""


@dataclass(frozen=True, slots=True)
class Event:
    """A text, and the id after which a stream that broke goes on; empty where the server gives none."""

    text: bytes
    id: str = ""


@dataclass(frozen=True, slots=True)
class Comment:
    """What one end of a stream tells the other beside the events."""

    words: str


def encode_event(text: bytes, number: int) -> bytes:
    """One event; `text` has no line ends in it."""
    return b"id: %d\ndata: %b\n\n" % (number, text)


def encode_comment(words: str) -> bytes:
    return f": {' '.join(words.split())}\n\n".encode()


class EventBuffer:
    """Cuts a stream of bytes into events. A text that is longer than the limit is skipped and reported. O(n) in all."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self._limit = limit
        self._line = bytearray()
        self._lost = 0
        self._data: list[bytes] = []
        self._size = 0
        self._id = ""
        self._began = self._returned = False

    def feed(self, data: bytes) -> list[Event | Comment | Oversize]:
        """What `data` completes."""
        found: list[Event | Comment | Oversize] = []
        *ends, rest = self._with_newlines(data).split(b"\n")
        for end in ends:
            if self._line or self._lost:
                self._hold(end)
                end = bytes(self._line)
            if not self._began:
                self._began, end = True, end.removeprefix(b"\xef\xbb\xbf")
            if end or self._lost:
                self._take(end, found)
            else:
                self._finish(found)
            self._line.clear()
            self._lost = 0
        self._hold(rest)
        return found

    def _with_newlines(self, data: bytes) -> bytes:
        """The data with one kind of line end."""
        if self._returned:
            data = data.removeprefix(b"\n")
            self._returned = not data
        if b"\r" in data:
            self._returned = data.endswith(b"\r")
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return data

    def _hold(self, part: bytes) -> None:
        """Keep the beginning of a line."""
        if self._lost or len(self._line) + len(part) > self._limit + _ROOM:
            self._lost += len(self._line) + len(part)
            self._line.clear()
        else:
            self._line += part

    def _take(self, line: bytes, found: list[Event | Comment | Oversize]) -> None:
        if self._lost:
            self._size += self._lost
        elif line.startswith(b":"):
            found.append(Comment(line[1:LONGEST_ID].decode(errors="replace").strip()))
        else:
            name, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if name == b"data":
                self._size += len(value) + 1
                if self._size <= self._limit + 1:
                    self._data.append(value)
            elif name == b"id" and len(value) <= LONGEST_ID and value.isascii() and b"\0" not in value:
                self._id = value.decode()

    def _finish(self, found: list[Event | Comment | Oversize]) -> None:
        """A blank line: the event is whole."""
        if self._size > self._limit + 1:
            found.append(Oversize(self._size, self._limit))
        elif self._data:
            text = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
            if text.strip():
                found.append(Event(text, self._id))
        self._data, self._size = [], 0
