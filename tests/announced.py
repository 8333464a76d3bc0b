"""A server as a process, which says on stderr where it is."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

LIMIT = 100.0
"""Seconds for all that is done with a server: less than a test gets."""


@dataclass(frozen=True, slots=True)
class Announced:
    """Its process, the URL it said, and the rest of its stderr."""

    process: Process
    url: str
    lines: BufferedByteReceiveStream


@asynccontextmanager
async def announced(*command: str, cwd: Path | None = None) -> AsyncGenerator[Announced]:
    """Start a command, wait for the line that ends in its URL, and kill it at the end if it still runs."""
    with anyio.fail_after(LIMIT):
        process = await anyio.open_process(command, stdin=subprocess.DEVNULL, cwd=cwd)
        assert process.stderr is not None
        lines = BufferedByteReceiveStream(process.stderr)
        try:
            line = ""
            while not (": ws" in line or ": http" in line):
                line = (await lines.receive_until(b"\n", 1000)).decode()
            yield Announced(process, line.split()[-1], lines)
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    process.kill()
                await process.aclose()
