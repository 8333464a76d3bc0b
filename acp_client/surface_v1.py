"""ACP version 1, the client's side.

In v1 the turn *is* the request `session/prompt`: its response comes after the last update, usually; updates that
come later are the session's, not the turn's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from acp.connection import Connection, Handlers, Pending
from acp.dialect import DIALECTS, Dialect
from acp.errors import ConnectionClosed, ErrorCode, LocalProtocolError, RequestError
from acp.methods import Method
from acp.plain import hear_option
from acp.unions import Free
from acp.unstable import Unstable
from acp.updates import Block, Choice, ConfigOption, Json, OtherBlock, OtherOption, ToolCall
from acp.v1 import dialect, schema
from acp.v1.terminals import CAPABILITY, terminals_of

from .host.host import Files, Host, Option
from .host.terminals_v1 import TerminalsV1
from .rejoined import PROMPT_META, RejoinedTurn, rejoin
from .surface import AgentInfo, Ending, Opened, Owner, PendingTurn, Place, Question, SessionCard, Usage, drafts

_NEEDS = {"image": "image", "audio": "audio", "resource": "embedded_context"}
"""The prompt capability that a content block needs; text and resource links need none."""


TURN_ENDED: Method[Free, None] = Method("_acp-laguna/turn_ended", "client", Free)


class SurfaceV1:
    """One conversation with an agent that speaks version 1."""

    info: AgentInfo

    def __init__(self, host: Host, owner: Owner, connection: Connection) -> None:
        self._host = host
        self._owner = owner
        self.drafts: list[Method[Any, Any]] = []
        self._prompts = schema.PromptCapabilities()
        self._mcp = schema.McpCapabilities()
        self._sessions = schema.SessionCapabilities()
        self._loads = False
        self._turns: dict[str, RejoinedTurn] = {}
        self.connection = connection
        self.handlers = Handlers().on(dialect.REPORT, self._updated).on(schema.SESSION_REQUEST_PERMISSION, self._asked)
        self.handlers.on(TURN_ENDED, self._turn_ended)
        if host.files is not None:
            files = _FilesV1(host.files)
            self.handlers.on(schema.FS_READ_TEXT_FILE, files.read).on(schema.FS_WRITE_TEXT_FILE, files.write)
        if host.terminals is not None:
            TerminalsV1(host.terminals).add_to(self.handlers)
        if host.elicit is not None:
            self.handlers.on(schema.ELICITATION_CREATE, self._elicited)
        if "auth_status" in host.unstable:
            self.handlers.on(schema.AUTH_STATUS_UPDATE, self._auth_changed)
        if host.mcp_servers:
            self.handlers.on(schema.MCP_MESSAGE, self._mcp_asked)

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[1]

    @property
    def takes_provided(self) -> bool:
        return bool(self._mcp.acp)

    @property
    def can_replay(self) -> bool:
        return self._loads

    # How it begins -------------------------------------------------------------------------------

    @staticmethod
    def capabilities(host: Host) -> dict[str, Json]:
        """What the host is capable of, in version 1's words."""
        has_files = host.files is not None
        return {
            "fs": {"readTextFile": has_files, "writeTextFile": has_files},
            "terminal": host.terminals is not None,
            "session": {"compaction": {}, "notices": {}, "configOptions": {"boolean": {}}},
            **({"elicitation": {"form": {}, "url": {}}} if host.elicit is not None else {}),
            **({"plan": {}} if "plans" in host.unstable else {}),
            **({"subagents": {}} if "subagents" in host.unstable else {}),
            **({"_meta": {CAPABILITY: True}} if host.agent_terminals else {}),
        }

    def accept(self, answer: Json) -> None:
        """Take the agent's answer to `initialize` and open what it advertised. Raises ValidationError."""
        said = schema.InitializeResponse.decode(answer)
        self._prompts, self._mcp = said.agent_capabilities.prompt_capabilities, said.agent_capabilities.mcp_capabilities
        self._sessions, self._loads = said.agent_capabilities.session_capabilities, said.agent_capabilities.load_session
        about = said.agent_info
        self.info = AgentInfo(
            version=said.protocol_version,
            name=about.name if about else "",
            title=(about.title or "") if about else "",
            release=about.version if about else "",
            capabilities=said.agent_capabilities.encode(),
            auth_methods=tuple(method.encode() for method in said.auth_methods),
        )
        self.drafts = self._drafts(said)
        self.connection.reopen(self.handlers, [*_calls(said), *self.drafts])

    async def login(self, method_id: str) -> None:
        kind = next((m.get("type", "agent") for m in self.info.auth_methods if m.get("id") == method_id), None)
        if kind != "agent":
            raise LocalProtocolError(f"the agent has no way to log in called {method_id!r} that it runs itself")
        await self.connection.call(schema.AUTHENTICATE, schema.AuthenticateRequest(method_id=method_id))

    async def logout(self) -> None:
        await self.connection.call(schema.LOGOUT, schema.LogoutRequest())

    # Sessions --------------------------------------------------------------------------------------

    async def new_session(self, place: Place) -> Opened:
        answer = await self.connection.call(schema.SESSION_NEW, schema.NewSessionRequest.decode(self._place(place)))
        return _opened(answer.session_id, answer)

    async def open_session(self, id: str, place: Place, *, replay: bool) -> Opened:
        params = {"sessionId": id, **self._place(place)}
        if replay:
            loaded = await self.connection.call(schema.SESSION_LOAD, schema.LoadSessionRequest.decode(params))
            return _opened(id, loaded)
        resumed = await self.connection.call(schema.SESSION_RESUME, schema.ResumeSessionRequest.decode(params))
        return _opened(id, resumed)

    async def rejoin(self, id: str, place: Place, prompt: str) -> tuple[Opened, PendingTurn | ConnectionClosed]:
        return await rejoin(self, self._turns, id, place, prompt)

    async def fork_session(self, id: str, place: Place) -> Opened:
        request = schema.ForkSessionRequest.decode({"sessionId": id, **self._place(place)})
        answer = await self.connection.call(schema.SESSION_FORK, request)
        return _opened(answer.session_id, answer)

    async def list_sessions(
        self, cwd: str | None, cursor: str | None, archived: str | None
    ) -> tuple[list[SessionCard], str | None]:
        words = {"cwd": cwd, "cursor": cursor, "archived": archived}
        given = {name: value for name, value in words.items() if value is not None}
        answer = await self.connection.call(schema.SESSION_LIST, schema.ListSessionsRequest.decode(given))
        return [_card(info) for info in answer.sessions], answer.next_cursor

    async def close_session(self, session_id: str) -> None:
        """Tell the agent that the session is over, if it wants to know; some advertise that and do not."""
        try:
            await self.connection.call(schema.SESSION_CLOSE, schema.CloseSessionRequest(session_id=session_id))
        except (LocalProtocolError, RequestError):
            return

    async def delete_session(self, session_id: str) -> None:
        await self.connection.call(schema.SESSION_DELETE, schema.DeleteSessionRequest(session_id=session_id))

    async def set_option(
        self, session_id: str, option_id: str, value: str | bool
    ) -> tuple[ConfigOption | OtherOption, ...]:
        kind = {"type": "boolean"} if isinstance(value, bool) else {}
        params = {"sessionId": session_id, "configId": option_id, "value": value, **kind}
        request = schema.SetSessionConfigOptionRequest.decode(params)
        answer = await self.connection.call(schema.SESSION_SET_CONFIG_OPTION, request)
        return tuple(hear_option(option.encode(), dialect.SPELLING) for option in answer.config_options)

    async def set_mode(self, session_id: str, mode: str) -> None:
        request = schema.SetSessionModeRequest(session_id=session_id, mode_id=mode)
        await self.connection.call(schema.SESSION_SET_MODE, request)

    def _place(self, place: Place) -> dict[str, Json]:
        for server in place.mcp_servers:
            kind = server.get("type", "stdio")
            if kind in ("http", "sse", "acp") and not getattr(self._mcp, kind, None):
                raise LocalProtocolError(f"the agent connects to no MCP servers of type {kind}")
        directories = place.directory_params(self._sessions.additional_directories)
        prompt = place.prompt_params(self._sessions.system_prompt, self._host.unstable)
        return {"cwd": place.cwd, "mcpServers": [dict(server) for server in place.mcp_servers], **directories, **prompt}

    def _drafts(self, said: schema.InitializeResponse) -> list[Method[Any, Any]]:
        """What the agent and the host both have of what may still change."""
        able, sessions = said.agent_capabilities, said.agent_capabilities.session_capabilities
        has: dict[Unstable, object] = {
            "fork": sessions.fork,
            "archive": sessions.archive,
            "status": sessions.status,
            "title": sessions.title,
            "auth_status": able.auth.status,
            "providers": able.providers,
        }
        return drafts(self.dialect, self._host, has)

    # Turns -----------------------------------------------------------------------------------------

    async def prompt(self, session_id: str, blocks: Sequence[Block], name: str | None = None) -> PendingTurnV1:
        """Begin a turn. Raises LocalProtocolError for content that the agent does not take."""
        for block in blocks:
            self._check(block)
        meta: dict[str, Any] = {} if name is None else {"meta": {PROMPT_META: name}}
        said = [dialect.encode_block(block) for block in blocks]
        request = schema.PromptRequest(session_id=session_id, prompt=said, **meta)
        return PendingTurnV1(await self.connection.ask(schema.SESSION_PROMPT, request))

    def _check(self, block: Block) -> None:
        """Content is limited to what the agent takes (v1 prompt turn)."""
        needs = _NEEDS.get(block.type) if isinstance(block, OtherBlock) else None
        if needs is not None and not getattr(self._prompts, needs):
            raise LocalProtocolError(f"the agent takes no {needs.replace('_', ' ')} in prompts")

    async def cancel(self, session_id: str) -> None:
        await self.connection.notify(schema.SESSION_CANCEL, schema.CancelNotification(session_id=session_id))

    async def cancel_call(self, session_id: str, call_id: str) -> None:
        raise LocalProtocolError("version 1 has no way to cancel one call; cancel the turn")

    async def cancel_terminal(self, session_id: str, terminal_id: str) -> None:
        raise LocalProtocolError("version 1 has no way to cancel a terminal; cancel the turn")

    # What we are asked ---------------------------------------------------------------------------

    async def _updated(self, report: dialect.ReportV1) -> None:
        terminals = terminals_of(report.update) if self._host.agent_terminals else ()
        if terminals and isinstance(report.update, ToolCall):  # which shows them
            for told in terminals:
                await self._owner.updated(report.session_id, told)
            terminals = ()
        await self._owner.updated(report.session_id, report.update)
        for told in terminals:
            await self._owner.updated(report.session_id, told)

    async def _turn_ended(self, params: Free) -> None:
        """A turn has ended whose request was made on a connection that is gone."""
        match params.root:
            case {"sessionId": str(id), **fate} if (turn := self._turns.pop(id, None)) is not None:
                turn.settle(fate)
            case _:
                pass

    async def _asked(self, request: schema.RequestPermissionRequest) -> schema.RequestPermissionResponse:
        """Put the question. A question that the agent withdraws is answered all the same, with `cancelled`."""
        call = dialect.decode_call_update(request.tool_call)
        options = tuple(Option(o.option_id, o.name, o.kind) for o in request.options)
        try:
            chosen = await self._owner.asked(request.session_id, Question(call, options))
        except anyio.get_cancelled_exc_class():
            chosen = None
        if chosen is None:
            return schema.RequestPermissionResponse(outcome=schema.CancelledRequestPermissionOutcome())
        outcome = schema.SelectedRequestPermissionOutcome(option_id=chosen)
        return schema.RequestPermissionResponse(outcome=outcome)

    async def _mcp_asked(self, request: schema.MessageMcpRequest) -> schema.MessageMcpResponse:
        async def tell(params: Mapping[str, Json]) -> None:
            said = schema.MessageMcpNotification.decode(params)
            await self.connection.notify(schema.MCP_MESSAGE_NOTIFICATION, said)

        return schema.MessageMcpResponse.decode(await self._owner.mcp_asked(request.encode(), tell))

    async def _auth_changed(self, notification: schema.AuthStatusUpdateNotification) -> None:
        await self._owner.auth_changed(notification.encode())

    async def _elicited(self, request: schema.CreateElicitationRequest) -> schema.CreateElicitationResponse:
        return schema.CreateElicitationResponse.decode(await self._owner.elicited(request.encode()))


