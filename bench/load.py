"""What connections cost `acp serve`, and how late updates are: `python bench/load.py [--over ws|http]`.

First N idle connections, each of which has initialized and made a session, and then says nothing: memory is the
server's resident set before and after, divided by N; CPU time is what it uses in ten seconds of their silence. Then,
beside those, M connections on each of which a turn says RATE updates a second for a while. An update is late by the
time from when the model said it to when the client has it, on the one clock of the machine; server and client are a
process each.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import statistics
import tempfile
import time
from contextlib import AsyncExitStack

import anyio
from serving import served
from wire import OVER, conditions, show, usage

from acp.transports import Transport
from acp.transports.remote_url import connect

TEXTS = (
    b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}',
    b'{"jsonrpc":"2.0","id":2,"method":"session/new","params":{"cwd":"%s","mcpServers":[]}}',
)
SILENCE = 10.0
_STAMP = re.compile(rb"\d+@(\d+) ")


async def open_one(exits: AsyncExitStack, url: str, folder: str) -> tuple[Transport, str]:
    """A connection with a session, and the session's id."""
    transport = await exits.enter_async_context(connect(url))
    for text in TEXTS:
        await transport.send(text % folder.encode() if b"%s" in text else text)
        answer = await transport.receive()
    assert isinstance(answer, bytes)
    return transport, json.loads(answer)["result"]["sessionId"]


async def listen(transport: Transport, session: str, count: int, rate: float, late: list[float]) -> None:
    """Have a turn say updates, and note how late each comes, in milliseconds."""
    blocks = [{"type": "text", "text": f"{count} {rate}"}]
    ask = {"jsonrpc": "2.0", "id": 3, "method": "session/prompt", "params": {"sessionId": session, "prompt": blocks}}
    await transport.send(json.dumps(ask).encode())
    seen = 0
    while True:
        text = await transport.receive()
        assert isinstance(text, bytes)
        if stamp := _STAMP.search(text):
            late.append((time.monotonic_ns() - int(stamp[1])) / 1e6)
            seen += 1
        elif b'"id":3' in text:
            assert seen == count, f"{seen} of {count} updates came"
            return


async def measure(options: argparse.Namespace) -> list[dict[str, str]]:
    most = str(4 * (options.idle + options.streaming))
    async with served(options.over, "--max-per-address", most, "--max-connections", most) as (process, url):
        with tempfile.TemporaryDirectory() as folder:
            async with AsyncExitStack() as exits:
                await open_one(exits, url, folder)  # what is imported once
                before = usage(process.pid)
                for _ in range(options.idle):
                    await open_one(exits, url, folder)
                after = usage(process.pid)
                await anyio.sleep(SILENCE)
                silent = usage(process.pid)
                talking = [await open_one(exits, url, folder) for _ in range(options.streaming)]
                late: list[float] = []
                count, busy = int(options.rate * options.seconds), usage(process.pid)
                began = time.perf_counter()
                async with anyio.create_task_group() as group:
                    for transport, session in talking:
                        group.start_soon(listen, transport, session, count, options.rate, late)
                        await anyio.sleep(1 / options.rate / options.streaming)  # else all would speak at once
                seconds, end = time.perf_counter() - began, usage(process.pid)
    marks = statistics.quantiles(late, n=1000)
    each = (after.resident - before.resident) / 1024 / options.idle
    return [
        {
            "what": f"{options.idle:,} idle",
            "KiB each": f"{each:.0f}",
            "server, MiB": f"{after.resident / 2**20:.0f}",
            "its CPU": f"{(silent.cpu - after.cpu) / SILENCE:.1%}",
            "updates/s": "",
            "late by, ms: median": "",
            "99 %": "",
            "99.9 %": "",
            "most": "",
        },
        {
            "what": f"and {options.streaming} streaming, {options.rate:g} updates/s each",
            "KiB each": f"{(end.resident - silent.resident) / 1024 / options.streaming:.0f}",
            "server, MiB": f"{end.resident / 2**20:.0f}",
            "its CPU": f"{(end.cpu - busy.cpu) / seconds:.1%}",
            "updates/s": f"{len(late) / seconds:,.0f}",
            "late by, ms: median": f"{statistics.median(late):.1f}",
            "99 %": f"{marks[989]:.1f}",
            "99.9 %": f"{marks[998]:.1f}",
            "most": f"{max(late):.1f}",
        },
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--idle", type=int, default=1000, help="(default: %(default)s)")
    parser.add_argument("--streaming", type=int, default=200, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=10.0, help="updates/s of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=20.0, help="(default: %(default)s)")
    parser.add_argument("--over", choices=("ws", "http"), default="ws", help="(default: %(default)s)")
    parser.add_argument("--json", metavar="FILE", help="append the results to a file, one JSON object a line")
    options = parser.parse_args()
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    began = conditions()
    rows = anyio.run(measure, options)
    show(f"Connections to acp serve{OVER[options.over]}", rows, began, [], options.json, {"pid": os.getpid()})


if __name__ == "__main__":
    main()
