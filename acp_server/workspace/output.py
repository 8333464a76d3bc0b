"""A command's output, kept in bounded memory and made fit to be read."""

from __future__ import annotations

import re
import threading
from collections import deque

from ..wording import joined

_CONTINUATION = bytes(range(0x80, 0xC0))
_ESCAPE = re.compile(
    r"\x1b(?:\[[0-?]{0,64}[ -/]{0,8}[@-~]"  # CSI: colours, cursor
    r"|[\]PX^_][^\x07\x1b]{0,4096}(?:\x07|\x1b\\)?"  # OSC and other strings
    r"|[ -/]{0,8}[0-~])"
)
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


class Output:
    """The first and last `keep` bytes of what was added. Safe to read from another thread."""

    def __init__(self, keep: int) -> None:
        self._keep = keep
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._lost = 0
        self._lost_bytes = 0
        self._lock = threading.Lock()
        self.size = 0

    def add(self, data: bytes) -> None:
        with self._lock:
            self.size += len(data)
            room = self._keep - len(self._head)
            self._head += data[:room]
            if rest := data[room:] if room > 0 else data:
                self._tail.append(rest)
                self._tail_size += len(rest)
            while self._tail and self._tail_size - len(self._tail[0]) >= self._keep:
                dropped = self._tail.popleft()
                self._tail_size -= len(dropped)
                self._lost += _characters(dropped)
                self._lost_bytes += len(dropped)

    def since(self, seen: int, most: int) -> tuple[bytes, int, int]:
        """What was added behind the first `seen` bytes: its last `most`, how many were left out, how many there are.

        What is left out ends with a line, if there is one.
        """
        with self._lock:
            new = self.size - seen
            if new <= 0:
                return b"", 0, seen
            held = bytes(self._head) + b"".join(self._tail) if not self._lost_bytes else b"".join(self._tail)
            piece = held[-min(new, most) :]
            if len(piece) < new:
                piece = piece[piece.find(b"\n") + 1 :]
            return piece, new - len(piece), self.size

    def kept(self) -> tuple[bytes, int, bytes]:
        """The first bytes, how many after them were lost, and the last ones."""
        with self._lock:
            return bytes(self._head), self._lost_bytes, b"".join(self._tail)

    def text(self, limit: int) -> str:
        """At most about `limit` characters: the head, how much was left out, the tail. No final line end."""
        with self._lock:
            head, tail, lost = bytes(self._head), b"".join(self._tail), self._lost
        if not lost:
            whole = clean(head + tail)
            if len(whole) <= limit:
                return whole
            half = max(0, limit - 50) // 2
            return joined(whole[: half + 1], len(whole) - 2 * half - 1, whole[len(whole) - half :])
        half = max(1, limit - 50) // 2
        first, last = clean(head), clean(tail)
        left_out = lost + max(0, len(first) - half) + max(0, len(last) - half)
        return joined(first[:half], left_out, last[-half:])

    @property
    def truncated(self) -> bool:
        return self._lost > 0


def clean(data: bytes) -> str:
    """Output as a terminal would leave it: no escape sequences, no overwritten lines, no control bytes."""
    text = data.decode("utf-8", "replace")
    text = _ESCAPE.sub("", text).replace("\r\n", "\n")
    text = "\n".join(_overwrite(line) for line in text.split("\n"))
    return _CONTROL.sub("\ufffd", text).removesuffix("\n")


def _overwrite(line: str) -> str:
    """A progress bar's last state."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line


def _characters(data: bytes) -> int:
    return len(data.translate(None, _CONTINUATION))
