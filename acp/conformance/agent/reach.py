"""How an agent under test is reached: a command that is started, a URL, or an agent in this process.

Each check reaches the agent anew. What differs between carriers is here; everything above sees a `Line`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import anyio

from ...tasks import task_group
from ...transports import Oversize, Transport
from ...transports.child import ChildTransport, spawn_agent
from ...transports.memory import MemoryTransport, memory_pair

CLOSE_GRACE = 0.5
"""Seconds that an agent gets to end at each step: its stdin closed, SIGTERM, SIGKILL."""


class Unreachable(Exception):
    """The agent cannot be started, or nothing answers at its URL."""


class Line(Protocol):
    """One connection to an agent. `carrier` is `stdio`, `websocket`, `http` or `memory`."""

    carrier: str

    async def send(self, *texts: bytes) -> None: ...

    async def receive(self) -> bytes | Oversize: ...

    async def write(self, data: bytes) -> None:
        """Bytes as they are, of a carrier that carries bytes."""
        ...

    async def hang_up(self) -> None:
        """Say that nothing more will be said."""
        ...

    async def ended(self, seconds: float) -> bool:
        """Has the agent ended within so many seconds?"""
        ...

    def epitaph(self) -> str: ...


class Reach(Protocol):
    """A way to an agent."""

    def __call__(self) -> AbstractAsyncContextManager[Line]:
        """A new connection. Raises Unreachable, OSError."""
        ...


@dataclass(slots=True)
class _ChildLine:
    """A connection to an agent that was started for it."""

    transport: ChildTransport
    carrier: str = "stdio"

    async def send(self, *texts: bytes) -> None:
        await self.transport.send(*texts)

    async def receive(self) -> bytes | Oversize:
        return await self.transport.receive()

    async def write(self, data: bytes) -> None:
        await self.transport.write(data)

    async def hang_up(self) -> None:
        self.transport.end_input()

    async def ended(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self.transport.process.wait()
        return self.transport.process.returncode is not None

    def epitaph(self) -> str:
        return self.transport.epitaph()


@dataclass(slots=True)
class _TextLine:
    """A connection that carries texts, to an agent that was there before it or lives in this process."""

    transport: Transport
    carrier: str

    async def send(self, *texts: bytes) -> None:
        await self.transport.send(*texts)

    async def receive(self) -> bytes | Oversize:
        return await self.transport.receive()

    async def write(self, data: bytes) -> None:
        raise NotImplementedError(f"{self.carrier} carries no bytes")

    async def hang_up(self) -> None:
        await self.transport.aclose()

    async def ended(self, seconds: float) -> bool:
        return False

    def epitaph(self) -> str:
        return self.transport.epitaph()


@dataclass(frozen=True, slots=True)
class Command:
    """An agent that is started by a command, in `cwd` or where we are, and talks over its stdin and stdout."""

    argv: Sequence[str]
    cwd: str | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])
    close_grace: float = CLOSE_GRACE

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[Line]:
        env = {**os.environ, **self.env}
        async with spawn_agent(self.argv, cwd=self.cwd, env=env, patience=self.close_grace) as transport:
            yield _ChildLine(transport)

    def __str__(self) -> str:
        return shlex.join(self.argv)


@dataclass(frozen=True, slots=True)
class Address:
    """An agent on the network. `headers` open its door; `insecure` lets them go to another machine in the clear."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    insecure: bool = False

    def __call__(self) -> AbstractAsyncContextManager[Line]:
        for schemes, carrier in CARRIERS.items():
            if self.url.startswith(schemes):
                return _network(self, carrier)
        raise Unreachable(f"{self.url} is none of {', '.join(s for schemes in CARRIERS for s in schemes)}…")

    def __str__(self) -> str:
        return self.url


@asynccontextmanager
async def _network(where: Address, carrier: str) -> AsyncGenerator[Line]:
    # Imported here: whoever judges a command needs none of it.
    from ...transports.remote import CannotConnect
    from ...transports.remote_url import connect

    async with AsyncExitStack() as exits:
        try:
            opening = connect(where.url, headers=where.headers, insecure=where.insecure)
            transport = await exits.enter_async_context(opening)
        except (CannotConnect, ValueError) as error:
            raise Unreachable(str(error)) from None
        yield _TextLine(transport, carrier)


CARRIERS: Mapping[tuple[str, ...], str] = {("ws://", "wss://"): "websocket", ("http://", "https://"): "http"}
"""Beginnings of a URL → what carries the texts."""


@dataclass(frozen=True, slots=True)
class Here:
    """An agent in this process: it is given its end of a transport, and serves until that ends."""

    serve: Callable[[Transport], Awaitable[object]]

    @asynccontextmanager
    async def __call__(self) -> AsyncGenerator[Line]:
        ours, theirs = memory_pair()
        async with task_group(cancel_at_end=True) as group:
            group.start_soon(self._run, theirs)
            try:
                yield _TextLine(ours, "memory")
            finally:
                await ours.aclose()

    async def _run(self, transport: MemoryTransport) -> None:
        try:
            await self.serve(transport)
        finally:
            await transport.aclose()

    def __str__(self) -> str:
        return "an agent in this process"


def reach_of(target: str | Sequence[str] | Reach) -> Reach:
    """The way to a command line, to its words, to a URL; a way is one already. Raises ValueError."""
    if isinstance(target, str) and any(target.startswith(schemes) for schemes in CARRIERS):
        return Address(target)
    if isinstance(target, str):
        return Command(shlex.split(target))
    if isinstance(target, Sequence):
        if not target:
            raise ValueError("the agent's command is empty")
        return Command(list(target))
    return target
