"""A client of one agent: `async with connect("acp agent", host=Host(ask=allow_edits)) as client`."""

from __future__ import annotations

import logging
import os
import shlex
from collections import deque
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import anyio
from anyio.abc import TaskGroup

from acp.connection import Connection
from acp.errors import AcpError, ConnectionClosed
from acp.tasks import task_group
from acp.transports import Transport
from acp.transports.child import spawn_agent
from acp.updates import Update

from .host import Host, PermissionRequest
from .session import Session
from .surface_v1 import AgentInfo, SurfaceV1

log = logging.getLogger("acp.client")

START_SECONDS = 30.0
EARLY_UPDATES = 256
"""Updates kept for sessions that we have not been told of yet, all together."""

Agent = str | Sequence[str] | Transport


class CannotStart(AcpError):
    """The agent's command cannot be started, or it did not answer `initialize`."""


class Client:
    """Talks to one agent. Made by `connect`."""

    def __init__(self, host: Host, group: TaskGroup) -> None:
        self._host, self._group = host, group
        self._sessions: dict[str, Session] = {}
        self._early: deque[tuple[str, Update]] = deque(maxlen=EARLY_UPDATES)
        self.surface = SurfaceV1(host, self._deliver, self._ask)
        self.agent: AgentInfo

    def __repr__(self) -> str:
        return f"<Client of {self.agent.name}, {len(self._sessions)} sessions, {self.surface.connection!r}>"

    async def new_session(self, cwd: str | os.PathLike[str]) -> Session:
        """Begin a session in a directory, given by any path; the agent gets it absolute. Raises RequestError."""
        session = Session(await self.surface.new_session(_absolute(cwd)), self)
        self._sessions[session.id] = session
        early = [update for id, update in self._early if id == session.id]
        kept = [item for item in self._early if item[0] != session.id]
        self._early.clear()
        self._early.extend(kept)
        for update in early:  # some agents speak of a session before they have answered session/new
            await session._deliver(update)  # pyright: ignore[reportPrivateUsage]
        return session

    def start(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> None:
        """Run something for as long as the client lives."""
        self._group.start_soon(function, *args)

    def forget(self, session_id: str) -> None:
        self._sessions.pop(session_id, None)

    async def _deliver(self, session_id: str, update: Update) -> None:
        session = self._sessions.get(session_id)
        if session is None:
            self._early.append((session_id, update))
            return
        try:
            await session._deliver(update)  # pyright: ignore[reportPrivateUsage]
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            log.debug("an update for session %s, which is closed", session_id)

    async def _ask(self, request: PermissionRequest) -> str | None:
        """Let the host decide, unless the turn is being cancelled."""
        session = self._sessions.get(request.session_id)
        if session is None or session.cancelled:
            return None
        chosen: str | None = None
        with anyio.CancelScope() as scope:
            session._asking.add(scope)  # pyright: ignore[reportPrivateUsage]
            try:
                chosen = await self._host.ask(request)
            finally:
                session._asking.discard(scope)  # pyright: ignore[reportPrivateUsage]
        return None if session.cancelled else chosen


@asynccontextmanager
async def connect(
    agent: Agent,
    *,
    host: Host,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    name: str = "acp-laguna",
) -> AsyncGenerator[Client]:
    """Start an agent by its command line, or take a transport to one, and agree on a version.

    Raises CannotStart: no such command, or no answer to `initialize` in thirty seconds; NegotiationError; and
    whatever the block raises, as it is. Leaving the block ends the agent and every process of its group.
    """
    async with AsyncExitStack() as stack:
        transport = await _open(agent, stack, cwd, env)
        group = await stack.enter_async_context(task_group(cancel_at_end=True))
        client = Client(host, group)
        surface = client.surface
        surface.connection = Connection(transport, surface.handlers, name="client")
        connection = await stack.enter_async_context(surface.connection)
        try:
            with anyio.fail_after(START_SECONDS):
                client.agent = await surface.initialize(name, _version())
        except TimeoutError as error:
            words = transport.epitaph()
            raise CannotStart(f"the agent did not answer initialize in {START_SECONDS:.0f} s; {words}") from error
        except ConnectionClosed as error:
            raise CannotStart(f"the agent ended before it answered initialize: {error.reason}") from error
        yield client
        await connection.aclose()


async def _open(
    agent: Agent, stack: AsyncExitStack, cwd: str | os.PathLike[str] | None, env: Mapping[str, str] | None
) -> Transport:
    if not isinstance(agent, str | Sequence):
        return agent
    argv = shlex.split(agent) if isinstance(agent, str) else list(agent)
    if not argv:
        raise CannotStart("the agent's command is empty")
    try:
        return await stack.enter_async_context(spawn_agent(argv, cwd=cwd, env=env))
    except OSError as error:
        raise CannotStart(f"cannot start {argv[0]!r}: {error.strerror or error}") from error


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)


def _version() -> str:
    try:
        return version("acp-laguna")
    except PackageNotFoundError:
        return "0"
