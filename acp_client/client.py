"""The client: one connection to one agent, and the sessions on it."""

from __future__ import annotations

import logging
import os
import signal
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup

from acp.connection import Connection
from acp.dialect import Dialect
from acp.errors import AcpError, ConnectionClosed, LocalProtocolError, NegotiationError, RequestError
from acp.transports import Transport
from acp.transports.child import ChildTransport
from acp.transports.remote import ClientTransport
from acp.transports.remote_url import is_url
from acp.updates import Json, Subagent, Update

from .drafts import Archived, AuthStatus, Drafts, auth_status
from .host.elicitation import answered
from .host.host import Host
from .launch import CannotStart, Remote, Target, open_transport, open_url
from .opening import INITIALIZE, open_surface
from .provided import Provided, Tell
from .reconnect import OnState, Reconnect
from .rejoined import HeldElsewhere, may_load
from .session import KEPT_UPDATES, Session
from .surface import AgentInfo, Opened, PendingTurn, Place, Question, SessionCard, Surface, SystemPrompt
from .turn import Turn

if TYPE_CHECKING:
    from .supervisor import Supervisor

log = logging.getLogger("acp")

START = 30.0
"""Seconds an agent gets to start and answer `initialize`."""
RECONNECT = Reconnect()
STABLE = 1
"""The newest version of the protocol that is no draft."""
MOST_PAGES = 1000
"""Pages of a list that are read; an agent whose list never ends is read no further."""
EARLY_SESSIONS = 16
"""Sessions that may report before we know them; of more, the reports are dropped."""


