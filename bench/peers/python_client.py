# pyright: basic, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
# (`acp` is the peer's here; pyright finds ours)
"""The official Python SDK's client, counting updates: `python_client.py JOB AGENT [ARG ...]`.

See `bench/wire.py` for what a client has to say and when. The SDK handles notifications in tasks of their own, so the
turn may be answered before the last of them is handled; what is timed ends with the last.
"""

import asyncio
import functools
import json
import os
import sys
import time
from contextlib import asynccontextmanager
from typing import Any

import acp


class Counter(acp.Client):
    def __init__(self) -> None:
        self.expect(0)

    def expect(self, count: int, delay: float = 0) -> None:
        self.count, self.expected, self.delay = 0, count, delay
        self.all_here = asyncio.Event()

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        if update.session_update == "agent_message_chunk":
            self.count += 1
        if self.delay:
            time.sleep(self.delay)  # noqa: ASYNC251 (a handler that is busy, not one that waits)
        if self.count == self.expected:
            self.all_here.set()


async def stream(agent: Any, counter: Counter, count: int, delay: float = 0) -> None:
    counter.expect(count, delay)
    await agent.prompt(session_id="s1", prompt=[acp.text_block(str(count))])
    await counter.all_here.wait()


async def ask(agent: Any, task: str, count: int) -> list[float]:
    times: list[float] = []
    for _ in range(count):
        began = time.perf_counter()
        if task == "ping":
            await agent.ext_method("ping", {})
        else:
            await agent.new_session(cwd=os.getcwd(), mcp_servers=[])
        times.append((time.perf_counter() - began) * 1e6)
    return times


@asynccontextmanager
async def reached(client: acp.Client, way: str, *command: str):
    """An agent on the network that says where it is; `--plain` turns compression off here too."""
    import websockets.asyncio.client
    from acp.http.client import create_http_stream
    from acp.ws import client as ws

    if "--plain" in command:
        ws.ws_connect = functools.partial(websockets.asyncio.client.connect, compression=None)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        url = (await process.stdout.readline()).decode().strip()
        if way == "http":
            transport = create_http_stream(url)
        else:
            transport = await ws.create_websocket_stream(url.replace("http:", "ws:"))
        agent = acp.connect_to_agent(client, transport)
        yield agent, process
        await agent.close()
    finally:
        process.kill()
        await process.wait()


async def main(job: dict[str, Any], command: list[str]) -> None:
    counter = Counter()
    way = job["over"]
    reaching = acp.spawn_agent_process(counter, *command) if way == "stdio" else reached(counter, way, *command)
    async with reaching as (agent, process):
        await agent.initialize(protocol_version=acp.PROTOCOL_VERSION)
        await agent.new_session(cwd=os.getcwd(), mcp_servers=[])
        if job["task"] == "stream":
            await stream(agent, counter, job["warm"])
        else:
            await ask(agent, job["task"], job["warm"])
        print(json.dumps({"agent": process.pid}), flush=True)
        sys.stdin.readline()
        times: list[float] = []
        began = time.perf_counter()
        if job["task"] == "stream":
            await stream(agent, counter, job["count"], job["delay"])
        else:
            times = await ask(agent, job["task"], job["count"])
        seconds = time.perf_counter() - began
        print(json.dumps({"seconds": seconds, "count": counter.count, "micros": times}), flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1]), sys.argv[2:]))
