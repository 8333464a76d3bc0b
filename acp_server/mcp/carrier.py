"""MCP inside ACP: requests to a server that the client itself provides (`mcp/message`, unstable).

We are the consumer. A request of ours is a request of ACP, its answer carries the server's result or the server's
error, and while it runs the provider may send notifications that name it. A consumer has no notifications to send:
cancelling is cancelling the outer request.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from acp.connection import Connection
from acp.methods import Method
from acp.wire import Json, Wire

log = logging.getLogger(__name__)

Tell = Callable[[str, "dict[str, Json] | None"], Awaitable[None]]
"""Takes a notification that belongs to a request: its method and params."""


class Carrier:
    """One connection's MCP requests. `method` is its version's `mcp/message`."""

    def __init__(self, connection: Connection, method: Method[Any, Any]) -> None:
        self._connection = connection
        self._method = method
        self._active: dict[tuple[str, str], Tell] = {}
        self._ids = itertools.count(1)

    async def ask(self, server: str, method: str, params: Mapping[str, Json] | None, tell: Tell) -> Mapping[str, Json]:
        """The answer, with `result` or `error` as MCP has them.

        Raises RequestError when the provider could not be reached, ConnectionClosed, LocalProtocolError.
        """
        request_id = f"r{next(self._ids)}"
        said = {} if params is None else {"params": dict(params)}
        request = self._method.params.decode({"serverId": server, "requestId": request_id, "method": method, **said})
        self._active[server, request_id] = tell
        try:
            return (await self._connection.call(self._method, request)).encode()
        finally:
            del self._active[server, request_id]

    async def told(self, notification: Wire) -> None:
        """Handler of the notification `mcp/message`. One that belongs to no request that runs is dropped."""
        raw = notification.encode()
        tell = self._active.get((raw["serverId"], raw["requestId"]))
        if tell is None:
            log.info("an MCP notification for request %r, which is not running, was dropped", raw["requestId"])
            return
        await tell(raw["method"], raw.get("params"))
