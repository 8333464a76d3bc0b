"""Our client library with all that it can do. It prompts once and closes the session; an interrupt cancels its turn.

`our_client.py VERSION AGENT-COMMAND…` is a process, `InThisProcess` plays the same against a transport in memory or
an agent at a URL.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

from acp.errors import AcpError
from acp.transports import Oversize, Transport
from acp.transports.memory import memory_pair
from acp_client import (
    Accepted,
    Dismissed,
    FormRequest,
    Host,
    LocalFiles,
    LocalTerminals,
    PermissionRequest,
    Turn,
    allow_all,
    connect,
)
from acp_client.host.elicitation import Answer, Request
from acp_server.network.gate import Gate, Visitor
from acp_server.network.http_door import HttpDoor
from acp_server.network.server import Server
from acp_server.network.visits import ServedTransport

BYTES = ["rpc.split", "rpc.joined", "rpc.stderr", "end.dies", "end.early", "cancel.permission", "cancel.late"]
"""Checks that want a process, or bytes and not texts: over stdio alone."""
Wait = Callable[[], Awaitable[None]]
"""Comes back when the client is interrupted."""


async def ask(request: PermissionRequest) -> str | None:
    if "Wait" in request.title or "Wait" in (request.call.title or ""):
        await anyio.sleep_forever()
    return await allow_all(request)


async def elicit(request: Request) -> Answer:
    return Accepted(request.defaults) if isinstance(request, FormRequest) else Dismissed()


async def play(version: int, agent: list[str] | str | Transport, cwd: str, interrupted: Wait) -> None:
    """One session with one prompt."""

    async def cancel(turn: Turn) -> None:
        await interrupted()
        await turn.cancel()

    async with LocalTerminals(cwd) as terminals:
        host = Host(ask=ask, files=LocalFiles(cwd), terminals=terminals, elicit=elicit)
        async with connect(agent, host=host, version=version) as client:
            able = client.info.capabilities
            if able.get("auth"):  # an agent that announces much
                await client.list_sessions()
            if able.get("loadSession"):
                session = await client.load_session("kept", cwd)
            else:
                session = await client.new_session(cwd)
            async with anyio.create_task_group() as group, session.prompt("hello") as turn:
                group.start_soon(cancel, turn)
                await turn.text()
                group.cancel_scope.cancel()
            await session.close()


class InThisProcess:
    """A way for the checker to start it in this process: the client's process and the wire to it, in one.

    `agent` is what the client connects to, and `transport` the other end of that.
    """

    transport: Transport

    def __init__(self, version: int, agent: str | Transport) -> None:
        self._version, self._agent = version, agent
        self._interrupted = anyio.Event()
        self._over = anyio.Event()
        self.returncode: int | None = None

    async def receive(self) -> bytes | Oversize:
        return await self.transport.receive()

    async def send(self, *texts: bytes) -> None:
        await self.transport.send(*texts)

    async def write(self, data: bytes) -> None:
        raise NotImplementedError

    write_apart = complain = write

    async def exit(self, status: int) -> None:
        await self.transport.aclose()

    async def ended(self, seconds: float) -> bool:
        with anyio.move_on_after(seconds):
            await self._over.wait()
        return self._over.is_set()

    def interrupt(self) -> None:
        self._interrupted.set()

    def epitaph(self) -> str:
        return ""

    async def run(self, cwd: str) -> None:
        try:
            await play(self._version, self._agent, cwd, self._interrupted.wait)
        except* AcpError:
            self.returncode = 1
        finally:
            self.returncode = self.returncode or 0
            self._over.set()
            if not isinstance(self._agent, str):
                await self._agent.aclose()


class Ours:
    """A way for the checker to start our client in this process, anew for each check."""

    def __init__(self, version: int) -> None:
        self._version = version

    @asynccontextmanager
    async def __call__(self, cwd: str, seconds: float) -> AsyncGenerator[tuple[InThisProcess, InThisProcess]]:
        ours, theirs = memory_pair()
        player = InThisProcess(self._version, theirs)
        player.transport = ours
        async with _started(player, cwd):
            yield player, player


class OursAtUrl:
    """The same with a server between them, over `ws` or `http`: our client comes to its URL."""

    def __init__(self, version: int, scheme: str) -> None:
        self._version, self._scheme = version, scheme

    @asynccontextmanager
    async def __call__(self, cwd: str, seconds: float) -> AsyncGenerator[tuple[InThisProcess, InThisProcess]]:
        came, served = anyio.create_memory_object_stream[Transport](1)

        async def talk(transport: ServedTransport, visitor: Visitor, leaving: anyio.Event) -> None:
            await came.send(transport)
            await anyio.sleep_forever()

        async with came, served, anyio.create_task_group() as group:
            door = HttpDoor() if self._scheme == "http" else None
            url: str = await group.start(Server(talk, Gate()).serve, "127.0.0.1", 0, door)
            player = InThisProcess(self._version, url)
            async with _started(player, cwd):
                with anyio.fail_after(seconds):
                    player.transport = await served.receive()
                yield player, player
            group.cancel_scope.cancel()


@asynccontextmanager
async def _started(player: InThisProcess, cwd: str) -> AsyncGenerator[None]:
    async with anyio.create_task_group() as group:
        group.start_soon(player.run, cwd)
        try:
            yield
        finally:
            group.cancel_scope.cancel()
            await player.exit(0)


async def interrupts() -> None:
    with anyio.open_signal_receiver(signal.SIGINT) as signals:
        async for _ in signals:
            return


if __name__ == "__main__":
    try:
        anyio.run(play, int(sys.argv[1]), sys.argv[2:], os.getcwd(), interrupts)
    except* AcpError as errors:
        sys.exit(str(errors.exceptions[0]))
