"""A connection that comes to open a WebSocket: its request is read and judged, and then it talks."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
from anyio.abc import ByteStream, TaskStatus

from acp.transports.remote import CONNECTION_ID
from acp.transports.websocket_opening import read_opening

from .gate import Refusal

if TYPE_CHECKING:
    from .server import Guest, Server

log = logging.getLogger(__name__)


class WebSocketDoor:
    """A `Door`."""

    scheme = "ws"
    alpn: tuple[str, ...] = ()

    async def run(self, server: Server, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        task_status.started()

    async def converse(self, server: Server, stream: ByteStream, guest: Guest, *, first: bytes = b"") -> None:
        """Serve one connection, of whose request `first` was read already. Raises BadOpening."""
        limits = server.limits
        opening = await read_opening(stream, limits.connection, limits.opening, first=first)
        verdict = guest.refusal or server.visits.refusal or server.gate.judge(opening.request, guest.address)
        if isinstance(verdict, Refusal):
            log.info("%s: refused, %d: %s", guest.address, verdict.status, verdict.text)
            await opening.refuse(verdict.status, verdict.text, verdict.headers())
            return
        for id in opening.request.listed(CONNECTION_ID.lower()):
            await server.visits.replace(id, verdict)
        async with opening.accept(limits.opening) as transport:
            await server.visits.host(transport, verdict, opening.id)
