"""The streams of an MCP server that the client provides: what is written to one is asked over our own connection."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import ErrorData, JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse
from pydantic import ValidationError

from acp.errors import AcpError, ErrorCode, RequestError
from acp.tasks import task_group
from acp.wire import Json

from .carrier import Carrier

log = logging.getLogger(__name__)

WAITING = 64
"""Messages on their way between the two protocols."""


@asynccontextmanager
async def over_acp(carrier: Carrier, server: str) -> AsyncGenerator[tuple[Any, Any]]:
    """The streams of the server with this id."""
    said, read = anyio.create_memory_object_stream[SessionMessage | Exception](WAITING)
    write, asked = anyio.create_memory_object_stream[SessionMessage](WAITING)
    async with said, read, write, asked, task_group(cancel_at_end=True) as group:
        group.start_soon(_Bridge(carrier, server, said, group).run, asked)
        yield read, write


@dataclass
class _Bridge:
    carrier: Carrier
    server: str
    said: MemoryObjectSendStream[SessionMessage | Exception]
    group: TaskGroup
    running: dict[str | int, anyio.CancelScope] = field(default_factory=dict[str | int, anyio.CancelScope])

    async def run(self, asked: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async for item in asked:
            match item.message:
                case JSONRPCRequest() as request:
                    self.running[request.id] = anyio.CancelScope()
                    self.group.start_soon(self._ask, request)
                case JSONRPCNotification(method="notifications/cancelled", params={"requestId": id}):
                    if (scope := self.running.get(id)) is not None:
                        scope.cancel()
                case JSONRPCNotification(method=method):
                    log.debug("%s has no place in mcp/message", method)
                case other:
                    log.warning("%r is for a server that asks, which none does over ACP", type(other).__name__)

    async def _ask(self, request: JSONRPCRequest) -> None:
        with self.running[request.id]:
            await self.said.send(SessionMessage(await self._answer(request)))
        del self.running[request.id]

    async def _answer(self, request: JSONRPCRequest) -> JSONRPCResponse | JSONRPCError:
        failed = partial(JSONRPCError, jsonrpc="2.0", id=request.id)
        try:
            answer = await self.carrier.ask(self.server, request.method, request.params, self._tell)
            if "result" not in answer:
                return failed(error=ErrorData.model_validate(answer["error"]))
        except RequestError as error:
            return failed(error=ErrorData(code=error.code, message=error.message))
        except (AcpError, ValidationError) as error:
            return failed(error=ErrorData(code=ErrorCode.INTERNAL_ERROR, message=str(error)))
        if not isinstance(answer["result"], dict):
            return failed(error=ErrorData(code=ErrorCode.INTERNAL_ERROR, message="The result is no object."))
        return JSONRPCResponse(jsonrpc="2.0", id=request.id, result=cast("dict[str, Json]", answer["result"]))

    async def _tell(self, method: str, params: dict[str, Json] | None) -> None:
        notification = JSONRPCNotification(jsonrpc="2.0", method=method, params=params)
        await self.said.send(SessionMessage(notification))
