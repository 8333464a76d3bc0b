"""Our client library with all that it can do. It prompts once and closes the session; an interrupt cancels its turn.

`our_client.py VERSION AGENT-COMMAND…` is a process, `InThisProcess` plays the same against a transport in memory.
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

Wait = Callable[[], Awaitable[None]]
"""Comes back when the client is interrupted."""


async def ask(request: PermissionRequest) -> str | None:
    if "Wait" in request.title or "Wait" in (request.call.title or ""):
        await anyio.sleep_forever()
    return await allow_all(request)


async def elicit(request: Request) -> Answer:
    return Accepted(request.defaults) if isinstance(request, FormRequest) else Dismissed()


async def play(version: int, agent: list[str] | Transport, cwd: str, interrupted: Wait) -> None:
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
    """A way for the checker to start it in this process: the client's process and the wire to it, in one."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._interrupted = anyio.Event()
        self._over = anyio.Event()
        self._transport, self._theirs = memory_pair()
        self.returncode: int | None = None

    async def receive(self) -> bytes | Oversize:
        return await self._transport.receive()

    async def send(self, *texts: bytes) -> None:
        await self._transport.send(*texts)

    async def write(self, data: bytes) -> None:
        raise NotImplementedError

    write_apart = complain = write

    async def exit(self, status: int) -> None:
        await self._transport.aclose()

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
            await play(self._version, self._theirs, cwd, self._interrupted.wait)
        except* AcpError:
            self.returncode = 1
        finally:
            self.returncode = self.returncode or 0
            self._over.set()
            await self._theirs.aclose()


class Ours:
    """A way for the checker to start our client in this process, anew for each check."""

    def __init__(self, version: int) -> None:
        self._version = version

    @asynccontextmanager
    async def __call__(self, cwd: str, seconds: float) -> AsyncGenerator[tuple[InThisProcess, InThisProcess]]:
        player = InThisProcess(self._version)
        async with anyio.create_task_group() as group:
            group.start_soon(player.run, cwd)
            try:
                yield player, player
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
