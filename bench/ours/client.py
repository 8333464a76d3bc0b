"""A client with the least that ours need: a `Connection` to a child process, and one handler that counts.

`client.py JOB AGENT [ARG ...]`; see `bench/wire.py` for what a client has to say and when.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio

from acp.connection import Connection, Handlers, Transport
from acp.methods import Method
from acp.transports.child import spawn_agent
from acp.unions import Free
from acp.updates import MessageChunk
from acp.v1 import schema
from acp.v1.dialect import REPORT, ReportV1

PING: Method[Free, Free] = Method("_ping", "agent", Free, Free)


class Counter:
    def __init__(self) -> None:
        self.count = 0
        self.delay = 0.0

    async def updated(self, report: ReportV1) -> None:
        if isinstance(report.update, MessageChunk):
            self.count += 1
        if self.delay:
            time.sleep(self.delay)  # noqa: ASYNC251 (a handler that is busy, not one that waits)


async def prompt(connection: Connection, count: int) -> None:
    request = schema.PromptRequest(session_id="s1", prompt=[schema.TextContentBlock(text=str(count))])
    await connection.call(schema.SESSION_PROMPT, request)


async def ask(connection: Connection, task: str, count: int) -> list[float]:
    """The microseconds of each round trip."""
    times: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        if task == "ping":
            await connection.call(PING, Free({}))
        else:
            await connection.call(schema.SESSION_NEW, schema.NewSessionRequest(cwd=os.getcwd(), mcp_servers=[]))
        times.append((time.perf_counter() - began) * 1e6)
    return times


@asynccontextmanager
async def reached(command: list[str], way: str) -> AsyncGenerator[tuple[Transport, int]]:
    """The agent, over its stdin and stdout or over the network."""
    if way != "stdio":
        import network

        async with network.reached(command, way) as found:
            yield found
    else:
        async with spawn_agent(command) as transport:
            yield transport, transport.process.pid


async def main(job: dict[str, Any], command: list[str]) -> None:
    counter = Counter()
    handlers = Handlers().on(REPORT, counter.updated)
    calls = (schema.INITIALIZE, schema.SESSION_NEW, schema.SESSION_PROMPT, PING)
    async with (
        reached(command, job["over"]) as (transport, pid),
        Connection(transport, handlers, calls=calls) as connection,
    ):
        await connection.call(schema.INITIALIZE, schema.InitializeRequest(protocol_version=1))
        await connection.call(schema.SESSION_NEW, schema.NewSessionRequest(cwd=os.getcwd(), mcp_servers=[]))
        if job["task"] == "stream":
            await prompt(connection, job["warm"])
        else:
            await ask(connection, job["task"], job["warm"])
        counter.count, counter.delay = 0, job["delay"]
        print(json.dumps({"agent": pid}), flush=True)
        sys.stdin.readline()
        times: list[float] = []
        began = time.perf_counter()
        if job["task"] == "stream":
            await prompt(connection, job["count"])
        else:
            times = await ask(connection, job["task"], job["count"])
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "count": counter.count, "micros": times}), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[1]), sys.argv[2:])
