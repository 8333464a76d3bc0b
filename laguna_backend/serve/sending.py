"""An answer on its way: at once or as server-sent events, until it is whole or nobody listens any more."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import anyio
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from acp_server.model import ModelError

from .refused import Refused, refusal_of

QUIET = 15.0
"""Seconds after which a stream that has nothing to say says that it is still there."""
KEEP_ALIVE, DONE = b": still here\n\n", b"data: [DONE]\n\n"

Payload = dict[str, Any]


class AtOnce(Response):
    """An answer that is sent when it is whole; whoever hangs up before stops what makes it."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, Payload]]) -> None:
        self.work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response: Response | None = None
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
            try:
                response = JSONResponse(await self.work())
            except (ModelError, Refused) as error:
                response = told(error).response()
            group.cancel_scope.cancel()
        if response is not None:
            await response(scope, receive, send)


class Events(Response):
    """A stream of payloads, one event each. What fails before the first one has a status of its own."""

    def __init__(self, payloads: AsyncGenerator[Payload]) -> None:
        self.payloads = payloads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        to_send, events = anyio.create_memory_object_stream[bytes | Refused](8)

        async def produce() -> None:
            async with to_send, aclosing(self.payloads) as payloads:
                try:
                    async for payload in payloads:
                        await to_send.send(event(payload))
                    await to_send.send(DONE)
                except (ModelError, Refused) as error:
                    await to_send.send(told(error))

        async with events, anyio.create_task_group() as group:
            group.start_soon(_cancel_when_gone, receive, group.cancel_scope)
            group.start_soon(produce)
            begun = False
            while True:
                item: bytes | Refused = KEEP_ALIVE
                with anyio.move_on_after(QUIET):
                    try:
                        item = await events.receive()
                    except anyio.EndOfStream:
                        break
                if isinstance(item, Refused):
                    if not begun:
                        await item.response()(scope, receive, send)
                        group.cancel_scope.cancel()
                        return
                    item = event(item.body())
                if not begun:
                    begun = True
                    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                await send({"type": "http.response.body", "body": item, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
            group.cancel_scope.cancel()


HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-store")]


def event(payload: Payload) -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n\n"


def told(error: ModelError | Refused) -> Refused:
    return error if isinstance(error, Refused) else refusal_of(error)


async def _cancel_when_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
