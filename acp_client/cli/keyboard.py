"""The user's keyboard, a line at a time."""

from __future__ import annotations

import os
import sys
import termios
from contextlib import suppress

import anyio


def has_terminal() -> bool:
    """Whether there is somebody to ask, and something to show the question on."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr))


def forget_typed() -> None:
    """Throw away what was typed before the question was shown: it is no answer to it."""
    with suppress(termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


async def read_line() -> str | None:
    """A line of stdin; None at its end. It can be cancelled, unlike `input`."""
    stdin = sys.stdin.fileno()
    await anyio.wait_readable(stdin)
    return os.read(stdin, 4096).decode(errors="replace") or None
