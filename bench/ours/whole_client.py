"""The client library `acp_client`, counting what a turn brings: `whole_client.py JOB AGENT [ARG ...]`.

See `bench/wire.py` for what a client has to say and when. Of a round trip it knows `session/new` only. The least
agent of ours, too, can stream to it: in a few long messages.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import anyio

from acp.transports.child import spawn_agent
from acp.updates import MessageChunk
from acp_client import Client, Session, connect

MESSAGES = 10


async def stream(session: Session, expected: int, delay: float) -> int:
    """Take a turn; the updates that said something."""
    count = 0
    async with session.prompt(f"{expected} {MESSAGES}") as turn:
        async for update in turn:
            if isinstance(update, MessageChunk):
                count += 1
            if delay:
                time.sleep(delay)  # noqa: ASYNC251 (a reader that is busy, not one that waits)
    return count


async def ask(client: Client, count: int) -> list[float]:
    """The microseconds of each round trip."""
    times: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        session = await client.new_session(os.getcwd())
        times.append((time.perf_counter() - began) * 1e6)
        await session.close()
    return times


async def main(job: dict[str, Any], command: list[str]) -> None:
    async with spawn_agent(command) as transport, connect(transport) as client:
        session = await client.new_session(os.getcwd())
        if job["task"] == "stream":
            await stream(session, job["warm"], 0)
        else:
            await ask(client, job["warm"])
        print(json.dumps({"agent": transport.process.pid}), flush=True)
        sys.stdin.readline()
        count, times = 0, list[float]()
        began = time.perf_counter()
        if job["task"] == "stream":
            count = await stream(session, job["count"], job["delay"])
        else:
            times = await ask(client, job["count"])
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "count": count, "micros": times}), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    anyio.run(main, json.loads(sys.argv[1]), sys.argv[2:])
