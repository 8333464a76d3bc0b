"""A network between a client and a server that can be cut: a relay of TCP."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import SocketAttribute, SocketStream

BROKEN = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream, OSError)


class Network:
    """`cut` breaks every connection; while `down`, new ones break at once. `passed` counts bytes to the client."""

    def __init__(self, there: int, scheme: str) -> None:
        self.port = 0
        self._scheme = scheme
        self.down = False
        self.connections = 0
        self.passed = 0
        self.cut_after: int | None = None
        self.there = there
        self._open: set[SocketStream] = set()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/acp"

    @property
    def waits(self) -> bool:
        """Whether a cut is still to come."""
        return self.cut_after is not None

    async def cut(self) -> None:
        for stream in list(self._open):
            await anyio.aclose_forcefully(stream)

    async def carry(self, here: SocketStream) -> None:
        if self.down:
            await anyio.aclose_forcefully(here)
            return
        self.connections += 1
        with suppress(*BROKEN):
            there = await anyio.connect_tcp("127.0.0.1", self.there)
            self._open |= {here, there}
            try:
                async with anyio.create_task_group() as group:
                    group.start_soon(self._pass, here, there, False)
                    group.start_soon(self._pass, there, here, True)
            finally:
                self._open -= {here, there}
                with anyio.CancelScope(shield=True):
                    for stream in (here, there):
                        await anyio.aclose_forcefully(stream)

    async def _pass(self, one: SocketStream, other: SocketStream, counts: bool) -> None:
        with suppress(*BROKEN):
            while True:
                data = await one.receive(1000)
                if counts:
                    self.passed += len(data)
                    if self.cut_after is not None and self.passed > self.cut_after:
                        self.cut_after = None
                        await self.cut()
                        return
                await other.send(data)
        for stream in (one, other):
            await anyio.aclose_forcefully(stream)


@asynccontextmanager
async def network_to(port: int, scheme: str = "ws") -> AsyncGenerator[Network]:
    network = Network(port, scheme)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    network.port = listener.extra(SocketAttribute.local_port)
    async with listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, network.carry)
        yield network
        group.cancel_scope.cancel()
