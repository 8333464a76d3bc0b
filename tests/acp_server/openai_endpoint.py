"""A server that plays OpenAI-compatible answers byte by byte, real sockets and all, as well or as badly as told."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import SocketAttribute, SocketStream

Cue = bytes | Callable[[], Awaitable[Any]]
"""Bytes to send, or something to wait for. An answer ends with the connection closed."""


class Reset(Exception):
    """Raised by a cue: the connection is torn down."""


@dataclass
class Asked:
    """One request as it came. Header names are in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


Play = Callable[[Asked], Sequence[Cue]]


@dataclass
class Server:
    """`asked` has every request; `hung_up` is set when a client has closed a connection in the middle of an answer."""

    url: str
    asked: list[Asked] = field(default_factory=list[Asked])
    hung_up: anyio.Event = field(default_factory=anyio.Event)

    @property
    def bodies(self) -> list[Any]:
        """The completions asked for."""
        return [asked.body for asked in self.asked if asked.path.endswith("/chat/completions")]


@asynccontextmanager
async def endpoint(play: Play | Mapping[str, Play]) -> AsyncGenerator[Server]:
    """Serve `play`, or plays by the end of the path, on a port of this machine."""
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    server = Server(f"http://127.0.0.1:{port}/v1")

    async def handle(stream: SocketStream) -> None:
        async with stream:
            asked = await read_request(stream)
            if asked is None:
                return
            server.asked.append(asked)
            plays = {"": play} if callable(play) else play
            chosen = next((plays[end] for end in plays if asked.path.endswith(end)), lambda _: [status(404)])
            try:
                for cue in chosen(asked):
                    if isinstance(cue, bytes):
                        await stream.send(cue)
                    else:
                        await cue()
            except Reset:
                await anyio.aclose_forcefully(stream)
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                server.hung_up.set()

    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, handle)
        yield server
        group.cancel_scope.cancel()


async def read_request(stream: SocketStream) -> Asked | None:
    data = b""
    while b"\r\n\r\n" not in data:
        try:
            data += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return None
    head, _, rest = data.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    method, path, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(rest) < int(headers.get("content-length", "0")):
        rest += await stream.receive()
    return Asked(method, path, headers, json.loads(rest) if rest else None)


# What is answered ---------------------------------------------------------------------------------------


def head(code: int = 200, kind: str = "text/event-stream", **headers: str) -> bytes:
    fields = {"content-type": kind, "connection": "close"} | {k.replace("_", "-"): v for k, v in headers.items()}
    return "\r\n".join([f"HTTP/1.1 {code} X", *(f"{k}: {v}" for k, v in fields.items()), "", ""]).encode()


def status(code: int, body: Any = None, **headers: str) -> bytes:
    """A whole answer; a body that is no text is JSON."""
    text = body if isinstance(body, str) else json.dumps(body)
    kind = "text/html" if text.startswith("<") else "application/json"
    return head(code, kind, content_length=str(len(text.encode())), **headers) + text.encode()


def event(value: Any) -> bytes:
    return f"data: {value if isinstance(value, str) else json.dumps(value)}\n\n".encode()


def delta(finish: str | None = None, **fields: Any) -> bytes:
    """A chunk of a completion."""
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


def call(name: str, arguments: str, index: int = 0) -> dict[str, Any]:
    """A whole tool call."""
    return {"index": index, "id": f"call_{index}", "function": {"name": name, "arguments": arguments}}


DONE = event("[DONE]")


def models(*entries: dict[str, Any]) -> Play:
    return lambda _: [status(200, {"object": "list", "data": list(entries)})]


SMALL = models({"id": "small", "max_model_len": 40_000})


def says(*cues: Cue) -> dict[str, Play]:
    """A server with one model that always answers the same."""
    return {"/models": SMALL, "/chat/completions": lambda _: [head(), *cues]}


def in_turn(*answers: Sequence[Cue]) -> dict[str, Play]:
    """A server with one model that plays these whole answers, one after the other."""
    left = iter(answers)
    return {"/models": SMALL, "/chat/completions": lambda _: next(left)}
