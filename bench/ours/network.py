"""An agent that was started as a child and is reached over WebSocket or HTTP: both ends, with the least they need."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.streams.buffered import BufferedByteReceiveStream

from acp.transports import Transport
from acp.transports.remote import ClientTransport
from acp.transports.remote_url import connect
from acp_server.network.gate import Gate, Visitor
from acp_server.network.http_door import HttpDoor
from acp_server.network.server import Server
from acp_server.network.visits import ServedTransport


async def serve(talk: Callable[[Transport], Awaitable[None]]) -> None:
    """Print a URL and talk to whoever connects to it, in either way."""

    async def host(transport: ServedTransport, _: Visitor, __: anyio.Event) -> None:
        await talk(transport)

    async with anyio.create_task_group() as group:
        print(await group.start(Server(host, Gate()).serve, "127.0.0.1", 0, HttpDoor()), flush=True)


@asynccontextmanager
async def reached(command: Sequence[str], way: str) -> AsyncGenerator[tuple[ClientTransport, int]]:
    """A connection to an agent that is started for it, and the agent's process id."""
    async with await anyio.open_process([*command], stdin=subprocess.DEVNULL, stderr=None) as process:
        assert process.stdout is not None
        try:
            url = (await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1000)).decode()
            async with connect(url.replace("http:", f"{way}:")) as transport:
                yield transport, process.pid
        finally:
            process.kill()
