"""What a connection costs `acp serve`: `python bench/idle.py [--count N]`.

N WebSocket connections, each of which has initialized and made a session, and then says nothing. Memory is the server's
resident set before and after, divided by N; CPU time is what the server uses in ten seconds of their silence.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream
from wire import conditions, show, usage

from acp.transports.websocket_opening import connect_websocket

TEXTS = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}',
    b'{"jsonrpc":"2.0","id":2,"method":"session/new","params":{"cwd":"%s","mcpServers":[]}}',
)
SILENCE = 10.0


async def measure(count: int) -> dict[str, str]:
    command = [sys.executable, "-m", "acp", "serve", "--ws", "127.0.0.1:0", "--backend", "scripted"]
    command += ["--sessions", "none", "--max-per-address", str(count), "--max-connections", str(count)]
    command += ["--log-file", os.devnull]
    async with await anyio.open_process(command, stdin=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        try:
            url = (await BufferedByteReceiveStream(process.stderr).receive_until(b"\n", 1000)).decode().split()[-1]
            with tempfile.TemporaryDirectory() as folder:
                async with AsyncExitStack() as exits:
                    await open_one(exits, url, folder)  # what is imported once
                    before = usage(process.pid)
                    for _ in range(count - 1):
                        await open_one(exits, url, folder)
                    after = usage(process.pid)
                    await anyio.sleep(SILENCE)
                    later = usage(process.pid)
        finally:
            process.kill()
    return {
        "connections": f"{count:,}",
        "KiB of memory each": f"{(after.resident - before.resident) / 1024 / (count - 1):.0f}",
        "server, MiB": f"{after.resident / 2**20:.0f}",
        "CPU in 10 s of silence": f"{later.cpu - after.cpu:.2f} s",
    }


async def open_one(exits: AsyncExitStack, url: str, folder: str) -> None:
    transport = await exits.enter_async_context(connect_websocket(url))
    for text in TEXTS:
        await transport.send(text % folder.encode() if b"%s" in text else text)
        await transport.receive()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="connections (default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    began = conditions()
    row = anyio.run(measure, options.count)
    show("Idle connections to acp serve", [row], began, [], options.json, row)


if __name__ == "__main__":
    main()