class PendingTurnV1:
    """A turn of version 1: the answer to `session/prompt` ends it."""

    def __init__(self, pending: Pending[schema.PromptResponse]) -> None:
        self._pending = pending

    async def ended(self) -> Ending:
        answer = await self._pending.answer()
        return Ending(answer.stop_reason, _usage(answer.usage), answer.meta or {})


class _FilesV1:
    """The host's files behind `fs/read_text_file` and `fs/write_text_file`."""

    def __init__(self, files: Files) -> None:
        self._files = files

    async def read(self, request: schema.ReadTextFileRequest) -> schema.ReadTextFileResponse:
        try:
            text = await self._files.read_text(request.path, line=request.line, limit=request.limit)
        except FileNotFoundError as error:
            raise RequestError(ErrorCode.RESOURCE_NOT_FOUND, "File not found", {"path": request.path}) from error
        except (OSError, ValueError) as error:  # among the latter: not UTF-8, a NUL in the path
            raise RequestError.invalid_params(f"The file cannot be read: {error}") from error
        return schema.ReadTextFileResponse(content=text)

    async def write(self, request: schema.WriteTextFileRequest) -> schema.WriteTextFileResponse:
        try:
            await self._files.write_text(request.path, request.content)
        except (OSError, ValueError) as error:
            raise RequestError.invalid_params(f"The file cannot be written: {error}") from error
        return schema.WriteTextFileResponse()


