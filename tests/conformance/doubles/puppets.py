"""Doubles in the test's own process, reached as a process or a connection would be, but without I/O."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from acp.transports import Oversize
from acp.transports.lines import LineBuffer

from .agent import Agent
from .agent_defects import Defect
from .client import Client
from .proxy import Proxy


def open_stream() -> tuple[MemoryObjectSendStream[bytes | Oversize], MemoryObjectReceiveStream[bytes | Oversize]]:
    """What an object has said; not bounded, for an object cannot wait."""
    return anyio.create_memory_object_stream[bytes | Oversize](math.inf)


class PuppetLine:
    """A connection to an agent or a proxy that is an object: it is made with a way to say something."""

    def __init__(self, make: Callable[[Callable[[bytes], None]], Agent | Proxy], carrier: str) -> None:
        self.carrier = carrier
        self._lines = LineBuffer()
        self._out, self._in = open_stream()
        self.dead = False
        self.agent = make(self._put)

    def _put(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._out.send_nowait(line)

    async def send(self, *texts: bytes) -> None:
        await self.write(b"".join(text + b"\n" for text in texts))

    async def write(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self.dead:
            raise anyio.BrokenResourceError
        try:
            self.agent.feed(data)
        except SystemExit:
            self._die()

    def _die(self) -> None:
        self.dead = True
        self._out.close()

    async def receive(self) -> bytes | Oversize:
        return await self._in.receive()

    async def hang_up(self) -> None:
        if self.agent.end():
            self._die()

    async def ended(self, seconds: float) -> bool:
        await anyio.sleep(0 if self.dead else seconds)
        return self.dead

    def epitaph(self) -> str:
        return ""

    def close(self) -> None:
        self._out.close()
        self._in.close()


class Puppet:
    """A way to an agent that is an object."""

    def __init__(self, version: int, defect: Defect | None = None, carrier: str = "stdio") -> None:
        self.version, self.defect, self.carrier = version, defect, carrier

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[PuppetLine]:
        line = PuppetLine(self._make, self.carrier)
        try:
            yield line
        finally:
            line.close()

    def _make(self, put: Callable[[bytes], None]) -> Agent:
        agent = Agent(self.version, put, self.defect)
        if self.defect is not None:
            self.defect.begin(agent)
        return agent

    def __str__(self) -> str:
        return f"a puppet of version {self.version} {self.defect.name if self.defect else ''}"


class PuppetProxy:
    """A way to a proxy that is an object."""

    def __init__(self, defect: str = "") -> None:
        self.defect = defect

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[PuppetLine]:
        line = PuppetLine(lambda put: Proxy(self.defect, put), "stdio")
        try:
            yield line
        finally:
            line.close()

    def __str__(self) -> str:
        return f"a puppet of a proxy {self.defect}"


# Clients -----------------------------------------------------------------------------------------------------------


class PuppetWire:
    """The wire to a client that is an object, and the client as a process."""

    def __init__(self, version: int, defect: str, cwd: str) -> None:
        self._lines = LineBuffer()
        self._out, self._in = open_stream()
        self.returncode: int | None = None
        self.client = Client(version, defect, self._put, cwd)

    def _put(self, data: bytes) -> None:
        for line in self._lines.feed(data):
            self._out.send_nowait(line)

    async def receive(self) -> bytes | Oversize:
        return await self._in.receive()

    async def send(self, *texts: bytes) -> None:
        await self.write(b"".join(text + b"\n" for text in texts))

    async def write(self, data: bytes) -> None:
        await anyio.lowlevel.checkpoint()
        if self.returncode is not None:
            raise anyio.BrokenResourceError
        self.act(lambda: self.client.feed(data))

    write_apart = write

    def act(self, what: Callable[[], object]) -> None:
        """Have the client do something; it may end of it."""
        try:
            what()
        except SystemExit as end:
            self._end(end.code if isinstance(end.code, int) else 1)
        except AssertionError:
            self._end(1)

    def _end(self, code: int) -> None:
        self.returncode = code
        self._out.close()

    async def complain(self, data: bytes) -> None:
        """Nobody reads it, or somebody does."""
        await (anyio.sleep_forever() if self.client.bad("leaves-stderr") else anyio.lowlevel.checkpoint())

    async def exit(self, status: int) -> None:
        if self.returncode is None and self.client.left():
            self._end(1)

    async def ended(self, seconds: float) -> bool:
        await anyio.sleep(0 if self.returncode is not None else seconds)
        return self.returncode is not None

    def interrupt(self) -> None:
        self.act(self.client.interrupt)

    def epitaph(self) -> str:
        return f"status {self.returncode}"

    def close(self) -> None:
        self._out.close()
        self._in.close()


class PuppetClient:
    """A way to start a client that is an object."""

    def __init__(self, version: int, defect: str = "") -> None:
        self.version, self.defect = version, defect

    @asynccontextmanager
    async def __call__(self, cwd: str, seconds: float) -> AsyncGenerator[tuple[PuppetWire, PuppetWire]]:
        wire = PuppetWire(self.version, self.defect, cwd)
        try:
            wire.act(wire.client.start)
            yield wire, wire
        finally:
            wire.close()
            wire.client.tidy()

    def __str__(self) -> str:
        return f"a puppet of version {self.version} {self.defect}"
