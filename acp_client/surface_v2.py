"""ACP version 2, the client's side.

In v2 the answer to `session/prompt` says that the prompt was inserted; the turn's end is the state idle, which comes
as an update. A turn has ended when its prompt was inserted, work was seen to begin, and an idle state says why it
stopped: an idle that says nothing, or one from before, ends nothing (v2 prompt lifecycle).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import anyio

from acp.connection import Connection, Handlers, Pending
from acp.dialect import DIALECTS, Dialect
from acp.errors import ConnectionClosed, ErrorCode, LocalProtocolError, RequestError
from acp.methods import Method
from acp.pieces import say_block
from acp.plain import hear_option
from acp.unstable import Unstable
from acp.updates import (
    Block,
    Commands,
    ConfigOption,
    Json,
    OtherBlock,
    OtherOption,
    ToolCallUpdate,
    TurnEnded,
    TurnStarted,
)
from acp.v2 import dialect, schema
from acp.v2.hearing import hear_call

from .host.host import Host, Option
from .rejoined import PROMPT_META, RejoinedTurn, rejoin
from .surface import AgentInfo, Ending, Opened, Owner, PendingTurn, Place, Question, SessionCard, Usage, drafts

_NEEDS = {"image": "image", "audio": "audio", "resource": "embedded_context"}
"""The prompt capability that a content block needs; text and resource links need none."""


class SurfaceV2:
    """One conversation with an agent that speaks version 2."""

    info: AgentInfo

    def __init__(self, host: Host, owner: Owner, connection: Connection) -> None:
        self._host = host
        self._owner = owner
        self.drafts: list[Method[Any, Any]] = []
        self._able = schema.SessionCapabilities()
        self._turns: dict[str, PendingTurnV2 | RejoinedTurn] = {}
        self.connection = connection
        self.handlers = Handlers().on(dialect.REPORT, self._updated).on(schema.SESSION_REQUEST_PERMISSION, self._asked)
        if host.elicit is not None:
            self.handlers.on(schema.ELICITATION_CREATE, self._elicited)
        if "auth_status" in host.unstable:
            self.handlers.on(schema.AUTH_STATUS_UPDATE, self._auth_changed)
        if host.mcp_servers:
            self.handlers.on(schema.MCP_MESSAGE, self._mcp_asked)

    @property
    def dialect(self) -> Dialect:
        return DIALECTS[2]

    @property
    def takes_provided(self) -> bool:
        return self._able.mcp is not None and self._able.mcp.acp is not None

    @property
    def can_replay(self) -> bool:
        return True

    # How it begins -------------------------------------------------------------------------------

    @staticmethod
    def capabilities(host: Host) -> dict[str, Json]:
        """What the host is capable of, in version 2's words."""
        return {"elicitation": {"form": {}, "url": {}}} if host.elicit is not None else {}

    def accept(self, answer: Json) -> None:
        """Take the agent's answer to `initialize` and open what it advertised. Raises ValidationError."""
        said = schema.InitializeResponse.decode(answer)
        self._able = said.capabilities.session or schema.SessionCapabilities()
        self.info = AgentInfo(
            version=said.protocol_version,
            name=said.info.name,
            title=said.info.title or "",
            release=said.info.version,
            capabilities=said.capabilities.encode(),
            auth_methods=tuple(method.encode() for method in said.auth_methods),
        )
        self.drafts = self._drafts(said)
        self.connection.reopen(self.handlers, [*_calls(said), *self.drafts])

    async def login(self, method_id: str) -> None:
        kind = next((m.get("type") for m in self.info.auth_methods if m.get("methodId") == method_id), None)
        if kind != "agent":
            raise LocalProtocolError(f"the agent has no way to log in called {method_id!r} that it runs itself")
        await self.connection.call(schema.AUTH_LOGIN, schema.LoginAuthRequest(method_id=method_id))

    async def logout(self) -> None:
        await self.connection.call(schema.AUTH_LOGOUT, schema.LogoutAuthRequest())

    # Sessions --------------------------------------------------------------------------------------

    async def new_session(self, place: Place) -> Opened:
        answer = await self.connection.call(schema.SESSION_NEW, schema.NewSessionRequest.decode(self._place(place)))
        return _opened(answer.session_id, answer)

    async def open_session(self, id: str, place: Place, *, replay: bool) -> Opened:
        start = {"replayFrom": {"type": "start"}} if replay else {}
        request = schema.ResumeSessionRequest.decode({"sessionId": id, **self._place(place), **start})
        return _opened(id, await self.connection.call(schema.SESSION_RESUME, request))

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
        """Close the session; one that the agent does not know is closed already (v2 session/close)."""
        try:
            await self.connection.call(schema.SESSION_CLOSE, schema.CloseSessionRequest(session_id=session_id))
        except RequestError as error:
            if error.code not in (ErrorCode.RESOURCE_NOT_FOUND, ErrorCode.METHOD_NOT_FOUND):
                raise

    async def delete_session(self, session_id: str) -> None:
        await self.connection.call(schema.SESSION_DELETE, schema.DeleteSessionRequest(session_id=session_id))

    async def set_option(
        self, session_id: str, option_id: str, value: str | bool
    ) -> tuple[ConfigOption | OtherOption, ...]:
        kind = "boolean" if isinstance(value, bool) else "id"
        params = {"sessionId": session_id, "configId": option_id, "type": kind, "value": value}
        request = schema.SetSessionConfigOptionRequest.decode(params)
        answer = await self.connection.call(schema.SESSION_SET_CONFIG_OPTION, request)
        return tuple(hear_option(option.encode(), dialect.SPELLING) for option in answer.config_options)

    async def set_mode(self, session_id: str, mode: str) -> None:
        raise LocalProtocolError("version 2 has no modes; set the option of category mode")

    def _place(self, place: Place) -> dict[str, Json]:
        for server in place.mcp_servers:
            kind = str(server.get("type", ""))
            if getattr(self._able.mcp, kind, None) is None:
                raise LocalProtocolError(f"the agent connects to no MCP servers of type {kind}")
        servers = {"mcpServers": [dict(server) for server in place.mcp_servers]} if place.mcp_servers else {}
        directories = place.directory_params(self._able.additional_directories)
        prompt = place.prompt_params(self._able.system_prompt, self._host.unstable)
        return {"cwd": place.cwd, **servers, **directories, **prompt}

    def _drafts(self, said: schema.InitializeResponse) -> list[Method[Any, Any]]:
        """What the agent and the host both have of what may still change."""
        able, auth = self._able, said.capabilities.auth
        has: dict[Unstable, object] = {
            "fork": able.fork,
            "archive": able.archive,
            "status": able.status,
            "title": able.title,
            "auth_status": auth.status if auth is not None else None,
            "providers": said.capabilities.providers,
        }
        return drafts(self.dialect, self._host, has)

    # Turns -----------------------------------------------------------------------------------------

    async def prompt(self, session_id: str, blocks: Sequence[Block], name: str | None = None) -> PendingTurnV2:
        """Begin a turn. Raises LocalProtocolError for content that the agent does not take."""
        for block in blocks:
            self._check(block)
        meta = {} if name is None else {"_meta": {PROMPT_META: name}}
        said = {"sessionId": session_id, "prompt": [say_block(b) for b in blocks], **meta}
        request = schema.PromptRequest.decode(said)
        turn = self._turns[session_id] = PendingTurnV2(self.connection)
        turn.inserted = await self.connection.ask(schema.SESSION_PROMPT, request)
        return turn

    def _check(self, block: Block) -> None:
        """Content is limited to what the agent takes (v2 prompt lifecycle)."""
        needs = _NEEDS.get(block.type) if isinstance(block, OtherBlock) else None
        if needs is not None and getattr(self._able.prompt, needs, None) is None:
            raise LocalProtocolError(f"the agent takes no {needs.replace('_', ' ')} in prompts")

    async def cancel(self, session_id: str) -> None:
        await self.connection.notify(schema.SESSION_CANCEL, schema.CancelSessionNotification(session_id=session_id))

    async def cancel_call(self, session_id: str, call_id: str) -> None:
        request = schema.CancelToolCallRequest(session_id=session_id, tool_call_id=call_id)
        await self.connection.call(schema.TOOL_CALL_CANCEL, request)

    async def cancel_terminal(self, session_id: str, terminal_id: str) -> None:
        request = schema.CancelTerminalRequest(session_id=session_id, terminal_id=terminal_id)
        await self.connection.call(schema.TERMINAL_CANCEL, request)

    # What we are asked ---------------------------------------------------------------------------

    async def _updated(self, report: dialect.ReportV2) -> None:
        update = report.update
        await self._owner.updated(report.session_id, update)
        turn = self._turns.get(report.session_id)
        if turn is not None and isinstance(update, TurnStarted):
            turn.running = True
        elif turn is not None and isinstance(update, TurnEnded) and turn.take(update):
            del self._turns[report.session_id]

    async def _asked(self, request: schema.RequestPermissionRequest) -> schema.RequestPermissionResponse:
        """Put the question. A question that the agent withdraws is answered all the same, with `cancelled`."""
        options = tuple(Option(o.option_id, o.name, o.kind) for o in request.options)
        subject = request.subject.encode() if request.subject is not None else {}
        question = Question(_subject(subject, request.title), options, request.title, request.description)
        try:
            chosen = await self._owner.asked(request.session_id, question)
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


