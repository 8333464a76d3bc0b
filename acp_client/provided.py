"""MCP servers that live in this process and are offered to the agent over the connection itself (unstable).

`Host.mcp_servers` has them by name: servers made with the `mcp` package (extra `mcp`), which an agent that takes such
servers reaches by `mcp/message`. One conversation with one client has one of each, begun by the first request for it.
"""

from __future__ import annotations

import importlib
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream

from acp.errors import ErrorCode, RequestError
from acp.updates import Json

log = logging.getLogger("acp")

WAITING = 64
"""Messages on their way to a server."""

Tell = Callable[[Mapping[str, Json]], Awaitable[None]]
"""Sends the notification `mcp/message` with these params."""


class Provided:
    """The host's servers, for one client."""

    def __init__(self, servers: Mapping[str, Any], group: TaskGroup) -> None:
        self._group = group
        self._servers = {f"{name}-{uuid.uuid4().hex[:12]}": (name, server) for name, server in servers.items()}
        self._running: dict[str, _Running] = {}

    @property
    def offers(self) -> list[Mapping[str, Json]]:
        """What is said of them when a session is opened."""
        return [{"type": "acp", "name": name, "serverId": id} for id, (name, _) in self._servers.items()]

    def __contains__(self, id: object) -> bool:
        """Whether a `serverId` is one of these."""
        return id in self._servers

    async def ask(self, params: Mapping[str, Json], tell: Tell) -> dict[str, Json]:
        """Answer a request `mcp/message`: the server's `result` or its `error`. Cancelled, the server hears of it.

        Raises RequestError for a server that was never offered or has failed.
        """
        id = params["serverId"]
        if id not in self:
            raise RequestError.invalid_params("There is no such MCP server.", {"serverId": id})
        running = self._running.get(id)
        if running is None or running.has_ended:
            name, server = self._servers[id]
            running = self._running[id] = _Running(name, server)
            self._group.start_soon(running.run)
        return await running.ask(params, tell)


@dataclass
class _Call:
    """A request that the server works on. `answered` is set when it has answered, or never will."""

    tell: Tell
    params: Mapping[str, Json]
    answered: anyio.Event = field(default_factory=anyio.Event)
    answer: dict[str, Json] | None = None


class _Running:
    """A server on one pair of streams. Its own requests, which have no place in `mcp/message`, are refused."""

    def __init__(self, name: str, server: Any) -> None:
        self.has_ended = False
        self._name = name
        # What `MCPServer` wraps; the package itself unwraps it so, for want of a public name.
        self._server = getattr(server, "_lowlevel_server", server)
        self._types: Any = importlib.import_module("mcp_types")
        self._wrapped: Any = importlib.import_module("mcp.shared.message").SessionMessage
        self._calls: dict[str, _Call] = {}
        self._to_server, self._asked = anyio.create_memory_object_stream[Any](WAITING)

    async def run(self) -> None:
        said, heard = anyio.create_memory_object_stream[Any](WAITING)
        try:
            async with self._to_server, self._asked, said, heard, anyio.create_task_group() as group:
                group.start_soon(self._hear, heard)
                options = self._server.create_initialization_options()
                await self._server.run(self._asked, said, options)
                group.cancel_scope.cancel()
        except Exception:
            log.exception("the MCP server %r failed", self._name)
        finally:
            self.has_ended = True
            for call in self._calls.values():
                call.answered.set()

    async def ask(self, params: Mapping[str, Json], tell: Tell) -> dict[str, Json]:
        id: str = params["requestId"]
        if id in self._calls:
            raise RequestError.invalid_params("A request of this id is running.", {"requestId": id})
        call = self._calls[id] = _Call(tell, params)
        request = self._types.JSONRPCRequest(jsonrpc="2.0", id=id, method=params["method"], params=params.get("params"))
        try:
            await self._send(request)
            await call.answered.wait()
            if request.method == "initialize":  # a consumer of old has no way to send the notification that follows
                await self._send(self._types.JSONRPCNotification(jsonrpc="2.0", method="notifications/initialized"))
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(1.0, shield=True):
                cancelled = {"requestId": id, "reason": "The consumer withdrew it."}
                await self._send(
                    self._types.JSONRPCNotification(jsonrpc="2.0", method="notifications/cancelled", params=cancelled)
                )
            raise
        finally:
            del self._calls[id]
        if call.answer is None:
            raise RequestError(ErrorCode.INTERNAL_ERROR, "The MCP server has ended.", {"serverId": params["serverId"]})
        return call.answer

    async def _send(self, message: Any) -> None:
        try:
            await self._to_server.send(self._wrapped(message))
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # it has ended, which whoever waits for an answer learns by the event

    async def _hear(self, heard: MemoryObjectReceiveStream[Any]) -> None:
        async for item in heard:
            message, types = item.message, self._types
            if isinstance(message, types.JSONRPCNotification):
                await self._tell(message, getattr(item.metadata, "related_request_id", None))
            elif isinstance(message, types.JSONRPCRequest):
                error = types.ErrorData(code=-32601, message="There is no way back to the consumer.")
                await self._send(types.JSONRPCError(jsonrpc="2.0", id=message.id, error=error))
            elif (call := self._calls.get(message.id)) is not None:
                if isinstance(message, types.JSONRPCResponse):
                    call.answer = {"result": message.result}
                else:
                    call.answer = {"error": message.error.model_dump(mode="json", exclude_unset=True)}
                call.answered.set()

    async def _tell(self, message: Any, request_id: object) -> None:
        call = self._calls.get(str(request_id))
        if call is None:
            log.debug("%s of MCP server %r belongs to no request", message.method, self._name)
            return
        names = {name: call.params[name] for name in ("serverId", "requestId")}
        params = {} if message.params is None else {"params": message.params}
        await call.tell({**names, "method": message.method, **params})
