"""An agent that was started as a child and is reached over WebSocket: both ends, with the least that ours need."""

from __future__ import annotations

import subprocess
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from acp.transports.remote import Limits
from acp.transports.websocket import WebSocketTransport
from acp.transports.websocket_opening import connect_websocket, read_opening


async def serve(talk: Callable[[WebSocketTransport], Awaitable[None]]) -> None:
    """Print a URL and talk to whoever connects to it."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")

    async def welcome(stream: SocketStream) -> None:
        async with stream:
            opening = await read_opening(stream, Limits(), 10)
            async with opening.accept() as transport:
                await talk(transport)

    print(f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}/acp", flush=True)
    await listener.serve(welcome)


@asynccontextmanager
async def reached(command: Sequence[str]) -> AsyncGenerator[tuple[WebSocketTransport, int]]:
    """A connection to an agent that is started for it, and the agent's process id."""
    async with await anyio.open_process([*command], stdin=subprocess.DEVNULL, stderr=None) as process:
        assert process.stdout is not None
        try:
            url = (await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1000)).decode()
            async with connect_websocket(url) as transport:
                yield transport, process.pid
        finally:
            process.kill()