class Client:
    """A conversation with one agent. Made by `connect`."""

    surface: Surface

    def __init__(self, host: Host, transport: Transport, version: int) -> None:
        self.connection = Connection(transport, name="agent", calls=[INITIALIZE])
        self.sessions: dict[str, Session] = {}
        self._host = host
        self._version = version
        self._transport = transport
        self._group: TaskGroup | None = None
        self._supervisor: Supervisor | None = None
        self._early: dict[str, deque[Update]] = {}
        self._provided: Provided | None = None
        self.on_auth_status: Callable[[AuthStatus], None] | None = None
        """Told when the agent says that who is logged in has changed (unstable)."""

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

    # Sessions --------------------------------------------------------------------------------------

    async def new_session(
        self,
        cwd: str | os.PathLike[str],
        *,
        directories: Sequence[str | os.PathLike[str]] = (),
        mcp_servers: Sequence[Mapping[str, Json]] = (),
        system_prompt: SystemPrompt | None = None,
    ) -> Session:
        """A new session in a directory, made absolute. Raises RequestError, ConnectionClosed.

        `mcp_servers` are passed on as they are on the wire. Raises LocalProtocolError for what the agent has not
        announced.
        """
        place = self._place(cwd, directories, mcp_servers, system_prompt)
        return self._begin(await self.surface.new_session(place), place)

    async def load_session(
        self,
        id: str,
        cwd: str | os.PathLike[str],
        *,
        replay: bool = True,
        directories: Sequence[str | os.PathLike[str]] = (),
        mcp_servers: Sequence[Mapping[str, Json]] = (),
        system_prompt: SystemPrompt | None = None,
    ) -> Session:
        """A session that the agent keeps, to go on with. `Session.history` is what was said before, with `replay`.

        Without, the session is resumed; an agent that can load only is asked for that, and replays all the same.

        Raises RequestError, ConnectionClosed, and LocalProtocolError where the agent cannot.
        """
        place = self._place(cwd, directories, mcp_servers, system_prompt)
        if id in self.sessions:
            raise LocalProtocolError(f"session {id} is open already")
        session = self._begin(Opened(id), place)
        session.is_loading, session.saw_beginning = True, replay
        try:
            session.take(await self._open(session, replay=replay))
        except BaseException:
            self._forget(id)
            raise
        finally:
            session.is_loading = False
        return session

    async def _open(self, session: Session, *, replay: bool) -> Opened:
        try:
            return await self.surface.open_session(session.id, session.place, replay=replay)
        except (RequestError, LocalProtocolError) as error:
            if replay or not may_load(self.surface, error):
                raise
        session.saw_beginning = True
        return await self.surface.open_session(session.id, session.place, replay=True)

    async def fork_session(
        self,
        id: str,
        cwd: str | os.PathLike[str],
        *,
        directories: Sequence[str | os.PathLike[str]] = (),
        mcp_servers: Sequence[Mapping[str, Json]] = (),
        system_prompt: SystemPrompt | None = None,
    ) -> Session:
        """A new session with the history of another (unstable). Raises like `load_session`."""
        place = self._place(cwd, directories, mcp_servers, system_prompt)
        return self._begin(await self.surface.fork_session(id, place), place)

    async def list_sessions(
        self, cwd: str | os.PathLike[str] | None = None, *, archived: Archived | None = None
    ) -> list[SessionCard]:
        """All sessions that the agent keeps, or those of one directory; at most `MOST_PAGES` pages of them.

        Of those that are archived (unstable) an agent lists none, unless it is told otherwise.
        """
        if archived is not None and all(method.name != "session/archive" for method in self.surface.drafts):
            raise LocalProtocolError("archiving is not open: the agent has none, or the host did not name it")
        cards: list[SessionCard] = []
        where = None if cwd is None else _absolute(cwd)
        cursor: str | None = None
        for _ in range(MOST_PAGES):
            page, cursor = await self.surface.list_sessions(where, cursor, archived)
            cards += page
            if cursor is None:
                break
        return cards

    async def delete_session(self, id: str) -> None:
        """Have the agent forget a session; one that is open here is closed first."""
        if (session := self.sessions.get(id)) is not None:
            await session.close()
        await self.surface.delete_session(id)

    @property
    def drafts(self) -> Drafts:
        """What may be asked of the agent that the protocol may still change: archiving, titles, providers, …"""
        return Drafts(self.surface)

    def _place(
        self,
        cwd: str | os.PathLike[str],
        directories: Sequence[str | os.PathLike[str]],
        mcp_servers: Sequence[Mapping[str, Json]],
        system_prompt: SystemPrompt | None,
    ) -> Place:
        provided: Sequence[Mapping[str, Json]] = ()
        if self._provided is not None and self.surface.takes_provided:
            provided = self._provided.offers
        elif self._provided is not None:
            log.warning("the agent reaches no MCP servers of its client; those of the host are not offered")
        others = [_absolute(path) for path in directories]
        return Place(_absolute(cwd), others, [*mcp_servers, *provided], system_prompt)

    def _begin(self, opened: Opened, place: Place) -> Session:
        assert self._group is not None
        session = Session(opened.id, place.cwd, self.surface, self._host, self._group, self._forget)
        session.place, session.supervisor = place, self._supervisor
        session.take(opened)
        self.sessions[opened.id] = session
        for update in self._early.pop(opened.id, ()):
            session.keep(update)
            self._adopt_child(session, update)
        return session

    def _adopt_child(self, parent: Session, update: Update) -> None:
        """Begin the session of a subagent, when its parent tells of it for the first time."""
        if not isinstance(update, Subagent) or update.session_id in self.sessions:
            return
        assert self._group is not None
        id, cwd = update.session_id, update.cwd if isinstance(update.cwd, str) else parent.cwd
        child = Session(id, cwd, self.surface, self._host, self._group, self._forget)
        child.parent, parent.subagents[id] = parent, child
        self.sessions[id] = child
        for early in self._early.pop(id, ()):
            child.keep(early)
            self._adopt_child(child, early)

    # Who we are ------------------------------------------------------------------------------------

    async def login(self, method_id: str) -> None:
        """Log in by one of the ways in `info.auth_methods` that the agent runs itself."""
        await self.surface.login(method_id)

    async def logout(self) -> None:
        await self.surface.logout()

    def kill(self) -> None:
        """End an agent that we started, at once. Of another, nothing happens; leaving the block ends both."""
        if isinstance(self._transport, ChildTransport):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._transport.process.pid, signal.SIGKILL)

    def _forget(self, session_id: str) -> None:
        session = self.sessions.pop(session_id, None)
        for child in session.subagents if session is not None else ():
            self._forget(child)

    # For the surface -------------------------------------------------------------------------------

    async def updated(self, session_id: str, update: Update) -> None:
        session = self.sessions.get(session_id)
        if session is not None:
            self._adopt_child(session, update)
            await session.receive(update)
        elif session_id in self._early or len(self._early) < EARLY_SESSIONS:
            # Many agents report on a session before they have answered session/new.
            self._early.setdefault(session_id, deque(maxlen=KEPT_UPDATES)).append(update)
        else:
            log.info("an update of session %r, which we do not know, was dropped", session_id)

    async def asked(self, session_id: str, question: Question) -> str | None:
        session = self.sessions.get(session_id)
        if session is None:
            log.warning("a question of session %r, which we do not know, was dismissed", session_id)
            return None
        return await session.ask(question)

    async def mcp_asked(self, params: Mapping[str, Json], tell: Tell) -> dict[str, Json]:
        assert self._provided is not None  # or there is no handler
        return await self._provided.ask(params, tell)

    async def auth_changed(self, params: Mapping[str, Json]) -> None:
        if self.on_auth_status is not None:
            self.on_auth_status(auth_status(params))

    async def elicited(self, params: Mapping[str, Json]) -> dict[str, Json]:
        id = params.get("sessionId")
        session = self.sessions.get(id) if id is not None else None
        if self._host.elicit is None or (id is not None and session is None):
            log.warning("a request for input in session %r, which we do not know, was dismissed", id)
            return {"action": "cancel"}
        elicit = self._host.elicit if session is None else session.elicit
        return await answered(elicit, params, agent=self.info.title or self.info.name)

    # Life ------------------------------------------------------------------------------------------

    async def start(self, exits: AsyncExitStack, seconds: float) -> None:
        """Run, in the task that will end `exits`, and agree on a version. Raises CannotStart, NegotiationError."""
        await exits.enter_async_context(self.connection)
        self._group = await exits.enter_async_context(anyio.create_task_group())
        exits.push_async_callback(self._stop)
        if self._host.mcp_servers:
            self._provided = Provided(self._host.mcp_servers, self._group)
        try:
            with anyio.fail_after(seconds):
                self.surface = await open_surface(self.connection, self._host, self, self._version, _release())
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

    async def adopt(
        self, transport: Transport, exits: AsyncExitStack, *, patient: bool = False
    ) -> dict[Turn, PendingTurn | AcpError]:
        """Go on over another transport, with every session; how the turns go on that were open.

        Raises NegotiationError, RequestError, ConnectionClosed; when it is `patient`, HeldElsewhere for a session that
        can be had later, or on another connection. The connection lasts as long as `exits`.
        """
        connection = Connection(transport, name="agent", calls=[INITIALIZE])
        await exits.enter_async_context(connection)
        surface = await open_surface(connection, self._host, self, self._version, _release())
        if surface.dialect.version != self.surface.dialect.version:
            raise NegotiationError("the agent speaks another version than before")
        self._transport, self.connection, self.surface = transport, connection, surface
        turns: dict[Turn, PendingTurn | AcpError] = {}
        for session in list(self.sessions.values()):
            if session.parent is not None:  # a subagent's, which its parent tells of
                session.surface = surface
                continue
            try:
                rejoined = await session.rejoin(surface)
            except HeldElsewhere as held:
                if patient:
                    raise
                log.error("session %s cannot be opened again: %s", session.id, held)
                rejoined = None if session.turn is None else (session.turn, held.error)
            except (RequestError, LocalProtocolError) as error:
                log.error("session %s cannot be opened again: %s", session.id, error)
                continue
            if rejoined is not None:
                turns[rejoined[0]] = rejoined[1]
        return turns

    def supervise(
        self, transport: ClientTransport, url: str, remote: Remote, policy: Reconnect, on_state: OnState | None
    ) -> None:
        """Connect again whenever the network is lost. `transport` is the one we have."""
        from .supervisor import Supervisor

        assert self._group is not None
        self._supervisor = Supervisor(self, url, remote, policy, on_state)
        self._group.start_soon(self._supervisor.run, transport)

    async def _stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.closing = True
        with anyio.CancelScope(shield=True):
            await self.connection.aclose()
            if self._host.terminals is not None:
                for id in list(self.sessions):
                    await self._host.terminals.close_session(id)
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
        version: int,
        remote: Remote,
        reconnect: Reconnect | None,
        on_state: OnState | None,
    ) -> None:
        self._target, self._host, self._cwd, self._env, self._seconds = target, host, cwd, env, seconds
        self._version, self._remote, self._reconnect, self._on_state = version, remote, reconnect, on_state
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Client:
        try:
            if isinstance(self._target, str) and is_url(self._target):
                return await self._over_the_network(self._target)
            transport = await open_transport(self._target, self._exits, cwd=self._cwd, env=self._env)
            return await self._started(transport)
        except BaseException:
            await self._exits.aclose()
            raise

    async def __aexit__(self, *exc: object) -> None:
        await self._exits.aclose()

    async def _started(self, transport: Transport) -> Client:
        client = Client(self._host, transport, self._version)
        await client.start(self._exits, self._seconds)
        return client

    async def _over_the_network(self, url: str) -> Client:
        transport = await open_url(url, self._exits, self._remote)
        client = await self._started(transport)
        if self._reconnect is not None:
            client.supervise(transport, url, self._remote, self._reconnect, self._on_state)
        return client


