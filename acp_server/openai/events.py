"""Server-sent events out of bytes, as far as streamed answers use them: the data of each event, and nothing else."""

from __future__ import annotations

import re

LARGEST_EVENT = 2**24
"""Bytes of one event. A tool call that writes a whole file may come as one."""

BOM = b"\xef\xbb\xbf"
_LINE = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """An event has more than `LARGEST_EVENT` bytes."""


class Events:
    """Bytes go in as they come, the data of whole events comes out.

    Lines end with LF, CRLF or CR; comments, event names and ids are skipped; several `data` lines are joined by LF.
    """

    def __init__(self, largest: int = LARGEST_EVENT) -> None:
        self._largest = largest
        self._rest = bytearray()
        self._searched = 0
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def feed(self, data: bytes) -> list[str]:
        """The events that these bytes complete. Raises EventTooLarge."""
        self._rest += data
        if not self._begun:
            if len(self._rest) < len(BOM) and BOM.startswith(self._rest):
                return []
            self._begun = True
            if self._rest.startswith(BOM):
                del self._rest[: len(BOM)]
        found: list[str] = []
        at = 0
        for end in _LINE.finditer(self._rest, self._searched):
            if end[0] == b"\r" and end.end() == len(self._rest):
                break  # the LF of this line end may be still to come
            found += self._line(bytes(self._rest[at : end.start()]))
            at = end.end()
        del self._rest[:at]
        self._searched = max(0, len(self._rest) - 1)
        if self._size + len(self._rest) > self._largest:
            raise EventTooLarge
        return found

    def end(self) -> list[str]:
        """The event that the end of the stream completes: some servers leave out the last empty line."""
        rest = bytes(self._rest).rstrip(b"\r")
        self._rest.clear()
        return [*self._line(rest), *self._line(b"")] if rest else self._line(b"")

    def _line(self, line: bytes) -> list[str]:
        if not line:
            data, self._data, self._size = self._data, [], 0
            return [b"\n".join(data).decode("utf-8", "replace")] if data else []
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
        return []
