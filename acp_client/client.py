"""The client: one connection to one agent, and the sessions on it."""

from __future__ import annotations

import logging
import os
import signal
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.metadata import PackageNotFoundError, version

import anyio
from anyio.abc import TaskGroup

from acp.connection import Connection
from acp.dialect import Dialect
from acp.errors import ConnectionClosed
from acp.transports import Transport
from acp.transports.child import ChildTransport
from acp.updates import ToolCallUpdate, Update

from .host import Host, Option
from .launch import CannotStart, Target, open_transport
from .session import KEPT_UPDATES, Session
from .surface import AgentInfo
from .surface_v1 import SurfaceV1

log = logging.getLogger("acp")

START = 30.0
"""Seconds an agent gets to start and answer `initialize`."""
EARLY_SESSIONS = 16
"""Sessions that may report before we know them; of more, the reports are dropped."""


class Client:
    """A conversation with one agent. Made by `connect`."""

    def __init__(self, host: Host, transport: Transport) -> None:
        self.surface = SurfaceV1(host, self)
        self.connection = Connection(transport, self.surface.handlers, name="agent", calls=self.surface.first_calls)
        self.surface.connection = self.connection
        self.sessions: dict[str, Session] = {}
        self._host = host
        self._transport = transport
        self._group: TaskGroup | None = None
        self._early: dict[str, deque[Update]] = {}

    def __repr__(self) -> str:
        return f"<Client of {self.info.name or 'an agent'} [{len(self.sessions)} sessions, {self.connection!r}]>"

    @property
    def info(self) -> AgentInfo:
        """What the agent said of itself."""
        return self.surface.info

    @property
    def dialect(self) -> Dialect:
        """The version that was agreed on."""
        return self.surface.dialect

    async def new_session(
        self, cwd: str | os.PathLike[str], *, directories: Sequence[str | os.PathLike[str]] = ()
    ) -> Session:
        """A new session in a directory, made absolute. Raises RequestError, ConnectionClosed."""
        where = _absolute(cwd)
        id = await self.surface.new_session(where, directories=[_absolute(path) for path in directories])
        assert self._group is not None
        session = self.sessions[id] = Session(id, where, self.surface, self._host, self._group, self._forget)
        session.updates.extend(self._early.pop(id, ()))
        return session

    def kill(self) -> None:
        """End an agent that we started, at once. Of another, nothing happens; leaving the block ends both."""
        if isinstance(self._transport, ChildTransport):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.process.pid, signal.SIGKILL)

    def _forget(self, session_id: str) -> None:
        self.sessions.pop(session_id, None)

    # For the surface -------------------------------------------------------------------------------

    async def updated(self, session_id: str, update: Update) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            await session.receive(update)
        elif session_id in self._early or len(self._early) < EARLY_SESSIONS:
            # Many agents report on a session before they have answered session/new.
            self._early.setdefault(session_id, deque(maxlen=KEPT_UPDATES)).append(update)
        else:
            log.info("an update of session %r, which we do not know, was dropped", session_id)

    async def asked(self, session_id: str, call: ToolCallUpdate, options: Sequence[Option]) -> str | None:
        session = self.sessions.get(session_id)
        if session is None:
            log.warning("a question of session %r, which we do not know, was dismissed", session_id)
            return None
        return await session.ask(call, options)

    # Life ------------------------------------------------------------------------------------------

    async def start(self, exits: AsyncExitStack, seconds: float) -> None:
        """Run, in the task that will end `exits`, and agree on a version. Raises CannotStart, NegotiationError."""
        await exits.enter_async_context(self.connection)
        self._group = await exits.enter_async_context(anyio.create_task_group())
        exits.push_async_callback(self._stop)
        try:
            with anyio.fail_after(seconds):
                await self.surface.initialize(_release())
        except anyio.get_cancelled_exc_class():
            self.kill()  # it has nothing to finish
            raise
        except TimeoutError:
            self.kill()
            words = self._transport.epitaph()
            raise CannotStart(
                f"the agent did not answer initialize in {seconds:g} s" + (f"; {words}" if words else "")
            ) from None
        except ConnectionClosed as error:
            raise CannotStart(f"the agent did not answer initialize: {error.reason}") from error

    async def _stop(self) -> None:
        with anyio.CancelScope(shield=True):
            await self.connection.aclose()
        if self._group is not None:
            self._group.cancel_scope.cancel()


class _Connecting:
    """`async with` this to have a client.

    What is raised inside the block leaves it as it is: it never passes through a task group of ours.
    """

    def __init__(
        self,
        target: Target,
        host: Host,
        cwd: str | os.PathLike[str] | None,
        env: Mapping[str, str] | None,
        seconds: float,
    ) -> None:
        self._target, self._host, self._cwd, self._env, self._seconds = target, host, cwd, env, seconds
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Client:
        try:
            transport = await open_transport(self._target, self._exits, cwd=self._cwd, env=self._env)
            client = Client(self._host, transport)
            await client.start(self._exits, self._seconds)
            return client
        except BaseException:
            await self._exits.aclose()
            raise

    async def __aexit__(self, *exc: object) -> None:
        await self._exits.aclose()


def connect(
    target: Target,
    *,
    host: Host | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    start_timeout: float = START,
) -> _Connecting:
    """Start an agent, or take one that runs, and talk to it: `async with connect("acp agent", host=…) as client`.

    `host` is what the client does for the agent; without one, it rejects every question. `cwd` and `env` are the
    agent process's. Raises CannotStart when the agent cannot be started or does not answer within `start_timeout`
    seconds, with its last words on stderr; NegotiationError when it speaks no version that we speak.
    """
    return _Connecting(target, host or Host(), cwd, env, start_timeout)


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)


def _release() -> str:
    try:
        return version("acp-laguna")
    except PackageNotFoundError:
        return "0"
