"""ACP version 1, the agent's side: its methods on one side, sessions on the other.

In v1 the turn *is* the request `session/prompt`: its response comes after the last update and says how the
turn ended. The tokens of the turn are in the response's `usage`; tokens and seconds are in its `_meta` under
`TURN_META`. A second `session/prompt` while one runs in the same session is refused with -32600, not queued.

A repeated `initialize` is refused with -32600 too, and any other request before it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from acp.connection import Connection, Handlers
from acp.errors import ErrorCode, RequestError
from acp.updates import ToolCall, ToolCallUpdate, Update
from acp.v1 import dialect, schema
from acp.wire import Wire

from .model import ModelError
from .overlay_v1 import ClientFiles
from .permissions import Option
from .prompt import prompt_text
from .sessions import Client, Session, Sessions, TurnReport, working_directory
from .turn import PromptTooLong, TurnFailed

if TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger(__name__)

VERSION = 1

TURN_META = "acp-laguna/turn"
"""Key of `PromptResponse._meta`: what the turn cost, in tokens and seconds."""


class SurfaceV1:
    """One client's view of an agent. `connection` must be set before the first message is handled."""

    connection: Connection

    def __init__(self, agent: Agent, group: TaskGroup) -> None:
        self._agent = agent
        self._group = group
        self._sessions = Sessions()
        self._client: schema.ClientCapabilities | None = None
        self.handlers = (
            Handlers()
            .on(schema.INITIALIZE, self.initialize)
            .on(schema.SESSION_NEW, self.new_session)
            .on(schema.SESSION_PROMPT, self.prompt)
            .on(schema.SESSION_CANCEL, self.cancel)
        )

    # The client's calls ---------------------------------------------------------------------------

    async def initialize(self, request: schema.InitializeRequest) -> schema.InitializeResponse:
        """Answer at once, and begin to load the model."""
        if self._client is not None:
            raise RequestError(ErrorCode.INVALID_REQUEST, "This connection is already initialized.")
        self._client = request.client_capabilities
        self._group.start_soon(self._agent.warm_up)
        return schema.InitializeResponse(
            # The version the client asked for if we speak it, else the latest we do; the client then decides.
            protocol_version=VERSION,
            agent_capabilities=schema.AgentCapabilities(
                load_session=False,
                prompt_capabilities=schema.PromptCapabilities(image=False, audio=False, embedded_context=True),
                session_capabilities=schema.SessionCapabilities(
                    additional_directories=schema.SessionAdditionalDirectoriesCapabilities()
                ),
            ),
            agent_info=schema.Implementation(
                name=self._agent.name, title=self._agent.title, version=self._agent.version
            ),
            auth_methods=[],
        )

    async def new_session(self, request: schema.NewSessionRequest) -> schema.NewSessionResponse:
        capabilities = self._capabilities()
        cwd = working_directory(request.cwd)
        extra = [working_directory(path, "additionalDirectories") for path in request.additional_directories or ()]
        _note_mcp_servers(request.mcp_servers)
        try:
            session = self._open_session(cwd, extra, capabilities)
        except OSError as error:
            raise RequestError.invalid_params(f"The workspace cannot be opened: {error}") from error
        log.info("session %s in %s", session.id, cwd)
        return schema.NewSessionResponse(session_id=session.id)

    async def prompt(self, request: schema.PromptRequest) -> schema.PromptResponse:
        """Take a turn and say how it ended. A cancelled turn answers `cancelled`, never an error."""
        self._capabilities()
        session = self._sessions.get(request.session_id)
        text = prompt_text([dialect.decode_block(block) for block in request.prompt])
        try:
            report = await session.prompt(text)
        except PromptTooLong as error:
            raise RequestError.invalid_params(str(error)) from error
        except (ModelError, TurnFailed) as error:
            raise RequestError(ErrorCode.INTERNAL_ERROR, str(error)) from error
        return _response(report)

    async def cancel(self, notification: schema.CancelNotification) -> None:
        """Cancel the session's turn. Without one, or without the session, nothing happens."""
        # A prompt that was read just before runs in a task that may not have begun; trio needs two rounds for that.
        await checkpoint()
        await checkpoint()
        session = self._sessions.find(notification.session_id)
        if session is not None:
            session.cancel()

    # Our calls ------------------------------------------------------------------------------------

    async def _update(self, session_id: str, update: Update) -> None:
        for wire in dialect.encode(update):
            await self.connection.notify(
                schema.SESSION_UPDATE, schema.SessionNotification(session_id=session_id, update=wire)
            )

    async def _ask(self, session_id: str, call: ToolCall, options: Sequence[Option]) -> str | None:
        """The option the user chose, or None when the client cancelled the question."""
        response = await self.connection.call(
            schema.SESSION_REQUEST_PERMISSION,
            schema.RequestPermissionRequest(
                session_id=session_id,
                tool_call=_shown(call),
                options=[
                    schema.PermissionOption(option_id=option.id, name=option.name, kind=option.kind)
                    for option in options
                ],
            ),
        )
        match response.outcome:
            case schema.SelectedRequestPermissionOutcome(option_id=chosen):
                return chosen
            case schema.CancelledRequestPermissionOutcome():
                return None
            case _:
                return ""

    # Pieces ---------------------------------------------------------------------------------------

    def _capabilities(self) -> schema.ClientCapabilities:
        """The client's capabilities; `RequestError` -32600 before `initialize`."""
        if self._client is None:
            raise RequestError(ErrorCode.INVALID_REQUEST, "The first request has to be initialize.")
        return self._client

    def _open_session(self, cwd: Path, extra: Sequence[Path], capabilities: schema.ClientCapabilities) -> Session:
        id = self._sessions.new_id()

        async def emit(update: Update) -> None:
            await self._update(id, update)

        async def ask(call: ToolCall, options: Sequence[Option]) -> str | None:
            return await self._ask(id, call, options)

        files = ClientFiles.of(self.connection, id, capabilities)
        client = Client(emit, ask, files)
        session = Session(id, cwd, self._agent.model, self._agent.settings, client, self._group, extra=extra)
        self._sessions.add(session)
        return session


def _response(report: TurnReport) -> schema.PromptResponse:
    usage, spent = report.spent.usage, report.spent
    cost = {
        "inputTokens": usage.input,
        "cachedReadTokens": usage.cached,
        "outputTokens": usage.output,
        "thoughtTokens": usage.thought,
        "modelSeconds": round(spent.seconds, 3),
        "seconds": round(report.seconds, 3),
        "steps": spent.steps,
    }
    return schema.PromptResponse(
        stop_reason=report.stop_reason,
        usage=schema.Usage(
            total_tokens=usage.input + usage.output,
            input_tokens=usage.input,
            output_tokens=usage.output,
            thought_tokens=usage.thought,
            cached_read_tokens=usage.cached,
        ),
        meta={TURN_META: cost},
    )


def _shown(call: ToolCall) -> schema.ToolCallUpdate:
    """The call as the permission request shows it: all that `tool_call` said."""
    return dialect.encode_permission_call(
        ToolCallUpdate(
            call.id,
            call.title,
            call.kind,
            call.status,
            call.content,
            call.locations,
            call.raw_input,
            name=call.name,
            meta=call.meta,
        )
    )


def _note_mcp_servers(servers: Iterable[Wire]) -> None:
    """MCP servers are accepted, for clients send them unasked; none is connected to yet."""
    for server in servers:
        log.warning("MCP server %r was offered; this agent connects to none yet", server.encode().get("name"))
