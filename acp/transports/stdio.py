"""Our own stdin and stdout as a transport.

stdout belongs to the wire: its descriptor is moved away, and descriptor 1 then leads to stderr. So a stray `print`, in
Python, in a C library or in a child process, lands in the log and can tear no message.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from .descriptors import DescriptorTransport
from .lines import LONGEST_LINE


@asynccontextmanager
async def stdio_transport(*, limit: int = LONGEST_LINE) -> AsyncGenerator[DescriptorTransport]:
    """This process's stdin and stdout, which nothing else may use while the block lasts.

    A stdin that is closed reads as ended; a stdout that is closed swallows what is sent.
    """
    _flush_stdout()
    nothing = os.open(os.devnull, os.O_RDWR)
    # Python has no stream for what was closed at the start; that number may belong to another file by now.
    standard = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    has_stdin, has_stdout, has_stderr = (stream is not None for stream in standard)
    reading = _own(0 if has_stdin else nothing, os.O_RDONLY)
    writing = _own(1 if has_stdout else nothing, os.O_WRONLY)
    kept = os.dup(1 if has_stdout else nothing)
    if has_stdin:
        os.dup2(nothing, 0)  # children and stray input() calls read nothing, not the wire
    if has_stdout:
        os.dup2(2 if has_stderr else nothing, 1)
    os.close(nothing)
    transport = DescriptorTransport(reading, writing, limit=limit)
    try:
        yield transport
    finally:
        await transport.aclose()
        _flush_stdout()
        if has_stdout:
            os.dup2(kept, 1)
        os.close(kept)


def _own(fd: int, access: int) -> int:
    """The same file, and of a pipe an end of our own, which may be in a mode that others do not share (Linux)."""
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        try:
            return os.open(f"/proc/self/fd/{fd}", access | os.O_NONBLOCK)
        except OSError:
            pass
    return os.dup(fd)


def _flush_stdout() -> None:
    if sys.stdout is not None:  # pyright: ignore[reportUnnecessaryComparison]
        sys.stdout.flush()
