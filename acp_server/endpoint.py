"""One connection's beginning: `initialize` chooses the version, and its surface takes over.

A client that speaks version 2 says so in version 2's words (`info`); the version is then the highest that is not above
the one it asks for, and -32022 says that there is none. Everybody else is answered in version 1, as version 1 has it:
with the version asked for if we speak it, else with the one we do.

Before `initialize` has been answered every other request is refused with -32600, one that is sent right behind it too.
A second one is refused in version 1; in version 2 it may be repeated as long as nothing else was asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from anyio.abc import TaskGroup
from pydantic import ValidationError

from acp.connection import Connection, Handlers
from acp.dialect import negotiate
from acp.errors import ErrorCode, RemoteProtocolError, RequestError
from acp.handlers import Handler
from acp.methods import Method
from acp.states import CONNECTION, moved
from acp.unions import Free
from acp.wire import Json, Wire, pointers

if TYPE_CHECKING:
    from .agent import Agent

TOO_EARLY = RequestError(ErrorCode.INVALID_REQUEST, "The first request has to be initialize.")
INITIALIZE: Method[Free, Free] = Method("initialize", "agent", Free, Free)
W = TypeVar("W", bound=Wire)


class Surface(Protocol):
    """One version's methods over an agent's sessions."""

    def initialize(self, raw: Json) -> Wire:
        """The answer to `initialize`. Raises ValidationError."""
        ...

    def handlers(self) -> Handlers:
        """The methods that the client may call now."""
        ...

    def calls(self) -> list[Method[Any, Any]]:
        """The methods of the client that it has advertised."""
        ...

    async def auth_changed(self) -> None:
        """Tell the client that who is logged in has changed, if it may be told."""
        ...

    async def wait_idle(self) -> None:
        """Wait until no session takes a turn."""
        ...

    async def aclose(self, *, lost: bool = False) -> None:
        """Close every session, or let them wait for a client that was lost."""
        ...


class Endpoint:
    """One client's way in. `connection` must be set before the first message is handled."""

    connection: Connection

    def __init__(self, agent: Agent, group: TaskGroup) -> None:
        self._agent = agent
        self._group = group
        self._surface: Surface | None = None
        self._state = "new"
        self.handlers = Handlers().on(INITIALIZE, self.initialize)

    async def initialize(self, params: Free) -> Free:
        """Answer at once, and begin to load the model."""
        version = _version(params.root)
        try:
            state = moved(CONNECTION, self._state, f"initialize {version}", "this connection", blame="peer")
        except RemoteProtocolError as error:
            raise RequestError(ErrorCode.INVALID_REQUEST, "This connection is already initialized.") from error
        surface = _surface(version)(self._agent, self._group, self.connection)
        try:
            answer = surface.initialize(params.root)
        except ValidationError as error:
            raise RequestError.invalid_params("Invalid params", pointers(error)) from error
        if self._surface is None:
            self._group.start_soon(self._agent.warm_up)
        self._surface, self._state = surface, state
        self.connection.reopen(self._noticed(surface.handlers()).on(INITIALIZE, self.initialize), surface.calls())
        return Free(answer.encode())

    async def auth_changed(self) -> None:
        if self._surface is not None:
            await self._surface.auth_changed()

    async def wait_idle(self) -> None:
        if self._surface is not None:
            await self._surface.wait_idle()

    async def aclose(self, *, lost: bool = False) -> None:
        if self._surface is not None:
            await self._surface.aclose(lost=lost)

    def _noticed(self, handlers: Handlers) -> Handlers:
        """The handlers, which note that something was asked."""
        noticed = Handlers()
        for method, handler in handlers.by_name.values():
            noticed.on(method, handler if method.is_notification else self._notice(handler))
        return noticed

    def _notice(self, handler: Handler) -> Handler:
        async def noticed(params: Any) -> Any:
            self._state = moved(CONNECTION, self._state, "ask", "this connection", blame="peer")
            return await handler(params)

        return noticed


class _Kind(Protocol):
    def __call__(self, agent: Agent, group: TaskGroup, connection: Connection) -> Surface: ...


def _surface(version: int) -> _Kind:
    """The version's surface, imported now: the models of a version that nobody speaks need not be built."""
    if version == 1:
        from .surface_v1 import SurfaceV1

        return SurfaceV1
    from .surface_v2 import SurfaceV2

    return SurfaceV2


def _version(raw: Json) -> int:
    """The version to speak with a client. Raises RequestError -32022."""
    requested = raw.get("protocolVersion")
    if type(requested) is not int or "info" not in raw:
        return 1  # whose request says what is wrong with it
    return negotiate(requested).version
