"""ACP version 2, the agent's side: its methods on one side, sessions on the other.

In v2 the answer to `session/prompt` says that the prompt has become part of the conversation, and as which message;
how the turn goes on is told by updates, and its end is the state idle. A prompt that comes while a turn runs waits for
its end; `session/cancel` and `session/close` refuse those that wait with -32800 (v2 prompt lifecycle).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from acp.activity import say_state
from acp.connection import Connection, Handlers
from acp.errors import RequestError
from acp.methods import Method
from acp.pieces import hear_block
from acp.plain import say_option
from acp.states import ENDED
from acp.updates import CANCELLABLE, ToolCall, ToolCallUpdate, Update
from acp.v2 import dialect, schema
from acp.v2.saying import announced, say_call
from acp.wire import Json, Wire

from .commands import listed, spelled_out
from .drafts import add_drafts, auth_words, instructions_of
from .mcp.carrier import Carrier
from .mcp.offer import Offer, mcp_is_installed, offers
from .parts import MARKS, told
from .permissions import Option
from .prompt import prompt_text
from .queue import Queue
from .session import Session
from .sessions import Place, Sessions
from .shelter import PROMPT_META, TURN_META
from .teller import Client

if TYPE_CHECKING:
    from .agent import Agent

log = logging.getLogger(__name__)

VERSION = 2


class SurfaceV2:
    """One client's view of an agent."""

    def __init__(self, agent: Agent, group: TaskGroup, connection: Connection) -> None:
        self._agent = agent
        self._group = group
        self._connection = connection
        self._carrier = Carrier(connection, schema.MCP_MESSAGE)
        self._sessions = Sessions(agent, group, self._client_of, self._carrier)
        self._client = schema.ClientCapabilities()
        self._queues: dict[str, Queue] = {}

    async def wait_idle(self) -> None:
        await self._sessions.wait_idle()

    async def aclose(self, *, lost: bool = False) -> None:
        for queue in self._queues.values():
            queue.clear()
        await self._sessions.aclose(lost=lost)

    # What is open -----------------------------------------------------------------------------------

    def initialize(self, raw: Json) -> schema.InitializeResponse:
        """The answer to `initialize`. Raises ValidationError."""
        self._client = schema.InitializeRequest.decode(raw).capabilities
        agent = self._agent
        marks = ("delete", "additionalDirectories", *(mark for mark in MARKS if agent.opens(mark)))
        session: dict[str, Json] = {"prompt": {"embeddedContext": {}}, **{mark: {} for mark in marks}}
        if agent.opens("system_prompt"):
            session["systemPrompt"] = {"mode": {"override": {}}}
        if kinds := self._mcp_kinds():
            session["mcp"] = {kind: {} for kind in kinds}
        capabilities: dict[str, Json] = {"session": session}
        if agent.opens("auth_status"):
            capabilities["auth"] = {"status": {}}
        if agent.opens("providers"):
            capabilities["providers"] = {}
        methods = [
            {"type": "agent", "methodId": m.id, "name": m.name, **told(description=m.description), **m.extra}
            for m in (agent.auth.methods if agent.auth else ())
        ]
        return schema.InitializeResponse.decode(
            {
                "protocolVersion": VERSION,
                "info": {"name": agent.name, "title": agent.title, "version": agent.version},
                "capabilities": capabilities,
                "authMethods": methods,
            }
        )

    def handlers(self) -> Handlers:
        handlers = (
            Handlers()
            .on(schema.SESSION_NEW, self.new_session)
            .on(schema.SESSION_RESUME, self.resume)
            .on(schema.SESSION_LIST, self.list)
            .on(schema.SESSION_DELETE, self.delete)
            .on(schema.SESSION_CLOSE, self.close)
            .on(schema.SESSION_SET_CONFIG_OPTION, self.set_option)
            .on(schema.SESSION_PROMPT, self.prompt)
            .on(schema.SESSION_CANCEL, self.cancel)
            .on(schema.TOOL_CALL_CANCEL, self.cancel_call)
            .on(schema.TERMINAL_CANCEL, self.cancel_terminal)
        )
        agent = self._agent
        if agent.auth is not None:
            handlers.on(schema.AUTH_LOGIN, self.login).on(schema.AUTH_LOGOUT, self.logout)
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
        elicitation = self._client.elicitation
        return [
            dialect.REPORT,
            schema.SESSION_REQUEST_PERMISSION,
            *([schema.ELICITATION_CREATE] if elicitation else []),
            *([schema.ELICITATION_COMPLETE] if elicitation and elicitation.url else []),
            *([schema.AUTH_STATUS_UPDATE] if self._agent.opens("auth_status") else []),
            *([schema.MCP_MESSAGE] if self._agent.opens("mcp_over_acp") else []),
        ]

    def _mcp_kinds(self) -> tuple[str, ...]:
        """The kinds of MCP servers that can be reached."""
        if not mcp_is_installed():
            return ()
        return ("stdio", "http", *(("acp",) if self._agent.opens("mcp_over_acp") else ()))

    # Who is there -----------------------------------------------------------------------------------

    async def login(self, request: schema.LoginAuthRequest) -> schema.LoginAuthResponse:
        await self._agent.log_in(request.method_id)
        return schema.LoginAuthResponse()

    async def logout(self, request: schema.LogoutAuthRequest) -> schema.LogoutAuthResponse:
        await self._agent.log_out()
        return schema.LogoutAuthResponse()

    async def auth_changed(self) -> None:
        if self._agent.opens("auth_status"):
            said = schema.AuthStatusUpdateNotification.decode(auth_words(self._agent))
            await self._connection.notify(schema.AUTH_STATUS_UPDATE, said)

    # Sessions ---------------------------------------------------------------------------------------

    async def new_session(self, request: schema.NewSessionRequest) -> schema.NewSessionResponse:
        session = await self._sessions.create(self._place(request))
        return schema.NewSessionResponse(session_id=session.id, **self._offer(session))

    async def resume(self, request: schema.ResumeSessionRequest) -> schema.ResumeSessionResponse:
        """Open a session. Its history comes first, if it was asked for, and its state; then the answer."""
        place = self._place(request)
        if isinstance(request.replay_from, schema.UnknownReplayFrom):
            data = {"pointer": "/replayFrom/type"}
            raise RequestError.invalid_params("The history can be replayed from the start only.", data)
        replay = request.replay_from is not None
        session = await self._sessions.open(request.session_id, place, replay=replay)
        await session.show_state()
        line = self._sessions.line(session.id)
        fate: dict[str, Any] = {} if line is None else {"meta": {TURN_META: line.fate()}}
        return schema.ResumeSessionResponse(**self._offer(session), **fate)

    async def fork(self, request: schema.ForkSessionRequest) -> schema.ForkSessionResponse:
        session = await self._sessions.fork(request.session_id, self._place(request))
        return schema.ForkSessionResponse(session_id=session.id, **self._offer(session))

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
        await self._leave(request.session_id)
        await self._sessions.close(request.session_id)
        return schema.CloseSessionResponse()

    async def delete(self, request: schema.DeleteSessionRequest) -> schema.DeleteSessionResponse:
        await self._leave(request.session_id)
        await self._sessions.delete(request.session_id)
        return schema.DeleteSessionResponse()

    async def archive(self, request: schema.ArchiveSessionRequest) -> schema.ArchiveSessionResponse:
        await self._leave(request.session_id)
        await self._sessions.archive(request.session_id, archived=True)
        return schema.ArchiveSessionResponse()

    async def unarchive(self, request: schema.UnarchiveSessionRequest) -> schema.UnarchiveSessionResponse:
        await self._sessions.archive(request.session_id, archived=False)
        return schema.UnarchiveSessionResponse()

    async def status(self, request: schema.SessionStatusRequest) -> schema.SessionStatusResponse:
        await self._sessions.card(request.session_id)
        session = self._sessions.find(request.session_id)
        if session is None:
            return schema.SessionStatusResponse(status="saved")
        return schema.SessionStatusResponse.decode({"status": "open", "state": say_state(session.state.now())})

    async def set_title(self, request: schema.SetSessionTitleRequest) -> schema.SetSessionTitleResponse:
        title = await self._sessions.set_title(request.session_id, request.title)
        return schema.SetSessionTitleResponse(title=title)

    async def set_option(self, request: schema.SetSessionConfigOptionRequest) -> schema.SetSessionConfigOptionResponse:
        session = self._sessions.get(request.session_id)
        await session.set_option(request.config_id, request.encode().get("value"))
        return schema.SetSessionConfigOptionResponse(config_options=_options(session))

    # Turns ------------------------------------------------------------------------------------------

    async def prompt(self, request: schema.PromptRequest) -> schema.PromptResponse:
        """Put the prompt into the conversation, when its time has come, and say as which message."""
        session = self._sessions.get(request.session_id)
        self._agent.check_login()
        blocks = [hear_block(block.encode()) for block in request.prompt]
        text = spelled_out(prompt_text(blocks), self._agent.commands)
        queue = self._queues.setdefault(session.id, Queue(session, self._group))
        line, name = self._sessions.line(session.id), (request.meta or {}).get(PROMPT_META)
        began = None if line is None else lambda: line.begin(name)
        return schema.PromptResponse(message_id=await queue.insert(text, blocks, name, began))

    async def cancel(self, notification: schema.CancelSessionNotification) -> None:
        """Cancel the turn and the prompts that wait. Without any, or without the session, nothing happens."""
        # A prompt that was read just before runs in a task that may not have begun; trio needs two rounds for that.
        await checkpoint()
        await checkpoint()
        self._cancel(notification.session_id)

    async def cancel_call(self, request: schema.CancelToolCallRequest) -> schema.CancelToolCallResponse:
        """Cancel one running call; that it ended is told by an update."""
        if not self._sessions.get(request.session_id).cancel_call(request.tool_call_id):
            data = {"toolCallId": request.tool_call_id}
            raise RequestError.invalid_params("There is no such call that could be cancelled now.", data)
        return schema.CancelToolCallResponse()

    async def cancel_terminal(self, request: schema.CancelTerminalRequest) -> schema.CancelTerminalResponse:
        """Stop a command; that it ended is told by an update, and what its call makes of that by another."""
        if not self._sessions.get(request.session_id).cancel_terminal(request.terminal_id):
            data = {"terminalId": request.terminal_id}
            raise RequestError.invalid_params("There is no such terminal that could be cancelled now.", data)
        return schema.CancelTerminalResponse()

    def _cancel(self, session_id: str) -> None:
        if (queue := self._queues.get(session_id)) is not None:
            queue.clear()
        if (session := self._sessions.find(session_id)) is not None:
            session.cancel()

    async def _leave(self, session_id: str) -> None:
        """End what the session does: the prompts that wait are refused, and the turn has said its last word."""
        self._cancel(session_id)
        if (queue := self._queues.pop(session_id, None)) is not None:
            await queue.empty()

    # Our calls ------------------------------------------------------------------------------------

    async def _update(self, session_id: str, update: Update) -> None:
        if isinstance(update, ToolCallUpdate) and update.status == "in_progress":
            update = replace(update, capabilities=CANCELLABLE)
        elif isinstance(update, ToolCallUpdate) and update.status in ENDED:
            update = replace(update, capabilities=None)  # what has ended cannot be cancelled
        for report in dialect.reports(session_id, update):
            await self._connection.notify(dialect.REPORT, report)

    async def _ask(self, session_id: str, call: ToolCall, options: Sequence[Option]) -> str | None:
        """The option the user chose, or None when the client cancelled the question."""
        subject = {"type": "tool_call", "toolCall": say_call(announced(call))}
        choices = [{"optionId": option.id, "name": option.name, "kind": option.kind} for option in options]
        request = {"sessionId": session_id, "title": call.title, "options": choices, "subject": subject}
        response = await self._connection.call(
            schema.SESSION_REQUEST_PERMISSION, schema.RequestPermissionRequest.decode(request)
        )
        match response.outcome:
            case schema.SelectedRequestPermissionOutcome(option_id=chosen):
                return chosen
            case schema.CancelledRequestPermissionOutcome():
                return None
            case _:
                return ""  # an outcome we do not know is no approval (v2 tool calls)

    # Pieces ---------------------------------------------------------------------------------------

    def _client_of(self, id: str) -> Client:
        async def emit(update: Update) -> None:
            await self._update(id, update)

        async def ask(call: ToolCall, options: Sequence[Option]) -> str | None:
            return await self._ask(id, call, options)

        return Client(emit, ask, emit, crowded=lambda: self._connection.is_crowded(id))

    def _place(
        self, request: schema.NewSessionRequest | schema.ResumeSessionRequest | schema.ForkSessionRequest
    ) -> Place:
        servers, instructions = self._offers(request.mcp_servers), instructions_of(self._agent, request.system_prompt)
        return Place(request.cwd, request.additional_directories, servers, instructions)

    def _offers(self, servers: Sequence[Wire]) -> tuple[Offer, ...]:
        """The MCP servers. Raises RequestError for a client that is not logged in, or offers what cannot be."""
        self._agent.check_login()
        said = [server.encode() for server in servers]
        if unknown := [str(raw.get("type")) for raw in said if raw.get("type") not in self._mcp_kinds()]:
            raise RequestError.invalid_params("This agent reaches no MCP servers of such a type.", {"types": unknown})
        if len({raw.get("name") for raw in said}) < len(said):
            raise RequestError.invalid_params("Two MCP servers have one name.")
        return offers(servers)

    def _offer(self, session: Session) -> dict[str, Any]:
        """What the answer that opens a session says of it."""
        raw = dialect.encode(listed(self._agent.commands))
        commands = [command for wire in raw for command in wire.available_commands]
        return {"config_options": _options(session), **({"available_commands": commands} if commands else {})}


def _options(session: Session) -> list[Any]:
    raw = [say_option(option, dialect.SPELLING) for option in session.options.listed()]
    return schema.ConfigOptionUpdate.decode({"configOptions": raw}).config_options