class PendingTurnV2:
    """A turn of version 2: an idle state ends it, after the prompt was inserted and work began."""

    inserted: Pending[schema.PromptResponse]

    def __init__(self, connection: Connection) -> None:
        self.running = False
        self._connection = connection
        self._ending: Ending | None = None
        self._ended = anyio.Event()

    def take(self, update: TurnEnded) -> bool:
        """Whether this idle state is the turn's end."""
        if not self.running or update.stop_reason is None:
            return False
        usage = update.extra.get("usage")
        cost = _usage(schema.Usage.decode(usage)) if isinstance(usage, dict) else None
        error = {"error": update.extra["error"]} if "error" in update.extra else {}
        self._ending = Ending(update.stop_reason, cost, {**update.meta, **error})
        self._ended.set()
        return True

    async def ended(self) -> Ending:
        await self.inserted.answer()
        async with anyio.create_task_group() as group:
            group.start_soon(self._watch)
            await self._ended.wait()
            group.cancel_scope.cancel()
        if self._ending is None:
            raise ConnectionClosed(self._connection.reason or "closed")
        if self._ending.stop_reason == "error":
            raise _failure(self._ending.meta.get("error"))
        return self._ending

    async def _watch(self) -> None:
        """When the agent is gone no state will come any more."""
        await self._connection.wait_closed()
        self._ended.set()


