"""ACP version 1, the client's side.

In v1 the turn *is* the request `session/prompt`: its response comes after the last update, usually; updates that
come later are the session's, not the turn's.
"""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from acp.connection import Connection, Handlers, Pending
from acp.dialect import DIALECTS, V1, Dialect, agreed
from acp.errors import ErrorCode, LocalProtocolError, NegotiationError, RequestError
from acp.updates import Block, OtherBlock
from acp.v1 import dialect, schema

from .host import Files, Host, Option
from .surface import AgentInfo, Ending, Owner, Usage

NAME = "acp-laguna-client"

_NEEDS = {"image": "image", "audio": "audio", "resource": "embedded_context"}
"""The prompt capability that a content block needs; text and resource links need none."""


class SurfaceV1:
    """One conversation with an agent that speaks version 1. `connection` must be set before anything is called."""

    connection: Connection
    info: AgentInfo

    def __init__(self, host: Host, owner: Owner) -> None:
        self._host = host
        self._owner = owner
        self._prompts = schema.PromptCapabilities()
        self.handlers = (
            Handlers().on(schema.SESSION_UPDATE, self._updated).on(schema.SESSION_REQUEST_PERMISSION, self._asked)
        )
        if host.files is not None:
            files = _FilesV1(host.files)
            self.handlers.on(schema.FS_READ_TEXT_FILE, files.read).on(schema.FS_WRITE_TEXT_FILE, files.write)

    first_calls = (schema.INITIALIZE,)
    """What may be called before the agent has answered `initialize`."""

    @property
    def dialect(self) -> Dialect:
        return V1

    # What we ask ---------------------------------------------------------------------------------

    async def initialize(self, release: str) -> AgentInfo:
        """Offer the latest version we speak and judge the agent's answer. Raises NegotiationError."""
        has_files = self._host.files is not None
        request = schema.InitializeRequest(
            protocol_version=max(DIALECTS),
            client_capabilities=schema.ClientCapabilities(
                fs=schema.FileSystemCapabilities(read_text_file=has_files, write_text_file=has_files),
                terminal=False,
            ),
            client_info=schema.Implementation(name=NAME, version=release),
        )
        try:
            answer = await self.connection.call(schema.INITIALIZE, request)
        except RequestError as error:
            if error.code == ErrorCode.UNSUPPORTED_PROTOCOL_VERSION:
                raise NegotiationError(
                    f"the agent refuses our protocol version: {error.message} {error.data}"
                ) from error
            raise
        agreed(answer.protocol_version)
        self._open(answer.agent_capabilities)
        about = answer.agent_info
        self.info = AgentInfo(
            version=answer.protocol_version,
            name=about.name if about else "",
            title=(about.title or "") if about else "",
            release=about.version if about else "",
            capabilities=answer.agent_capabilities.encode(),
            auth_methods=tuple(method.encode() for method in answer.auth_methods),
        )
        return self.info

    def _open(self, capabilities: schema.AgentCapabilities) -> None:
        self._prompts = capabilities.prompt_capabilities
        self.connection.open(Handlers(), (schema.SESSION_NEW, schema.SESSION_PROMPT, schema.SESSION_CANCEL))
        if capabilities.session_capabilities.close is not None:
            self.connection.open(Handlers(), (schema.SESSION_CLOSE,))

    async def new_session(self, cwd: str, *, directories: Sequence[str] = ()) -> str:
        request = schema.NewSessionRequest(cwd=cwd, mcp_servers=[])
        if directories:
            request = schema.NewSessionRequest(cwd=cwd, mcp_servers=[], additional_directories=list(directories))
        return (await self.connection.call(schema.SESSION_NEW, request)).session_id

    async def prompt(self, session_id: str, blocks: Sequence[Block]) -> PendingTurnV1:
        """Begin a turn. Raises LocalProtocolError for content that the agent does not take."""
        for block in blocks:
            self._check(block)
        request = schema.PromptRequest(session_id=session_id, prompt=[dialect.encode_block(b) for b in blocks])
        return PendingTurnV1(await self.connection.ask(schema.SESSION_PROMPT, request))

    def _check(self, block: Block) -> None:
        """Content is limited to what the agent takes (v1 prompt turn)."""
        needs = _NEEDS.get(block.type) if isinstance(block, OtherBlock) else None
        if needs is not None and not getattr(self._prompts, needs):
            raise LocalProtocolError(f"the agent takes no {needs.replace('_', ' ')} in prompts")

    async def cancel(self, session_id: str) -> None:
        await self.connection.notify(schema.SESSION_CANCEL, schema.CancelNotification(session_id=session_id))

    async def close_session(self, session_id: str) -> None:
        """Tell the agent that the session is over, if it wants to know; some advertise that and do not."""
        try:
            await self.connection.call(schema.SESSION_CLOSE, schema.CloseSessionRequest(session_id=session_id))
        except (LocalProtocolError, RequestError):
            return

    # What we are asked ---------------------------------------------------------------------------

    async def _updated(self, notification: schema.SessionNotification) -> None:
        await self._owner.updated(notification.session_id, dialect.decode(notification.update))

    async def _asked(self, request: schema.RequestPermissionRequest) -> schema.RequestPermissionResponse:
        """Put the question. A question that the agent withdraws is answered all the same, with `cancelled`."""
        call = dialect.decode_call_update(request.tool_call)
        options = tuple(Option(o.option_id, o.name, o.kind) for o in request.options)
        try:
            chosen = await self._owner.asked(request.session_id, call, options)
        except anyio.get_cancelled_exc_class():
            chosen = None
        if chosen is None:
            return schema.RequestPermissionResponse(outcome=schema.CancelledRequestPermissionOutcome())
        outcome = schema.SelectedRequestPermissionOutcome(option_id=chosen)
        return schema.RequestPermissionResponse(outcome=outcome)


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
