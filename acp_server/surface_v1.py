"""ACP version 1, the agent's side: its methods on one side, sessions on the other.

In v1 the turn *is* the request `session/prompt`: its response comes after the last update and says how the
turn ended. The tokens of the turn are in the response's `usage`; tokens and seconds are in its `_meta` under
`TURN_META`. A second `session/prompt` while one runs in the same session is refused with -32600, not queued.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from acp.connection import Connection, Handlers
from acp.errors import ErrorCode, RequestError
from acp.methods import Method
from acp.plain import say_option
from acp.unions import Free
from acp.updates import (
    Block,
    Message,
    ToolCall,
    ToolCallUpdate,
    TurnEnded,
    Update,
)
from acp.v1 import dialect, schema
from acp.wire import Json

from .commands import listed, spelled_out
from .drafts import add_drafts, auth_words, instructions_of
from .mcp.carrier import Carrier
from .mcp.offer import mcp_is_installed, offers
from .model import ModelError
from .options import MODE
from .parts import MARKS, told
from .permissions import Option
from .prompt import prompt_text
from .session import Session, TurnReport
from .sessions import Place, Sessions
from .shelter import PROMPT_META
from .shelter import TURN_META as FATE
from .shown_v1 import ShownV1
from .teller import Client
from .turn.turn import PromptTooLong, TurnFailed
from .workspace.overlay_v1 import ClientFiles

if TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger(__name__)

VERSION = 1

TURN_META = "acp-laguna/turn"
"""Key of `PromptResponse._meta`: what the turn cost, in tokens and seconds."""


TURN_ENDED: Method[Free, None] = Method("_acp-laguna/turn_ended", "client", Free)
"""Tells a client that came back how the turn ended that it had asked for before."""


class SurfaceV1:
    """One client's view of an agent."""

    def __init__(self, agent: Agent, group: TaskGroup, connection: Connection) -> None:
        self._agent = agent
        self._connection = connection
        self._carrier = Carrier(connection, schema.MCP_MESSAGE)
        self._sessions = Sessions(agent, group, self._client_of, self._carrier)
        self._client = schema.ClientCapabilities()
        self._shown: dict[str, ShownV1] = {}

    async def wait_idle(self) -> None:
        await self._sessions.wait_idle()

    async def aclose(self, *, lost: bool = False) -> None:
        await self._sessions.aclose(lost=lost)

    # What is open -----------------------------------------------------------------------------------

    def initialize(self, raw: Json) -> schema.InitializeResponse:
        """The answer to `initialize`. Raises ValidationError."""
        self._client = schema.InitializeRequest.decode(raw).client_capabilities
        agent = self._agent
        marks = ("list", "delete", "resume", "close", "additionalDirectories", *(m for m in MARKS if agent.opens(m)))
        auth: dict[str, Json] = {"logout": {}} if agent.auth else {}
        auth |= {"status": {}} if agent.opens("auth_status") else {}
        sessions: dict[str, Json] = {mark: {} for mark in marks}
        sessions |= {"systemPrompt": {"mode": {"override": {}}}} if agent.opens("system_prompt") else {}
        capabilities: dict[str, Json] = {
            "loadSession": True,
            "promptCapabilities": {"image": False, "audio": False, "embeddedContext": True},
            **told(mcpCapabilities=self._mcp() or None),
            "sessionCapabilities": sessions,
            **({"auth": auth} if auth else {}),
            **({"providers": {}} if agent.opens("providers") else {}),
        }
        methods = [
            {"id": m.id, "name": m.name, **told(description=m.description), **m.extra}
            for m in (agent.auth.methods if agent.auth else ())
        ]
        return schema.InitializeResponse.decode(
            {
                "protocolVersion": VERSION,
                "agentCapabilities": capabilities,
                "agentInfo": {"name": agent.name, "title": agent.title, "version": agent.version},
                "authMethods": methods,
            }
        )

    def handlers(self) -> Handlers:
        handlers = (
            Handlers()
            .on(schema.SESSION_NEW, self.new_session)
            .on(schema.SESSION_LOAD, self.load)
            .on(schema.SESSION_RESUME, self.resume)
            .on(schema.SESSION_LIST, self.list)
            .on(schema.SESSION_DELETE, self.delete)
            .on(schema.SESSION_CLOSE, self.close)
            .on(schema.SESSION_SET_MODE, self.set_mode)
            .on(schema.SESSION_SET_CONFIG_OPTION, self.set_option)
            .on(schema.SESSION_PROMPT, self.prompt)
            .on(schema.SESSION_CANCEL, self.cancel)
        )
        agent = self._agent
        if agent.auth is not None:
            handlers.on(schema.AUTHENTICATE, self.authenticate).on(schema.LOGOUT, self.logout)
        add_drafts(handlers, agent, dialect.METHODS)
        if agent.opens("fork"):
            handlers.on(schema.SESSION_FORK, self.fork)
        if agent.opens("archive"):
            handlers.on(schema.SESSION_ARCHIVE, self.archive).on(schema.SESSION_UNARCHIVE, self.unarchive)
        if agent.opens("status"):
            handlers.on(schema.SESSION_STATUS, self.status)
        if agent.opens("title"):
            handlers.on(schema.SESSION_SET_TITLE, self.set_title)
        if agent.opens("mcp_over_acp"):
            handlers.on(schema.MCP_MESSAGE_NOTIFICATION, self._carrier.told)
        return handlers

    def calls(self) -> list[Method[Any, Any]]:
        """The methods of the client that it has, by what it said of itself."""
        fs, elicitation = self._client.fs, self._client.elicitation
        return [
            dialect.REPORT,
            TURN_ENDED,
            schema.SESSION_REQUEST_PERMISSION,
            *([schema.FS_READ_TEXT_FILE] if fs.read_text_file else []),
            *([schema.FS_WRITE_TEXT_FILE] if fs.write_text_file else []),
            *(_TERMINAL if self._client.terminal else []),
            *([schema.ELICITATION_CREATE] if elicitation else []),
            *([schema.ELICITATION_COMPLETE] if elicitation and elicitation.url else []),
            *([schema.AUTH_STATUS_UPDATE] if self._agent.opens("auth_status") else []),
            *([schema.MCP_MESSAGE] if self._agent.opens("mcp_over_acp") else []),
        ]

    def _mcp(self) -> dict[str, Json]:
        """The kinds of MCP servers that can be reached, besides commands, which every agent runs."""
        kinds = ("http", "sse", *(("acp",) if self._agent.opens("mcp_over_acp") else ()))
        return dict.fromkeys(kinds, True) if mcp_is_installed() else {}

    # Who is there -----------------------------------------------------------------------------------

    async def authenticate(self, request: schema.AuthenticateRequest) -> schema.AuthenticateResponse:
        await self._agent.log_in(request.method_id)
        return schema.AuthenticateResponse()

    async def logout(self, request: schema.LogoutRequest) -> schema.LogoutResponse:
        await self._agent.log_out()
        return schema.LogoutResponse()

    async def auth_changed(self) -> None:
        if self._agent.opens("auth_status"):
            said = schema.AuthStatusUpdateNotification.decode(auth_words(self._agent))
            await self._connection.notify(schema.AUTH_STATUS_UPDATE, said)

    # Sessions ---------------------------------------------------------------------------------------

    async def new_session(self, request: schema.NewSessionRequest) -> schema.NewSessionResponse:
        self._agent.check_login()
        session = await self._sessions.create(self._place(request))
        self._announce_later(session)
        return schema.NewSessionResponse(session_id=session.id, **_settings(session))

    async def load(self, request: schema.LoadSessionRequest) -> schema.LoadSessionResponse:
        """Open a session; its whole history is sent before the answer (v1 session setup)."""
        session = await self._open(request, replay=True)
        return schema.LoadSessionResponse(**_settings(session), **self._fate(session))

    async def resume(self, request: schema.ResumeSessionRequest) -> schema.ResumeSessionResponse:
        """Open a session; nothing of its history is sent (v1 session setup)."""
        session = await self._open(request)
        return schema.ResumeSessionResponse(**_settings(session), **self._fate(session))

    async def fork(self, request: schema.ForkSessionRequest) -> schema.ForkSessionResponse:
        self._agent.check_login()
        session = await self._sessions.fork(request.session_id, self._place(request))
        self._announce_later(session)
        return schema.ForkSessionResponse(session_id=session.id, **_settings(session))

    async def list(self, request: schema.ListSessionsRequest) -> schema.ListSessionsResponse:
        self._agent.check_login()
        page = await self._sessions.page(request.cwd, request.cursor, request.archived)
        infos = [
            schema.SessionInfo(
                session_id=card.id,
                cwd=card.cwd,
                updated_at=card.updated_at,
                **told(title=card.title, additional_directories=[*card.directories] or None),
                **told(archived=card.archived if self._agent.opens("archive") else None),
            )
            for card in page.cards
        ]
        return schema.ListSessionsResponse(sessions=infos, **told(next_cursor=page.cursor))

    async def close(self, request: schema.CloseSessionRequest) -> schema.CloseSessionResponse:
        await self._sessions.close(request.session_id)
        self._shown.pop(request.session_id, None)
        return schema.CloseSessionResponse()

    async def delete(self, request: schema.DeleteSessionRequest) -> schema.DeleteSessionResponse:
        await self._sessions.delete(request.session_id)
        return schema.DeleteSessionResponse()

    async def archive(self, request: schema.ArchiveSessionRequest) -> schema.ArchiveSessionResponse:
        await self._sessions.archive(request.session_id, archived=True)
        return schema.ArchiveSessionResponse()

    async def unarchive(self, request: schema.UnarchiveSessionRequest) -> schema.UnarchiveSessionResponse:
        await self._sessions.archive(request.session_id, archived=False)
        return schema.UnarchiveSessionResponse()

    async def status(self, request: schema.SessionStatusRequest) -> schema.SessionStatusResponse:
        await self._sessions.card(request.session_id)
        is_open = self._sessions.find(request.session_id) is not None
        return schema.SessionStatusResponse(status="open" if is_open else "saved")

    async def set_title(self, request: schema.SetSessionTitleRequest) -> schema.SetSessionTitleResponse:
        title = await self._sessions.set_title(request.session_id, request.title)
        return schema.SetSessionTitleResponse(title=title)

    async def set_mode(self, request: schema.SetSessionModeRequest) -> schema.SetSessionModeResponse:
        await self._sessions.get(request.session_id).set_option(MODE, request.mode_id)
        return schema.SetSessionModeResponse()

    async def set_option(self, request: schema.SetSessionConfigOptionRequest) -> schema.SetSessionConfigOptionResponse:
        session = self._sessions.get(request.session_id)
        await session.set_option(request.config_id, request.encode().get("value"))
        return schema.SetSessionConfigOptionResponse(config_options=_options(session))

    # Turns ------------------------------------------------------------------------------------------

    async def prompt(self, request: schema.PromptRequest) -> schema.PromptResponse:
        """Take a turn and say how it ended. A cancelled turn answers `cancelled`, never an error."""
        session = self._sessions.get(request.session_id)
        self._agent.check_login()
        blocks = [dialect.decode_block(block) for block in request.prompt]
        text = spelled_out(prompt_text(blocks), self._agent.commands)
        line, shelter = self._sessions.line(session.id), self._agent.shelter
        name = (request.meta or {}).get(PROMPT_META)
        if line is None or shelter is None or session.running:
            return await self._turn(session, text, blocks, name)
        line.begin(name)
        return await shelter.run(self._connection, line, session, lambda: self._turn(session, text, blocks, name))

    async def _turn(self, session: Session, text: str, blocks: Sequence[Block], name: Json) -> schema.PromptResponse:
        try:
            report = await session.prompt(text, blocks, name=name)
        except PromptTooLong as error:
            raise RequestError.invalid_params(str(error)) from error
        except ModelError as error:
            raise RequestError(ErrorCode.INTERNAL_ERROR, error.told()) from error
        except TurnFailed as error:
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
        for said in self._shown_in(session_id).said(update):
            for report in dialect.reports(session_id, said):
                await self._connection.notify(dialect.REPORT, report)

    def _shown_in(self, session_id: str) -> ShownV1:
        if (shown := self._shown.get(session_id)) is None:
            shown = self._shown[session_id] = ShownV1(self._client, plans=self._agent.opens("plans"))
        return shown

    async def _ask(self, session_id: str, call: ToolCall, options: Sequence[Option]) -> str | None:
        """The option the user chose, or None when the client cancelled the question."""
        response = await self._connection.call(
            schema.SESSION_REQUEST_PERMISSION,
            schema.RequestPermissionRequest(
                session_id=session_id,
                tool_call=_asked(self._shown_in(session_id).asked(call)),
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

    def _client_of(self, id: str) -> Client:
        async def emit(update: Update) -> None:
            if not (isinstance(update, Message) and update.role == "user"):  # the client knows what it asked
                await self._update(id, update)
            line = self._sessions.line(id)
            if isinstance(update, TurnEnded) and update.stop_reason and line is not None and line.moved:
                # The request that asked for the turn went with its connection, and so did its answer.
                await self._connection.notify(TURN_ENDED, Free({"sessionId": id, **line.fate()}))

        async def show(update: Update) -> None:
            await self._update(id, update)

        async def ask(call: ToolCall, options: Sequence[Option]) -> str | None:
            return await self._ask(id, call, options)

        overlay = ClientFiles.of(self._connection, id, self._client)
        return Client(emit, ask, show, overlay, lambda: self._connection.is_crowded(id))

    async def _open(
        self, request: schema.LoadSessionRequest | schema.ResumeSessionRequest, *, replay: bool = False
    ) -> Session:
        self._agent.check_login()
        session = await self._sessions.open(request.session_id, self._place(request), replay=replay)
        self._announce_later(session)
        return session

    def _place(
        self,
        request: schema.NewSessionRequest
        | schema.LoadSessionRequest
        | schema.ResumeSessionRequest
        | schema.ForkSessionRequest,
    ) -> Place:
        servers, instructions = offers(request.mcp_servers), instructions_of(self._agent, request.system_prompt)
        return Place(request.cwd, request.additional_directories, servers, instructions)

    def _fate(self, session: Session) -> dict[str, Any]:
        """What became of the last prompt, for a client that lost the answer."""
        line = self._sessions.line(session.id)
        return {} if line is None else {"meta": {FATE: line.fate()}}

    def _announce_later(self, session: Session) -> None:
        """Behind the answer, say which commands there are: before it, the client may not know the session yet."""
        commands = listed(self._agent.commands)
        self._connection.after_reply(lambda: session.show(commands))


_TERMINAL = (
    schema.TERMINAL_CREATE,
    schema.TERMINAL_OUTPUT,
    schema.TERMINAL_WAIT_FOR_EXIT,
    schema.TERMINAL_KILL,
    schema.TERMINAL_RELEASE,
)


def _options(session: Session) -> list[Any]:
    raw = [say_option(option, dialect.SPELLING) for option in session.options.listed()]
    return schema.ConfigOptionUpdate.decode({"configOptions": raw}).config_options


def _settings(session: Session) -> dict[str, Any]:
    """The options, and the mode once more as clients know it that have no options (v1 session config options)."""
    mode = session.options.listed()[0]
    modes = schema.SessionModeState(
        current_mode_id=session.options.mode,
        available_modes=[
            schema.SessionMode(id=choice.value, name=choice.name, description=choice.description)
            for choice in mode.choices
        ],
    )
    return {"modes": modes, "config_options": _options(session)}


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


def _asked(call: ToolCall) -> schema.ToolCallUpdate:
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
