"""A server of WebSockets: accepts, has the gate judge, counts, and hands each connection to whoever talks on it.

Everything a stranger can make it hold is bounded: connections in all and per address, the bytes and the seconds of a
request, the seconds until the first message, and what `acp.transports.websocket` says of an open connection.
"""

from __future__ import annotations

import errno
import logging
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskGroup, TaskStatus
from anyio.streams.tls import TLSStream

from acp.transports.websocket import Limits, WebSocketTransport
from acp.transports.websocket_opening import CONNECTION_ID, BadOpening, Request, read_opening

from .gate import PATH, Gate, Refusal, Visitor

log = logging.getLogger(__name__)

BACKLOG = 128
REPLACING = 5.0
"""Seconds that a connection gets to end whose client came back on another one."""
BREATHER = 0.1
"""Seconds between attempts to accept when there are too many open files."""
_TRY_AGAIN = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}

Talk = Callable[[WebSocketTransport, Visitor, anyio.Event], Awaitable[None]]
"""Talks to a client until it goes away. When the event is set it should finish what runs, and leave."""


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What strangers and clients may cost. `opening` is seconds for TLS and the request, and for the first message."""

    connections: int = 1000
    per_address: int = 100
    opening: float = 10.0
    connection: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class _Open:
    """A connection that talks."""

    transport: WebSocketTransport
    principal: str
    gone: anyio.Event = field(default_factory=anyio.Event)


class WebSocketServer:
    """Serves `talk` behind a gate. Run `serve` in a task; `drain` ends it."""

    def __init__(
        self, talk: Talk, gate: Gate, *, limits: ServerLimits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._talk, self._gate, self._tls = talk, gate, tls
        self._limits = limits or ServerLimits()
        self._addresses: Counter[str] = Counter()
        self._open: dict[str, _Open] = {}
        self._leaving = anyio.Event()
        self._empty = anyio.Event()
        self._accepting: anyio.CancelScope | None = None

    @property
    def connections(self) -> int:
        """How many there are, those that are not open yet among them."""
        return self._addresses.total()

    async def serve(self, host: str, port: int, *, task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED) -> None:
        """Listen until `drain`; the status is the URL. Raises OSError."""
        multi = await anyio.create_tcp_listener(local_host=host, local_port=port, backlog=BACKLOG)
        try:
            async with anyio.create_task_group() as group:
                with anyio.CancelScope() as self._accepting:
                    async with anyio.create_task_group() as acceptors:
                        for listener in multi.listeners:
                            acceptors.start_soon(self._accept, cast("SocketListener", listener), group)
                        task_status.started(self._url(host, multi.listeners[0].extra(SocketAttribute.local_port)))
                await multi.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await multi.aclose()

    def _url(self, host: str, port: int) -> str:
        name = f"[{host}]" if ":" in host else host
        return f"{'wss' if self._tls else 'ws'}://{name}:{port}{PATH}"

    async def drain(self, seconds: float) -> None:
        """Accept no more, let what runs go on for some seconds, then close every connection with 1001."""
        if self._accepting is not None:
            self._accepting.cancel()
        for one in self._open.values():
            one.transport.farewell = (1001, "the server is shutting down")
        self._leaving.set()
        with anyio.move_on_after(seconds):
            while self._addresses.total():
                self._empty = anyio.Event()
                await self._empty.wait()

    # One connection ----------------------------------------------------------------------------------

    async def _accept(self, listener: SocketListener, group: TaskGroup) -> None:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in _TRY_AGAIN:
                    raise
                log.warning("cannot accept: %s", error)
                await anyio.sleep(BREATHER)
                continue
            group.start_soon(self._welcome, stream)

    async def _welcome(self, stream: SocketStream) -> None:
        """Serve one connection. Whatever goes wrong with it is its own affair."""
        address = str(stream.extra(SocketAttribute.remote_address)[0])
        self._addresses[address] += 1
        try:
            await self._converse(stream, address)
        except BadOpening as error:
            log.info("%s: %s", address, error)
        except (
            OSError,
            TimeoutError,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
            anyio.EndOfStream,
        ) as error:
            log.info("%s: the connection broke: %s", address, error)
        except Exception:
            log.exception("%s: the connection failed", address)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.aclose_forcefully(stream)
            self._addresses[address] -= 1
            self._addresses += Counter()  # which drops those that have none left
            self._empty.set()

    async def _converse(self, stream: SocketStream, address: str) -> None:
        limits = self._limits
        too_many = self.connections > limits.connections
        with anyio.fail_after(limits.opening):
            secured: ByteStream = stream
            if self._tls is not None and not too_many:
                secured = await TLSStream.wrap(
                    stream, server_side=True, ssl_context=self._tls, standard_compatible=False
                )
        if too_many and self._tls is not None:
            return  # a handshake is what nobody should make us do now
        opening = await read_opening(secured, limits.connection, limits.opening)
        verdict = self._gate.judge(opening.request, address)
        if too_many:
            await opening.refuse(503, "there are too many connections", {"Retry-After": "5"})
        elif self._addresses[address] > limits.per_address:
            await opening.refuse(429, "there are too many connections from this address", {"Retry-After": "5"})
        elif self._leaving.is_set():
            await opening.refuse(503, "the server is shutting down", {"Retry-After": "5"})
        elif isinstance(verdict, Refusal):
            log.info("%s: refused, %d: %s", address, verdict.status, verdict.text)
            challenge = {"WWW-Authenticate": 'Bearer realm="acp"'} if verdict.status == 401 else {}
            await opening.refuse(verdict.status, verdict.text, challenge)
        else:
            await self._replace(opening.request, verdict)
            async with opening.accept(limits.opening) as transport:
                await self._host(transport, verdict, opening.id)

    async def _host(self, transport: WebSocketTransport, visitor: Visitor, id: str) -> None:
        who = f"{visitor.principal or 'somebody'} at {visitor.address}"
        log.info("connection %s of %s", id, who)
        self._open[id] = here = _Open(transport, visitor.principal)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._expect_words, transport)
                await self._talk(transport, visitor, self._leaving)
                group.cancel_scope.cancel()
        finally:
            del self._open[id]
            here.gone.set()
            log.info("connection %s of %s is over: %s", id, who, transport.epitaph() or "we closed it")

    async def _replace(self, request: Request, visitor: Visitor) -> None:
        """Cut the connection that this one takes the place of: its client has lost it, and we do not know that yet."""
        for id in request.all(CONNECTION_ID.lower()):
            old = self._open.get(id)
            if old is not None and old.principal == visitor.principal:
                await old.transport.abort("the client came back on another connection")
                with anyio.move_on_after(REPLACING):
                    await old.gone.wait()

    async def _expect_words(self, transport: WebSocketTransport) -> None:
        """Close a connection on which nobody says anything; heartbeats are no words."""
        await anyio.sleep(self._limits.opening)
        if not transport.texts:
            transport.farewell = (1008, "no message came")
            await transport.aclose()
