"""`acp serve` as a process, with the model that counts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from wire import BENCH


@asynccontextmanager
async def served(way: str, *options: str) -> AsyncGenerator[tuple[Process, str]]:
    """The process, and its URL; `way` is `ws` or `http`."""
    command = [sys.executable, "-m", "acp", "serve", f"--{way}", "127.0.0.1:0", "--sessions", "none"]
    command += ["--backend", "counting:open_backend", "--log-file", os.devnull, *options]
    env = {**os.environ, "PYTHONPATH": str(BENCH / "ours")}
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL, env=env) as process:
        assert process.stderr is not None
        try:
            line = await BufferedByteReceiveStream(process.stderr).receive_until(b"\n", 1000)
            yield process, line.decode().split()[-1]
        finally:
            process.kill()