def _failure(error: Json) -> RequestError:
    """The error that ended a turn, as version 1 would have answered it."""
    match error:
        case {"code": int(code), "message": str(message), **rest}:
            return RequestError(code, message, rest.get("data"))
        case _:
            return RequestError(ErrorCode.INTERNAL_ERROR, "The turn ended with an error")


def _subject(subject: Mapping[str, Json], title: str) -> ToolCallUpdate:
    """The call that a permission is about; of a bare command, one that is made of it."""
    match subject:
        case {"type": "tool_call", "toolCall": call}:
            return hear_call(call)
        case {"type": "command", "command": str(command), **rest}:
            shown = {"command": command, "cwd": rest.get("cwd")}
            return ToolCallUpdate(str(rest.get("toolCallId") or ""), title, "execute", raw_input=shown)
        case _:
            return ToolCallUpdate("", title, extra=subject)


def _calls(said: schema.InitializeResponse) -> list[Method[Any, Any]]:
    """What the agent lets us call: what every agent with sessions does, and what this one advertised."""
    able = said.capabilities.session
    auth: list[Method[Any, Any]] = [schema.AUTH_LOGIN, schema.AUTH_LOGOUT] if said.auth_methods else []
    if able is None:
        return auth
    return [
        *auth,
        schema.SESSION_NEW,
        schema.SESSION_RESUME,
        schema.SESSION_LIST,
        schema.SESSION_CLOSE,
        schema.SESSION_PROMPT,
        schema.SESSION_CANCEL,
        schema.SESSION_SET_CONFIG_OPTION,
        schema.TOOL_CALL_CANCEL,
        schema.TERMINAL_CANCEL,
        *([schema.SESSION_DELETE] if able.delete is not None else []),
        *([schema.MCP_MESSAGE_NOTIFICATION] if able.mcp is not None and able.mcp.acp is not None else []),
    ]


def _opened(
    id: str, answer: schema.NewSessionResponse | schema.ResumeSessionResponse | schema.ForkSessionResponse
) -> Opened:
    options = tuple(hear_option(option.encode(), dialect.SPELLING) for option in answer.config_options)
    offered = [command.encode() for command in answer.available_commands]
    body = schema.AvailableCommandsUpdateSessionUpdate.decode({"availableCommands": offered})
    heard = dialect.decode(body)
    return Opened(id, options, heard.commands if isinstance(heard, Commands) else (), meta=answer.meta or {})


def _card(info: schema.SessionInfo) -> SessionCard:
    spoken = ("sessionId", "cwd", "title", "updatedAt", "additionalDirectories", "archived")
    extra = {name: value for name, value in info.encode().items() if name not in spoken}
    directories = tuple(info.additional_directories)
    return SessionCard(info.session_id, info.cwd, info.title, info.updated_at, directories, info.archived, extra)


def _usage(usage: schema.Usage) -> Usage:
    return Usage(
        total=usage.total_tokens,
        input=usage.input_tokens,
        output=usage.output_tokens,
        thought=usage.thought_tokens,
        cached=usage.cached_read_tokens,
    )