def _calls(said: schema.InitializeResponse) -> list[Method[Any, Any]]:
    """What the agent lets us call: what every agent does, and what this one advertised."""
    able = said.agent_capabilities
    sessions, auth = able.session_capabilities, able.auth
    return [
        schema.SESSION_NEW,
        schema.SESSION_PROMPT,
        schema.SESSION_CANCEL,
        schema.SESSION_SET_MODE,
        schema.SESSION_SET_CONFIG_OPTION,
        *([schema.AUTHENTICATE] if said.auth_methods else []),
        *([schema.LOGOUT] if auth.logout is not None else []),
        *([schema.SESSION_LOAD] if able.load_session else []),
        *([schema.SESSION_RESUME] if sessions.resume is not None else []),
        *([schema.SESSION_LIST] if sessions.list is not None else []),
        *([schema.SESSION_CLOSE] if sessions.close is not None else []),
        *([schema.SESSION_DELETE] if sessions.delete is not None else []),
        *([schema.MCP_MESSAGE_NOTIFICATION] if able.mcp_capabilities.acp else []),
    ]


def _opened(
    id: str,
    answer: schema.NewSessionResponse
    | schema.LoadSessionResponse
    | schema.ResumeSessionResponse
    | schema.ForkSessionResponse,
) -> Opened:
    modes = answer.modes
    return Opened(
        id,
        tuple(hear_option(option.encode(), dialect.SPELLING) for option in answer.config_options or ()),
        mode=modes.current_mode_id if modes else None,
        modes=tuple(Choice(m.id, m.name, m.description) for m in modes.available_modes) if modes else (),
        meta=answer.meta or {},
    )


def _card(info: schema.SessionInfo) -> SessionCard:
    spoken = ("sessionId", "cwd", "title", "updatedAt", "additionalDirectories", "archived")
    extra = {name: value for name, value in info.encode().items() if name not in spoken}
    directories = tuple(info.additional_directories)
    return SessionCard(info.session_id, info.cwd, info.title, info.updated_at, directories, info.archived, extra)


def _usage(usage: schema.Usage | None) -> Usage | None:
    if usage is None:
        return None
    return Usage(
        total=usage.total_tokens,
        input=usage.input_tokens,
        output=usage.output_tokens,
        thought=usage.thought_tokens,
        cached=usage.cached_read_tokens,
    )
