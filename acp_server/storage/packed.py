"""A session's log in memory, packed: entries are lines of JSON, and a block of them that is full is compressed.

As objects, the entries of short messages would take twenty times what they say.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from acp.json_text import dumps, loads

from .record import joined
from .store import Entry

BLOCK: Final = 2**15
"""Bytes of lines that are compressed together: in less than a millisecond."""
FASTEST: Final = 1


class PackedLog:
    """Entries, in order, chunks of one message joined. Each iteration gives copies."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._blocks: list[bytes] = []
        self._lines = bytearray()
        self._last: Entry | None = None
        self._last_line = b""
        self.extend(entries)

    def extend(self, entries: Iterable[Entry]) -> None:
        """Raises ValueError for an entry that is not JSON; those before it are kept."""
        for entry in entries:
            both = None if self._last is None else joined(self._last, entry)
            line = dumps(entry if both is None else both)
            if both is None:
                self._put_away()
            self._last, self._last_line = both or entry, line

    def __iter__(self) -> Iterator[Entry]:
        for block in (*map(zlib.decompress, self._blocks), bytes(self._lines), self._last_line):
            yield from map(loads, block.splitlines())

    def _put_away(self) -> None:
        """The last entry is over: nothing more joins it."""
        if self._last is not None:
            self._lines += self._last_line
            self._lines += b"\n"
        if len(self._lines) >= BLOCK:
            self._blocks.append(zlib.compress(self._lines, FASTEST))
            self._lines = bytearray()
