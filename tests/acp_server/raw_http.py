"""Clients of Streamable HTTP: a decent one over httpx2, in either version of HTTP, and one made of bytes."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import httpx2
from anyio.abc import ByteStream, TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream
from wire_client import WireClient

from acp.transports.sse import Comment, Event, EventBuffer

INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 1}}
EVENTS = {"Accept": "text/event-stream"}


class Web:
    """Requests to one endpoint. `base` are headers of every request."""

    def __init__(self, client: httpx2.AsyncClient, url: str, base: Mapping[str, str]) -> None:
        self.client, self.url, self.base = client, url, base

    async def ask(self, method: str, headers: Mapping[str, str] | None = None, body: Any = None) -> httpx2.Response:
        """Any request; a body that is no bytes is sent as JSON."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"} if body is not None else {}
        return await self.client.request(
            method, self.url, headers={**kind, **self.base, **(headers or {})}, content=raw
        )

    async def status(self, method: str, headers: Mapping[str, str] | None = None, body: Any = None) -> int:
        return (await self.ask(method, headers, body)).status_code

    async def connect(self, headers: Mapping[str, str] | None = None) -> dict[str, str]:
        """Initialize; the header that names the connection."""
        answer = await self.ask("POST", headers, INITIALIZE)
        assert answer.status_code == 200, answer.text
        assert answer.json()["result"]["protocolVersion"] == 1
        return {"Acp-Connection-Id": answer.headers["acp-connection-id"]}

    @asynccontextmanager
    async def listen(self, headers: Mapping[str, str], status: int = 200) -> AsyncGenerator[Stream]:
        said = {**EVENTS, **self.base, **headers}
        send, receive = anyio.create_memory_object_stream[bytes](10_000)
        async with send, receive, anyio.create_task_group() as group:
            opened = anyio.Event()
            stream = Stream(receive)

            async def read() -> None:
                # In a task of its own, which is cancelled: httpx2's generators bear to be left in no other way on trio.
                with suppress(httpx2.HTTPError):
                    async with self.client.stream("GET", self.url, headers=said, timeout=30) as answer:
                        stream.status, stream.headers = answer.status_code, answer.headers
                        opened.set()
                        async for piece in answer.aiter_raw():
                            send.send_nowait(piece)
                opened.set()
                send.close()

            group.start_soon(read)
            await opened.wait()
            assert stream.status == status
            yield stream
            group.cancel_scope.cancel()


class Stream:
    """A stream of events that is read when a test waits for something. `numbers` are those of the events."""

    def __init__(self, pieces: MemoryObjectReceiveStream[bytes]) -> None:
        self.status = 0
        self.headers: Mapping[str, str] = {}
        self.numbers: list[int] = []
        self.comments: list[str] = []
        self._pieces = pieces
        self._buffer = EventBuffer()
        self._found: list[Any] = []

    async def next(self) -> bytes:
        """The next text. Raises anyio.EndOfStream."""
        while True:
            while not self._found:
                self._found = self._buffer.feed(await self._pieces.receive())
            match self._found.pop(0):
                case Event(text, id):
                    self.numbers.append(int(id))
                    return text
                case Comment(words):
                    self.comments.append(words)
                case other:
                    raise AssertionError(other)

    async def piece(self) -> bytes:
        """The next bytes, as they come."""
        return await self._pieces.receive()

    async def rest(self) -> list[bytes]:
        """What comes until the end."""
        texts: list[bytes] = []
        try:
            while True:
                texts.append(await self.next())
        except anyio.EndOfStream:
            return texts


@asynccontextmanager
async def web(url: str, *, http2: bool = False, base: Mapping[str, str] | None = None) -> AsyncGenerator[Web]:
    async with httpx2.AsyncClient(http1=not http2, http2=http2, timeout=20, trust_env=False) as client:
        yield Web(client, url, base or {})


@asynccontextmanager
async def wired(client: Web, ids: Mapping[str, str]) -> AsyncGenerator[WireClient]:
    """A client in raw JSON over a connection: it listens to the connection and to every session that it hears of."""
    send, receive = anyio.create_memory_object_stream[bytes](10_000)
    known: set[str] = set()

    async def listen(group: TaskGroup, headers: Mapping[str, str]) -> None:
        async with client.listen({**ids, **headers}) as stream:
            try:
                while True:
                    text = await stream.next()
                    message = json.loads(text)
                    session = (message.get("result") or {}).get("sessionId")
                    if session is not None and session not in known:
                        known.add(session)
                        group.start_soon(listen, group, {"Acp-Session-Id": session})
                    await send.send(text)
            except (anyio.EndOfStream, httpx2.HTTPError):
                pass

    async def post(text: bytes) -> None:
        session = json.loads(text).get("params", {}).get("sessionId")
        named = {} if session is None else {"Acp-Session-Id": session}
        if session is not None and session not in known:
            known.add(session)
            group.start_soon(listen, group, named)
        assert await client.status("POST", {**ids, **named}, text) == 202

    async with send, receive, anyio.create_task_group() as group:
        group.start_soon(listen, group, {})
        yield WireClient(post, receive.receive)
        group.cancel_scope.cancel()


async def read_answers(stream: ByteStream, seconds: float = 5.0) -> bytes:
    """Everything that comes on a connection until it ends, or for so long."""
    data = b""
    with anyio.move_on_after(seconds):
        try:
            while True:
                data += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
    return data
