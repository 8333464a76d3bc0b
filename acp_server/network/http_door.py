"""A connection that comes to speak HTTP/1.1 or HTTP/2, or to open a WebSocket at the same address."""

from __future__ import annotations

import re
import socket
from contextlib import suppress

import anyio
from anyio.abc import ByteStream, SocketAttribute, TaskStatus

from .exchange import BadRequest, Gone, HeldStream, HttpLimits
from .http1 import answer_http1, refuse_http1
from .http2 import PREFACE, serve_http2
from .http_endpoint import HttpEndpoint
from .server import Guest, Server
from .websocket_door import WebSocketDoor

KEEP_ALIVE = 75.0
"""Seconds that a connection of HTTP is kept on which nothing is asked."""
UNSENT = 128 * 2**10
"""Bytes that the system holds for a client."""
CHECKING = 1.0
"""Seconds between two looks at who is still there."""

_UPGRADE = re.compile(rb"(?im)^upgrade:[ \t]*websocket[ \t]*\r$")


class HttpDoor:
    """A `Door`. HTTP/2 is spoken by whoever agrees on it in TLS, and by whoever begins with it without asking."""

    scheme = "http"
    alpn: tuple[str, ...] = ("h2", "http/1.1")

    def __init__(self) -> None:
        self._endpoint: HttpEndpoint
        self._websocket = WebSocketDoor()

    async def run(self, server: Server, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        async with anyio.create_task_group() as group:
            self._endpoint = HttpEndpoint(server, group)
            task_status.started()
            while True:
                await anyio.sleep(CHECKING)
                self._endpoint.check()

    async def converse(self, server: Server, stream: ByteStream, guest: Guest) -> None:
        held, own = HeldStream(stream), server.limits.connection
        limits = HttpLimits(server.limits.opening, KEEP_ALIVE, own.heartbeat, own.stall)
        _set_up(stream, own.stall)
        patience = limits.opening
        while True:
            try:
                with anyio.fail_after(patience):
                    head = await held.read_head()
                if head is None:
                    return
                if head == PREFACE and guest.refusal is None:
                    held.unread(head)
                    await serve_http2(held, self._endpoint.answer, guest.address, limits)
                    return
                if _UPGRADE.search(head):
                    await self._websocket.converse(server, held.released(), guest, first=head)
                    return
                if guest.refusal is not None:
                    raise BadRequest(guest.refusal.status, guest.refusal.text)
                if not await answer_http1(held, head, self._endpoint.answer, guest.address, limits):
                    return
            except TimeoutError:
                if patience == limits.opening:
                    await refuse_http1(held, BadRequest(408, f"the request took longer than {patience:g} s"))
                return
            except BadRequest as error:
                await refuse_http1(held, error)
                return
            except Gone:
                return
            patience = KEEP_ALIVE


def _set_up(stream: ByteStream, seconds: float) -> None:
    """Have the system break a connection whose other end acknowledges nothing: a stream of events gets no answers.

    And have it hold little, so that what a reader has missed when it comes back is among what its outbox has kept.
    """
    raw = stream.extra(SocketAttribute.raw_socket, None)
    if raw is None:
        return
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNSENT)
        if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))
