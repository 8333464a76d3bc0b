"""A server of HTTP/1.1 that answers as a test says, however odd."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.abc import SocketAttribute, SocketStream

from acp_server.network.exchange import BadRequest, Exchange, Gone, HeldStream, HttpLimits
from acp_server.network.http1 import answer_http1

LIMITS = HttpLimits(opening=10, idle=10, heartbeat=10, stall=10)
ID = {"Acp-Connection-Id": "c1"}
INITIALIZED = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":1}}'
INITIALIZE = b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1}}'


class Double:
    """What was asked, and where."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/acp"
        self.asked: list[Exchange] = []
        self.bodies: list[bytes] = []

    def headers(self, number: int, name: str) -> list[str]:
        return self.asked[number].request.all(name)


@asynccontextmanager
async def serving(answer: Callable[[Exchange, bytes], Awaitable[None]]) -> AsyncGenerator[Double]:
    """A server whose answers are those of `answer`, which is given the body too."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    double = Double(listener.extra(SocketAttribute.local_port))

    async def respond(exchange: Exchange) -> None:
        double.asked.append(exchange)
        body = await exchange.body(10_000_000)
        double.bodies.append(body)
        await answer(exchange, body)

    async def converse(stream: SocketStream) -> None:
        held = HeldStream(stream)
        try:
            async with stream:
                while (head := await held.read_head()) is not None:
                    if not await answer_http1(held, head, respond, "127.0.0.1", LIMITS):
                        return
        except (BadRequest, Gone, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    with anyio.fail_after(60):
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, converse)
            yield double
            group.cancel_scope.cancel()


def method_of(body: bytes) -> str | None:
    """The method of a message; None for an answer or nothing."""
    return json.loads(body).get("method") if body else None


async def usual(exchange: Exchange, body: bytes) -> None:
    """What a server does that has nothing to say."""
    if exchange.request.method == "GET":
        await exchange.stream({"content-type": "text/event-stream"}, lambda _: anyio.sleep_forever())
    elif method_of(body) == "initialize":
        await exchange.answer(200, {**ID, "content-type": "application/json"}, INITIALIZED)
    else:
        await exchange.answer(202, {})