def connect(
    target: Target,
    *,
    host: Host | None = None,
    cwd: str | os.PathLike[str] | None = None,
    env: Mapping[str, str] | None = None,
    start_timeout: float = START,
    version: int = STABLE,
    headers: Mapping[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
    insecure: bool = False,
    reconnect: Reconnect | None = RECONNECT,
    on_state: OnState | None = None,
) -> _Connecting:
    """Start an agent, or take one that runs, and talk to it: `async with connect("acp agent", host=…) as client`.

    A URL of `ws`, `wss`, `http` or `https` is connected to, with these headers; `tls` replaces the system's trust, and
    `insecure` lets credentials go to another machine in the clear. When that connection is lost, `reconnect` says how
    long to try again, None not at all; `on_state` hears of it.

    `host` is what the client does for the agent; without one, it rejects every question. `cwd` and `env` are the
    agent process's. `version` is the highest version of the protocol to speak: 2 is a draft, and an agent that lacks it
    answers in version 1. Raises CannotStart when the agent cannot be started or does not answer within `start_timeout`
    seconds, with its last words on stderr; NegotiationError when it speaks no version that we speak.
    """
    remote = Remote(headers or {}, tls, insecure)
    return _Connecting(target, host or Host(), cwd, env, start_timeout, version, remote, reconnect, on_state)


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.abspath(path)


def _release() -> str:
    try:
        return version("acp-laguna")
    except PackageNotFoundError:
        return "0"
