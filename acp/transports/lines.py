"""Newline framing, without any I/O: bytes in, one JSON text a line out.

A line may be as long as the limit. A longer one is skipped to its end, holding no more than the limit in memory, and
reported as `Oversize`, so that the conversation can answer it and go on.
"""

from __future__ import annotations

from dataclasses import dataclass

LONGEST_LINE = 32 * 2**20  # bytes


@dataclass(frozen=True, slots=True)
class Oversize:
    """A line of `size` bytes, more than `limit`."""

    size: int
    limit: int

    def __str__(self) -> str:
        return f"a message of {self.size} bytes is over the limit of {self.limit}"


class LineBuffer:
    """Cuts a stream of bytes at `\\n`; a `\\r` before it is dropped, and so are blank lines. O(n) in all."""

    def __init__(self, limit: int = LONGEST_LINE) -> None:
        self.limit = limit
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes | Oversize]:
        """The lines that `data` completes."""
        ends = data.split(b"\n")
        rest = ends.pop()
        # Nearly every line comes whole: nothing of it was held before, and it is within the limit.
        lines = [self._complete(end) if self._size or len(end) > self.limit else end for end in ends]
        if rest:
            self._hold(rest)
        return [line for line in map(_trimmed, lines) if line]

    def finish(self) -> list[bytes | Oversize]:
        """The stream ended: a last line without its newline."""
        line = _trimmed(self._complete(b""))
        return [line] if line else []

    def _hold(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= self.limit:
            self._parts.append(part)
        else:
            self._parts.clear()

    def _complete(self, end: bytes) -> bytes | Oversize:
        self._hold(end)
        size, line = self._size, b"".join(self._parts)
        self._parts, self._size = [], 0
        return line if size <= self.limit else Oversize(size, self.limit)


def _trimmed(line: bytes | Oversize) -> bytes | Oversize | None:
    """A line without its carriage return; None for a blank one."""
    if type(line) is bytes:
        return line.rstrip(b"\r") if line.strip() else None
    return line
