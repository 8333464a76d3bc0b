"""What a terminal has printed, as updates tell it: its beginning and its end, in bounded memory."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace

from acp.updates import UNSET, ExitStatus, Terminal, TerminalChunk

from ..workspace.output import Output

KEPT = 32 * 1024
"""Bytes that are kept of a terminal's beginning, and of its end."""


class Screen:
    """One terminal."""

    def __init__(self, id: str) -> None:
        self.about = Terminal(id)
        self._output = Output(KEPT)

    @property
    def ended(self) -> bool:
        return isinstance(self.about.exit, ExitStatus)

    def take(self, update: Terminal | TerminalChunk) -> None:
        """An update of this terminal."""
        if isinstance(update, TerminalChunk):
            self._output.add(_decoded(update.data))
            return
        if update.output is not UNSET:
            self._output = Output(KEPT)
            self._output.add(_decoded(update.output or ""))
        given = {name: getattr(update, name) for name in ("command", "cwd", "exit", "capabilities")}
        self.about = replace(self.about, **{name: value for name, value in given.items() if value is not UNSET})

    def text(self, limit: int) -> str:
        """What it shows, fit to be read, in about so many characters."""
        return self._output.text(limit)

    def whole(self) -> Terminal:
        """The one update that tells all of it."""
        return replace(self.about, output=encoded(printed(self._output)))


def printed(output: Output) -> bytes:
    """What was printed; of much the beginning and the end, and between them how much was left out."""
    head, lost, tail = output.kept()
    return head + (left_out(lost) if lost else b"") + tail


def left_out(size: int) -> bytes:
    """What stands for bytes that are not told."""
    return f"\r\n[… {size} bytes left out …]\r\n".encode()


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return b""
