"""A server on the network: accepts, counts, secures, and hands each connection to the door it came to.

Everything a stranger can make it hold is bounded: connections in all and per address, the bytes and the seconds of a
request, the seconds until the first message, and what the transports say of a connection that talks.
"""

from __future__ import annotations

import errno
import logging
import ssl
from dataclasses import dataclass, field
from typing import Protocol, cast

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskGroup, TaskStatus
from anyio.streams.tls import TLSStream

from acp.transports.remote import Limits
from acp.transports.tcp import accept
from acp.transports.websocket_opening import BadOpening

from .crowd import Crowd
from .gate import PATH, Gate, Refusal
from .visits import Talk, Visits
from .websocket_door import WebSocketDoor

log = logging.getLogger(__name__)

BACKLOG = 128
ENDING = 5.0
"""Seconds that connections get to say farewell when they are cut."""
BREATHER = 0.1
"""Seconds between attempts to accept when there are too many open files."""
_TRY_AGAIN = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """What strangers and clients may cost. `opening` is seconds for TLS and the request, and for the first message."""

    connections: int = 1000
    per_address: int = 100
    opening: float = 10.0
    connection: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Guest:
    """Who stands at the door, and why the crowd does not let them in, if so."""

    address: str
    refusal: Refusal | None = None


class Door(Protocol):
    """What is spoken at an address. `alpn` is what TLS agrees on."""

    scheme: str
    alpn: tuple[str, ...]

    async def run(self, server: Server, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Do what is to be done besides, as long as the door is open."""
        ...

    async def converse(self, server: Server, stream: ByteStream, guest: Guest) -> None:
        """Serve one connection, to its end."""
        ...


class Server:
    """Serves `talk` behind a gate. Run `serve` in a task, once for each address to listen on; `drain`, `cut` end it."""

    def __init__(
        self, talk: Talk, gate: Gate, *, limits: ServerLimits | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.gate = gate
        self.limits = limits or ServerLimits()
        self.visits = Visits(talk, self.limits.opening)
        self._tls = tls
        self._crowd = Crowd(self.limits.connections, self.limits.per_address)

    @property
    def connections(self) -> int:
        """How many there are, those that are not open yet among them."""
        return len(self._crowd)

    async def serve(
        self,
        host: str,
        port: int,
        door: Door | None = None,
        *,
        task_status: TaskStatus[str] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until everybody has gone after `drain`; the status is the URL. Raises OSError."""
        door = door or WebSocketDoor()
        if self._tls is not None and door.alpn:
            self._tls.set_alpn_protocols(door.alpn)
        multi = await anyio.create_tcp_listener(local_host=host, local_port=port, backlog=BACKLOG)
        try:
            async with anyio.create_task_group() as group:
                await group.start(door.run, self)
                async with anyio.create_task_group() as acceptors:
                    for listener in multi.listeners:
                        acceptors.start_soon(self._accept, cast("SocketListener", listener), door, group)
                    bound: int = multi.listeners[0].extra(SocketAttribute.local_port)
                    task_status.started(self._url(door, host, bound))
                    await self.visits.leaving.wait()
                    await self.visits.wait_gone()  # meanwhile a client may still come with an answer
                    acceptors.cancel_scope.cancel()
                group.cancel_scope.cancel()
        finally:
            with anyio.CancelScope(shield=True):
                await multi.aclose()

    def _url(self, door: Door, host: str, port: int) -> str:
        name = f"[{host}]" if ":" in host else host
        return f"{door.scheme}{'s' if self._tls else ''}://{name}:{port}{PATH}"

    async def drain(self, seconds: float) -> None:
        """Let nobody in any more, what runs go on for some seconds, and have every connection closed with 1001."""
        self.visits.leave()
        with anyio.move_on_after(seconds):
            await self.visits.wait_gone()
        await self.cut()

    async def cut(self) -> None:
        """Let nobody in any more, cancel what runs, and close every connection with 1001: in `ENDING` seconds."""
        self.visits.leave()
        self.visits.cut()
        with anyio.move_on_after(ENDING):
            await self.visits.wait_gone()

    # One connection ----------------------------------------------------------------------------------

    async def _accept(self, listener: SocketListener, door: Door, group: TaskGroup) -> None:
        while True:
            try:
                stream = await accept(listener)
            except OSError as error:
                if error.errno not in _TRY_AGAIN:
                    raise
                log.warning("cannot accept: %s", error)
                await anyio.sleep(BREATHER)
                continue
            group.start_soon(self._welcome, stream, door)

    async def _welcome(self, stream: SocketStream, door: Door) -> None:
        """Serve one connection. Whatever goes wrong with it is its own affair."""
        address = str(stream.extra(SocketAttribute.remote_address)[0])
        self._crowd.enter(address)
        try:
            # A handshake of TLS is what nobody should make us do when there are too many already.
            if self._tls is None or not self._crowd.is_full:
                await door.converse(self, await self._secured(stream), Guest(address, self._crowd.refusal(address)))
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
            self._crowd.leave(address)

    async def _secured(self, stream: SocketStream) -> ByteStream:
        if self._tls is None:
            return stream
        with anyio.fail_after(self.limits.opening):
            return await TLSStream.wrap(stream, server_side=True, ssl_context=self._tls, standard_compatible=False)
